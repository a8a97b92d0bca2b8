//! What changed between two statuses of a peer, as log lines: sessions up and down with their reason, NOTIFICATIONs spelled out.

use crate::peer::status::{EndOfRib, Incident};
use crate::peer::{Limit, Phase, Room, Status};
use crate::wire::Family;
use tracing::{debug, info, warn};

/// Logs what is new. A failure that repeats itself is logged once; its repetitions are for `debug`.
pub fn report(before: &Status, after: &Status) {
    for notification in news(&before.notifications, &after.notifications) {
        warn!(peer = %after.name, address = %after.address, "NOTIFICATION {notification}");
    }
    incidents(before, after);
    for barred in after.barred.iter().filter(|barred| !before.barred.contains(barred)) {
        warn!(peer = %after.name, "this route never leaves: {barred}");
    }
    let was_up = matches!(before.phase, Phase::Established { .. });
    if before.last_down != after.last_down
        && let Some((_, reason)) = &after.last_down
    {
        let repeated = before.last_down.as_ref().is_some_and(|(_, before)| before == reason);
        if was_up {
            warn!(peer = %after.name, address = %after.address, reason, "session down");
        } else if repeated {
            debug!(peer = %after.name, address = %after.address, reason, "no session, again");
        } else {
            warn!(peer = %after.name, address = %after.address, reason, "no session");
        }
    }
    phase(before, after);
    for (family, limit) in &after.limits {
        let before = before.limits.get(family).map_or(Room::Ample, |before| before.room);
        if limit.room != before {
            room(after, *family, limit);
        }
    }
}

/// A peer's limit came nearer, or went further away.
fn room(status: &Status, family: Family, Limit { accepts, most, held_back, room }: &Limit) {
    let (peer, announced) = (&status.name, status.advertised.get(&family).copied().unwrap_or(0));
    match room {
        Room::Ample => {
            info!(%peer, %family, announced, accepts, "less than 75 % of what the peer accepts is announced")
        }
        Room::Scarce => warn!(%peer, %family, announced, accepts, most,
            "75 % of what the peer accepts is announced, and at 90 % nothing more is: raise the limit on the router and \
             'prefixLimit' here"),
        Room::Full => {
            let first = held_back.get_min().map(ToString::to_string).unwrap_or_default();
            warn!(%peer, %family, announced, accepts, most, held_back = held_back.len(), first,
                "routes are held back: the peer would end the session at its prefix limit; raise it on the router and \
                 'prefixLimit' here");
        }
    }
}

/// What was malformed. Where there was too much of it to spell out, the next line says how much was only counted.
fn incidents(before: &Status, after: &Status) {
    let mut told = before.incidents.last().map_or(0, |incident| incident.number);
    for incident in &after.incidents {
        if incident.number <= told {
            continue;
        }
        let Incident { number, consequence, what, nlri, octets } = incident;
        let only_counted = number - told - 1;
        warn!(peer = %after.name, address = %after.address, consequence = consequence.name(), nlri, octets, only_counted,
            "the peer sent something malformed: {what}");
        told = *number;
    }
}

fn phase(before: &Status, after: &Status) {
    let Phase::Established { local, router_id, hold_time, families, end_of_rib, .. } = &after.phase else {
        if before.phase.name() != after.phase.name() {
            debug!(peer = %after.name, from = before.phase.name(), to = after.phase.name(), "state");
        }
        return;
    };
    if after.established_count != before.established_count {
        let families: Vec<_> = families.iter().map(ToString::to_string).collect();
        info!(peer = %after.name, address = %after.address, asn = %after.asn, %local, %router_id,
            hold_time = hold_time.as_secs(), families = families.join(","), "session up");
        for (family, why) in &after.unannounced {
            // Most clusters have one family; who wants the other reads this, and the status says it all the time.
            info!(peer = %after.name, %family, "nothing of this family can be announced: {why}");
        }
    }
    let sent_before = matches!(&before.phase, Phase::Established { end_of_rib: EndOfRib::Sent(_), .. });
    if matches!(end_of_rib, EndOfRib::Sent(_)) && !sent_before {
        info!(peer = %after.name, routes = after.advertised.values().sum::<usize>(), "first table sent, End-of-RIB");
    }
}

/// The entries of `after` that `before` did not have; both keep only the newest few, newest last.
fn news<'a>(before: &[String], after: &'a [String]) -> &'a [String] {
    let overlap = (0..=before.len().min(after.len()))
        .rev()
        .find(|kept| before[before.len() - kept..] == after[..*kept])
        .expect("an overlap of nothing always matches");
    &after[overlap..]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(of: &[&str]) -> Vec<String> {
        of.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn only_new_notifications_are_told_also_when_old_ones_were_dropped() {
        assert_eq!(news(&texts(&[]), &texts(&["a"])), texts(&["a"]));
        assert_eq!(news(&texts(&["a"]), &texts(&["a"])), texts(&[]));
        assert_eq!(news(&texts(&["a", "b"]), &texts(&["b", "c"])), texts(&["c"]));
        assert_eq!(news(&texts(&["a", "b"]), &texts(&["x", "y"])), texts(&["x", "y"]));
    }
}
