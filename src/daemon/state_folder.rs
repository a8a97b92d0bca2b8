//! What outlives the process: small files in the state folder, each whole or refused. A file has a heading with its format, a body
//! and a checksum; it is written beside the old one and renamed over it, so that a crash leaves one of the two.

use crate::files;
use std::fs;
use std::io;
use std::path::Path;

/// The longest file that is read back, octets.
const LIMIT: u64 = 32 << 20;

/// What a file of the last process says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Record {
    /// The lines of its body.
    Whole(String),
    /// There is no file: nobody ran with this folder.
    Absent,
    /// There is one, and it cannot be trusted; why.
    Torn(String),
}

/// Reads a file whose first line is `heading`.
pub fn read(folder: &Path, name: &str, heading: &str) -> Record {
    let octets = match files::read(&folder.join(name), LIMIT) {
        Ok(octets) => octets,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Record::Absent,
        Err(error) => return Record::Torn(error.to_string()),
    };
    let Ok(text) = String::from_utf8(octets) else { return Record::Torn("it is no text".to_owned()) };
    let torn = || Record::Torn("its checksum does not fit, so it was not written to the end".to_owned());
    let Some(rest) = text.strip_prefix(heading).and_then(|rest| rest.strip_prefix('\n')) else {
        return match text.lines().next() {
            Some(first) if heading.starts_with(first) => torn(),
            Some(_) | None => Record::Torn(format!("it is of another format than '{heading}'")),
        };
    };
    match rest.strip_suffix('\n').map(|lines| lines.rsplit_once('\n').unwrap_or(("", lines))) {
        Some((body, sum)) if sum == checksum(body) => Record::Whole(body.to_owned()),
        Some(_) | None => torn(),
    }
}

/// Writes a file for its owner alone; makes the folder where there is none.
///
/// # Errors
/// The system's.
pub fn write(folder: &Path, name: &str, heading: &str, body: &str) -> io::Result<()> {
    use std::io::Write;
    use std::os::unix::fs::OpenOptionsExt;
    fs::create_dir_all(folder)?;
    let beside = folder.join(format!("{name}.new"));
    let mut file = fs::OpenOptions::new().create(true).write(true).truncate(true).mode(0o600).open(&beside)?;
    write!(file, "{heading}\n{body}\n{}\n", checksum(body))?;
    file.sync_all()?;
    fs::rename(&beside, folder.join(name))?;
    fs::File::open(folder)?.sync_all()
}

/// FNV-1a, 64 bits.
pub fn checksum(text: &str) -> String {
    let hash = text
        .bytes()
        .fold(0xcbf2_9ce4_8422_2325_u64, |hash, octet| (hash ^ u64::from(octet)).wrapping_mul(0x0100_0000_01b3));
    format!("{hash:016x}")
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEADING: &str = "herald test 1";

    #[test]
    fn what_was_written_is_read_whole_for_its_owner_alone() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(read(folder.path(), "file", HEADING), Record::Absent);
        for body in ["", "one line", "two\nlines", "\n\n"] {
            write(folder.path(), "file", HEADING, body).unwrap();
            assert_eq!(read(folder.path(), "file", HEADING), Record::Whole(body.to_owned()));
        }
        let mode = fs::metadata(folder.path().join("file")).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        let other = read(folder.path(), "file", "herald test 2");
        assert_eq!(other, Record::Torn("it is of another format than 'herald test 2'".to_owned()));
    }

    #[test]
    fn a_torn_file_is_refused_wherever_it_is_torn_and_whatever_octet_is_wrong() {
        let folder = tempfile::tempdir().unwrap();
        write(folder.path(), "file", HEADING, "198.51.100.7\n2001:db8::7").unwrap();
        let path = folder.path().join("file");
        let whole = fs::read(&path).unwrap();
        for len in 0..whole.len() {
            fs::write(&path, &whole[..len]).unwrap();
            assert!(matches!(read(folder.path(), "file", HEADING), Record::Torn(_)), "cut to {len} octets");
        }
        for at in 0..whole.len() {
            let mut wrong = whole.clone();
            wrong[at] ^= 1;
            fs::write(&path, &wrong).unwrap();
            assert!(matches!(read(folder.path(), "file", HEADING), Record::Torn(_)), "octet {at}");
        }
    }
}
