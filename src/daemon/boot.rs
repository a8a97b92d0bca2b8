//! Whether the node has booted since the last process: what the F bit of graceful restart asks (RFC 4724 §3). Over a boot the
//! data path forgot its services, and a router that kept our routes must be told so.

use crate::peer::settings::RestartState;
use std::fs;
use std::io;
use std::path::Path;
use std::time::Duration;
use tracing::{info, warn};

const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";
const UPTIME: &str = "/proc/uptime";
/// The file in the state folder, and its first line.
const FILE: &str = "boot";
const HEADING: &str = "herald boot 1";

/// Without a folder the uptime answers: after this long no router still keeps routes from before the boot. The longest
/// restart time (4095 s), and a hold time before it began.
const FORGOTTEN: Duration = Duration::from_secs(4095 + 240);

/// What the file of the last process says.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Last {
    /// It ran under this boot.
    Boot(String),
    /// There is no file: nobody ran with this folder.
    Nobody,
    /// There is one, and it cannot be trusted.
    Torn(String),
}

/// How a new process stands towards every router; the folder then says that it ran under this boot.
pub fn restart_state(folder: Option<&Path>) -> RestartState {
    let uptime = fs::read_to_string(UPTIME).ok().and_then(|text| uptime(&text));
    let Some(folder) = folder else { return judge(&Last::Nobody, "", uptime) };
    let boot = match fs::read_to_string(BOOT_ID) {
        Ok(boot) => boot.trim().to_owned(),
        Err(error) => {
            warn!("cannot read {BOOT_ID}: {error}; routers are told that the data path is new");
            return RestartState::RestartingAfterBoot;
        }
    };
    let last = read(folder);
    if let Last::Torn(why) = &last {
        warn!("{} is not used: {why}; it is written anew", folder.join(FILE).display());
    }
    let state = judge(&last, &boot, uptime);
    info!(?state, "as routers with graceful restart are told");
    if let Err(error) = write(folder, &boot) {
        warn!("cannot write {}: {error}; the next process will not know of this one", folder.join(FILE).display());
    }
    state
}

fn judge(last: &Last, boot: &str, uptime: Option<Duration>) -> RestartState {
    match last {
        Last::Boot(of) if of == boot => RestartState::Restarting,
        Last::Boot(_) => RestartState::RestartingAfterBoot,
        Last::Nobody | Last::Torn(_) if uptime.is_some_and(|uptime| uptime > FORGOTTEN) => RestartState::Restarting,
        Last::Nobody | Last::Torn(_) => RestartState::RestartingAfterBoot,
    }
}

fn uptime(text: &str) -> Option<Duration> {
    Duration::try_from_secs_f64(text.split_whitespace().next()?.parse().ok()?).ok()
}

fn read(folder: &Path) -> Last {
    let text = match fs::read(folder.join(FILE)) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Last::Nobody,
        Err(error) => return Last::Torn(error.to_string()),
    };
    let Ok(text) = std::str::from_utf8(&text) else { return Last::Torn("it is no text".to_owned()) };
    match text.lines().collect::<Vec<_>>()[..] {
        [HEADING, boot, sum] if text.ends_with('\n') && sum == checksum(boot) => Last::Boot(boot.to_owned()),
        [HEADING, ..] => Last::Torn("its checksum does not fit, so it was not written to the end".to_owned()),
        _ => Last::Torn("it is of another format".to_owned()),
    }
}

/// Beside the old one, then over it: a crash leaves one of the two.
fn write(folder: &Path, boot: &str) -> io::Result<()> {
    use std::io::Write;
    fs::create_dir_all(folder)?;
    let beside = folder.join(format!("{FILE}.new"));
    let mut file = fs::File::create(&beside)?;
    write!(file, "{HEADING}\n{boot}\n{}\n", checksum(boot))?;
    file.sync_all()?;
    fs::rename(&beside, folder.join(FILE))?;
    fs::File::open(folder)?.sync_all()
}

/// FNV-1a, 64 bits.
fn checksum(text: &str) -> String {
    let hash = text
        .bytes()
        .fold(0xcbf2_9ce4_8422_2325_u64, |hash, octet| (hash ^ u64::from(octet)).wrapping_mul(0x0100_0000_01b3));
    format!("{hash:016x}")
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOOT: &str = "6f1e9a34-0000-4000-8000-000000000001";

    #[test]
    fn the_same_boot_is_a_restart_and_another_one_is_told() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(read(folder.path()), Last::Nobody);
        write(folder.path(), BOOT).unwrap();
        let last = read(folder.path());
        assert_eq!(last, Last::Boot(BOOT.to_owned()));
        let long = Some(Duration::from_secs(1_000_000));
        assert_eq!(judge(&last, BOOT, None), RestartState::Restarting);
        assert_eq!(judge(&last, "another", long), RestartState::RestartingAfterBoot);
        write(folder.path(), "another").unwrap();
        assert_eq!(read(folder.path()), Last::Boot("another".to_owned()));
    }

    #[test]
    fn a_torn_file_is_refused_wherever_it_is_torn_and_whatever_octet_is_wrong() {
        let folder = tempfile::tempdir().unwrap();
        write(folder.path(), BOOT).unwrap();
        let path = folder.path().join(FILE);
        let whole = fs::read(&path).unwrap();
        for len in 0..whole.len() {
            fs::write(&path, &whole[..len]).unwrap();
            assert!(matches!(read(folder.path()), Last::Torn(_)), "cut to {len} octets");
        }
        for at in 0..whole.len() {
            let mut wrong = whole.clone();
            wrong[at] ^= 1;
            fs::write(&path, &wrong).unwrap();
            assert!(matches!(read(folder.path()), Last::Torn(_)), "octet {at}");
        }
    }

    #[test]
    fn who_knows_nothing_of_the_last_boot_asks_the_uptime() {
        for last in [Last::Nobody, Last::Torn(String::new())] {
            let state = |seconds| judge(&last, BOOT, Some(Duration::from_secs(seconds)));
            assert_eq!(state(60), RestartState::RestartingAfterBoot);
            assert_eq!(state(5000), RestartState::Restarting);
            assert_eq!(judge(&last, BOOT, None), RestartState::RestartingAfterBoot);
        }
        assert_eq!(uptime("5000.12 9000.00\n"), Some(Duration::from_millis(5_000_120)));
        assert_eq!(uptime("nonsense"), None);
    }
}
