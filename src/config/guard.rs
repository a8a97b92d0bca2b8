//! `guard`: how much may be withdrawn at once.

use super::error::{Finding, Place};
use super::raw;
use super::values::duration;
use crate::advertise::Limits;
use serde_saphyr::Spanned;

/// How long a step may be held, in seconds.
const HOLD: std::ops::RangeInclusive<u64> = 1..=86_400;

pub fn resolve(raw: Option<&raw::Guard>, out: &mut Vec<Finding>) -> Limits {
    let default = Limits::default();
    let Some(raw) = raw else { return default };
    let hold = raw.hold.as_ref().and_then(|value| duration("hold", value, HOLD, out)).unwrap_or(default.hold);
    let share = raw.max_withdraw.as_ref().and_then(|value| per_cent(value, out)).unwrap_or(default.max_withdraw);
    let confirmed = raw.confirm.as_ref().map(|value| value.value.as_str().into());
    Limits { hold, max_withdraw: share, confirmed }
}

fn per_cent(value: &Spanned<String>, out: &mut Vec<Finding>) -> Option<u8> {
    let number = value.value.strip_suffix('%').and_then(|number| number.parse().ok());
    let share = number.filter(|share: &u8| *share <= 100);
    if share.is_none() {
        let title = format!("'maxWithdraw' cannot be {:?}", value.value);
        let help = "write a share from 0% to 100%; 100% is no limit";
        out.push(Finding::error(Place::of(value), title).help(help));
    }
    share
}

#[cfg(test)]
mod tests {
    use crate::config::Config;

    fn read(text: &str) -> Result<Config, String> {
        Config::parse("t.yaml", &format!("asn: 64512\n{text}"))
            .map(|(config, _)| config)
            .map_err(|found| format!("{found:?}"))
    }

    #[test]
    fn shares_and_times_are_read_and_a_wrong_one_is_refused() {
        let limits = read("guard: {hold: 2m, maxWithdraw: 50%, confirm: \"0a\"}").unwrap().guard;
        assert_eq!((limits.hold.as_secs(), limits.max_withdraw, limits.confirmed.as_deref()), (120, 50, Some("0a")));
        let limits = read("").unwrap().guard;
        assert_eq!((limits.hold.as_secs(), limits.max_withdraw, limits.confirmed), (60, 25, None));
        for wrong in ["101%", "25", "-1%", "a%"] {
            assert!(read(&format!("guard: {{maxWithdraw: \"{wrong}\"}}")).is_err(), "{wrong}");
        }
        assert!(read("guard: {hold: 0s}").is_err());
    }

    #[test]
    fn the_fingerprint_is_of_everything_but_the_guard() {
        let plain = read("").unwrap().fingerprint();
        assert_eq!(read("guard: {confirm: \"0a\"}").unwrap().fingerprint(), plain);
        assert_ne!(read("pools: [{name: a, addresses: [198.51.100.0/24]}]").unwrap().fingerprint(), plain);
    }
}
