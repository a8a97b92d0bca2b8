//! What comes of what a peer sends: its routes are counted and discarded, and what is malformed is counted by its cause and
//! remembered with the octets, so that its sender can be helped (RFC 7606 §6).

use super::status::{Consequence, Incident, Status};
use crate::wire::{Error, Update, Verdict};
use std::fmt::{Display, Write as _};
use std::time::{Duration, Instant};

/// Incidents remembered in the status.
const INCIDENTS_KEPT: usize = 8;
/// Incidents that are spelled out in one [`WINDOW`]; others are only counted, so that no peer can fill a disk.
const SPELLED_OUT: u32 = 8;
const WINDOW: Duration = Duration::from_secs(10);
/// Octets of a message, and of one attribute, that an incident shows.
const OCTETS_SHOWN: usize = 256;
/// Prefixes, and faults, that an incident names.
const NAMED: usize = 8;
/// The cause of routes that are ignored for their next hop (RFC 4271 §6.3).
const NEXT_HOP: &str = "next-hop";

/// How much was spelled out lately.
#[derive(Debug, Clone)]
pub(super) struct Intake {
    window: Instant,
    spelled_out: u32,
}

impl Intake {
    pub(super) fn new(now: Instant) -> Self {
        Self { window: now, spelled_out: 0 }
    }

    /// An UPDATE that could be read; `octets` is the whole message. Nothing of it is kept but numbers.
    pub(super) fn update(&mut self, update: &Update, octets: &[u8], status: &mut Status, now: Instant) {
        status.discarded += update.offered().count() as u64;
        status.faults += update.faults.len() as u64;
        for fault in &update.faults {
            count(status, fault.reason.cause(), fault.verdict.into());
        }
        let astray: Vec<_> = update.astray().collect();
        if !astray.is_empty() {
            count(status, NEXT_HOP, Consequence::RoutesIgnored);
        }
        let consequence =
            update.verdict().map(Consequence::from).or((!astray.is_empty()).then_some(Consequence::RoutesIgnored));
        let Some(consequence) = consequence else { return };
        self.remember(status, now, |number| {
            let faults = update.faults.iter().map(|fault| match fault.octets.is_empty() {
                true => fault.to_string(),
                false => format!("{fault}, as {}", dump(&fault.octets)),
            });
            let next_hops =
                astray.iter().map(|(prefix, hop)| format!("{prefix} has the next hop {hop}, which no host has"));
            // What is treated as withdrawn was offered.
            let gone = update.gone().filter(|_| consequence != Consequence::TreatAsWithdraw);
            Incident {
                number,
                consequence,
                what: listed(faults.chain(next_hops), "; "),
                nlri: listed(update.offered().chain(gone), ", "),
                octets: dump(octets),
            }
        });
    }

    /// Octets that are no acceptable message; the session ends.
    pub(super) fn error(&mut self, error: &Error, octets: &[u8], status: &mut Status, now: Instant) {
        count(status, error.cause(), Consequence::SessionReset);
        self.remember(status, now, |number| Incident {
            number,
            consequence: Consequence::SessionReset,
            what: error.to_string(),
            nlri: String::new(),
            octets: dump(octets),
        });
    }

    fn remember(&mut self, status: &mut Status, now: Instant, incident: impl FnOnce(u64) -> Incident) {
        status.incident_count += 1;
        if now.duration_since(self.window) >= WINDOW {
            (self.window, self.spelled_out) = (now, 0);
        }
        if self.spelled_out == SPELLED_OUT {
            return;
        }
        self.spelled_out += 1;
        if status.incidents.len() == INCIDENTS_KEPT {
            status.incidents.remove(0);
        }
        status.incidents.push(incident(status.incident_count));
    }
}

fn count(status: &mut Status, cause: &'static str, consequence: Consequence) {
    *status.malformed.entry((cause, consequence)).or_default() += 1;
}

/// The first few of a list, and how many more there are.
fn listed(items: impl Iterator<Item = impl Display>, between: &str) -> String {
    let mut text = String::new();
    let mut more = 0;
    for (at, item) in items.enumerate() {
        match at {
            0 => text = item.to_string(),
            1..NAMED => text += &format!("{between}{item}"),
            NAMED.. => more += 1,
        }
    }
    if more > 0 {
        text += &format!("{between}and {more} more");
    }
    text
}

/// Octets in hexadecimal, the first few if there are many.
fn dump(octets: &[u8]) -> String {
    let mut text = String::with_capacity(2 * octets.len().min(OCTETS_SHOWN) + 32);
    for octet in octets.iter().take(OCTETS_SHOWN) {
        write!(text, "{octet:02x}").expect("writing into a string cannot fail");
    }
    if octets.len() > OCTETS_SHOWN {
        text += &format!("… of {} octets", octets.len());
    }
    text
}

impl From<Verdict> for Consequence {
    fn from(verdict: Verdict) -> Self {
        match verdict {
            Verdict::AttributeDiscard => Consequence::AttributeDiscard,
            Verdict::TreatAsWithdraw => Consequence::TreatAsWithdraw,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::peer::settings::{Identity, Neighbor, RestartState, Settings};
    use crate::wire::{Asn, RouterId};

    fn status(now: Instant) -> Status {
        let settings = Settings {
            identity: Identity { asn: Asn(1), router_id: RouterId::new([10, 0, 0, 1].into()).unwrap() },
            neighbor: Neighbor::new("r".into(), [192, 0, 2, 1].into(), Asn(2)),
            restart_state: RestartState::default(),
        };
        Status::at_rest(&settings, now)
    }

    #[test]
    fn much_is_shortened_and_little_is_not() {
        assert_eq!(dump(&[0, 0xab]), "00ab");
        assert_eq!(dump(&[0; OCTETS_SHOWN]).len(), 2 * OCTETS_SHOWN);
        assert!(dump(&[0; 4096]).ends_with("00… of 4096 octets"));
        assert_eq!(listed((0..3).map(|n| n.to_string()), ", "), "0, 1, 2");
        assert_eq!(listed(0..10, ", "), "0, 1, 2, 3, 4, 5, 6, 7, and 2 more");
        assert_eq!(listed(std::iter::empty::<u8>(), ", "), "");
    }

    #[test]
    fn of_a_flood_the_first_are_spelled_out_and_all_are_counted() {
        let now = Instant::now();
        let (mut intake, mut status) = (Intake::new(now), status(now));
        let mut error = |status: &mut Status, at| intake.error(&Error::Type { kind: 9 }, &[9; 19], status, at);
        (0..1000).for_each(|_| error(&mut status, now));
        let numbers = |status: &Status| status.incidents.iter().map(|incident| incident.number).collect::<Vec<_>>();
        assert_eq!(numbers(&status), [1, 2, 3, 4, 5, 6, 7, 8]);
        error(&mut status, now + WINDOW);
        assert_eq!(numbers(&status), [2, 3, 4, 5, 6, 7, 8, 1001]);
        assert_eq!(status.malformed, [(("header-type", Consequence::SessionReset), 1001)].into());
    }
}
