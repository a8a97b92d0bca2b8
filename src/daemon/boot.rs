//! Whether the node has booted since the last process: what the F bit of graceful restart asks (RFC 4724 §3). Over a boot the
//! data path forgot its services, and a router that kept our routes must be told so.

use super::state_folder::{File, Previous, Record, Writer};
use crate::peer::settings::RestartState;
use std::fs;
use std::time::Duration;
use tracing::{info, warn};

const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";
const UPTIME: &str = "/proc/uptime";
const FILE: File = File {
    name: "boot",
    heading: "herald boot 1",
    cost: "the next process does not know that this one ran under the same boot, and may have routers drop its routes",
};

/// Without a folder the uptime answers: after this long no router still keeps routes from before the boot. The longest
/// restart time (4095 s), and a hold time before it began.
const FORGOTTEN: Duration = Duration::from_secs(4095 + 240);

/// How a new process stands towards every router; the folder then says that it ran under this boot.
pub fn restart_state(previous: &mut Previous, writer: &Writer) -> RestartState {
    let boot = match id() {
        Ok(boot) => boot,
        Err(error) => {
            warn!("cannot read {BOOT_ID}: {error}; routers are told that the data path is new");
            return RestartState::RestartingAfterBoot;
        }
    };
    let last = previous.read(&FILE);
    if let Record::Torn(why) = &last {
        warn!("{} is not used: {why}; it is written anew", previous.place(&FILE));
    }
    let uptime = fs::read_to_string(UPTIME).ok().and_then(|text| uptime(&text));
    let state = judge(&last, &boot, uptime);
    info!(?state, "as routers with graceful restart are told");
    writer.write(FILE, boot);
    state
}

/// What the kernel calls this boot.
///
/// # Errors
/// The system's.
pub fn id() -> std::io::Result<String> {
    Ok(fs::read_to_string(BOOT_ID)?.trim().to_owned())
}

fn judge(last: &Record, boot: &str, uptime: Option<Duration>) -> RestartState {
    match last {
        Record::Whole(of) if of == boot => RestartState::Restarting,
        Record::Whole(_) => RestartState::RestartingAfterBoot,
        Record::Absent | Record::Torn(_) if uptime.is_some_and(|uptime| uptime > FORGOTTEN) => RestartState::Restarting,
        Record::Absent | Record::Torn(_) => RestartState::RestartingAfterBoot,
    }
}

fn uptime(text: &str) -> Option<Duration> {
    Duration::try_from_secs_f64(text.split_whitespace().next()?.parse().ok()?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOOT: &str = "6f1e9a34-0000-4000-8000-000000000001";

    #[test]
    fn the_same_boot_is_a_restart_and_another_one_is_told() {
        let last = Record::Whole(BOOT.to_owned());
        let long = Some(Duration::from_secs(1_000_000));
        assert_eq!(judge(&last, BOOT, None), RestartState::Restarting);
        assert_eq!(judge(&last, "another", long), RestartState::RestartingAfterBoot);
    }

    #[test]
    fn who_knows_nothing_of_the_last_boot_asks_the_uptime() {
        for last in [Record::Absent, Record::Torn(String::new())] {
            let state = |seconds| judge(&last, BOOT, Some(Duration::from_secs(seconds)));
            assert_eq!(state(60), RestartState::RestartingAfterBoot);
            assert_eq!(state(5000), RestartState::Restarting);
            assert_eq!(judge(&last, BOOT, None), RestartState::RestartingAfterBoot);
        }
        assert_eq!(uptime("5000.12 9000.00\n"), Some(Duration::from_millis(5_000_120)));
        assert_eq!(uptime("nonsense"), None);
    }
}
