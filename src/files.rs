//! Reading files whose place somebody else may fill with anything: a pipe, a device, a gigabyte, a mount that hangs.
//!
//! Promises: only plain files are read, and only so much of them; whoever asks waits for [`PATIENCE`] at most, and a thread
//! that hangs in the kernel is neither waited for nor joined by a second one.

use std::collections::BTreeMap;
use std::fs::{FileType, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TryRecvError, sync_channel};
use std::thread;
use std::time::Duration;

/// The largest configuration that is read, octets. Ten thousand peers with everything said about them have half of it.
pub const CONFIGURATION: u64 = 16 << 20;

/// The largest manifest file that is read, octets: a hundred thousand services may be in two of them.
pub const MANIFEST: u64 = 64 << 20;

/// How long a file may take to be read. A disk that is slower than this for a few megabytes hangs.
pub const PATIENCE: Duration = Duration::from_secs(2);

/// What a plain file holds, if that is at most `limit` octets. A pipe in its place is not waited for; a mount that hangs
/// is, so what must not stand still asks a [`Reader`].
///
/// # Errors
/// The system's, or that this is no plain file, or that it is too large, in words.
pub fn read(path: &Path, limit: u64) -> io::Result<Vec<u8>> {
    // Opening a device may already do something, so it is looked at before; and after, because it may have been replaced.
    plain(std::fs::metadata(path)?.file_type())?;
    let file = OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(path)?;
    let about = file.metadata()?;
    plain(about.file_type())?;
    let mut octets = Vec::new();
    if about.len() <= limit {
        file.take(limit + 1).read_to_end(&mut octets)?;
    }
    let size = about.len().max(u64::try_from(octets.len()).unwrap_or(u64::MAX));
    if size > limit { Err(too_large(limit)) } else { Ok(octets) }
}

/// What is said of a file that has more octets than `limit`.
pub fn too_large(limit: u64) -> io::Error {
    io::Error::new(io::ErrorKind::FileTooLarge, format!("it is too large: at most {limit} octets are read"))
}

/// The same as text.
///
/// # Errors
/// As [`read`], or that it is no UTF-8, and where.
pub fn text(octets: Vec<u8>) -> io::Result<String> {
    String::from_utf8(octets).map_err(|error| {
        let at = error.utf8_error().valid_up_to();
        let line = error.as_bytes()[..at].split(|octet| *octet == b'\n').count();
        io::Error::other(format!("line {line} has an octet that is no UTF-8 text; save the file as UTF-8"))
    })
}

fn plain(kind: FileType) -> io::Result<()> {
    let what = match kind {
        kind if kind.is_file() => return Ok(()),
        kind if kind.is_dir() => "a folder",
        kind if kind.is_fifo() => "a named pipe",
        kind if kind.is_socket() => "a socket",
        _ => "a device",
    };
    Err(io::Error::other(format!("it is {what}, and only a plain file is read")))
}

/// Reads files on a thread of its own for each folder, since what hangs is a mount: other folders stay readable.
#[derive(Debug, Default)]
pub struct Reader(BTreeMap<PathBuf, Worker>);

/// A thread that reads one file after the other, until nobody asks it any more.
#[derive(Debug)]
struct Worker {
    ask: SyncSender<(PathBuf, u64)>,
    answers: Receiver<io::Result<Vec<u8>>>,
    turn: Turn,
}

/// Whether a thread can be asked.
#[derive(Debug)]
enum Turn {
    Free,
    /// It did not answer in time about this file.
    Hangs(PathBuf),
    /// It is no more.
    Gone,
}

impl Reader {
    /// As [`read`], within [`PATIENCE`].
    ///
    /// # Errors
    /// As [`read`], or that there is no answer, of this file or of one that was asked for in its folder before.
    pub fn read(&mut self, path: &Path, limit: u64) -> io::Result<Vec<u8>> {
        self.within(path, limit, PATIENCE, read)
    }

    fn within(&mut self, path: &Path, limit: u64, patience: Duration, how: How) -> io::Result<Vec<u8>> {
        let folder = path.parent().unwrap_or(path).to_owned();
        // One that panicked answers nobody any more, and must not stand in the way of the next.
        self.0.retain(|_, worker| !matches!(worker.turn, Turn::Gone));
        let worker = match self.0.entry(folder) {
            std::collections::btree_map::Entry::Occupied(held) => held.into_mut(),
            std::collections::btree_map::Entry::Vacant(free) => free.insert(Worker::start(how)?),
        };
        worker.read(path, limit, patience)
    }
}

/// How a file is read.
type How = fn(&Path, u64) -> io::Result<Vec<u8>>;

impl Worker {
    fn start(how: How) -> io::Result<Self> {
        let (ask, asked) = sync_channel::<(PathBuf, u64)>(1);
        let (answer, answers) = sync_channel(1);
        thread::Builder::new().name("files".to_owned()).spawn(move || {
            for (path, limit) in asked {
                // Nobody is there any more: the process ends.
                if answer.send(how(&path, limit)).is_err() {
                    return;
                }
            }
        })?;
        Ok(Self { ask, answers, turn: Turn::Free })
    }

    fn read(&mut self, path: &Path, limit: u64, patience: Duration) -> io::Result<Vec<u8>> {
        if let Turn::Hangs(other) = &self.turn {
            match self.answers.try_recv() {
                // Too late to be believed: the file may be another one by now.
                Ok(_) => self.turn = Turn::Free,
                Err(TryRecvError::Empty) => return Err(hangs(other)),
                Err(TryRecvError::Disconnected) => return Err(self.gone()),
            }
        }
        if self.ask.try_send((path.to_owned(), limit)).is_err() {
            return Err(self.gone());
        }
        match self.answers.recv_timeout(patience) {
            Ok(answer) => answer,
            Err(RecvTimeoutError::Timeout) => {
                self.turn = Turn::Hangs(path.to_owned());
                Err(hangs(path))
            }
            Err(RecvTimeoutError::Disconnected) => Err(self.gone()),
        }
    }

    fn gone(&mut self) -> io::Error {
        self.turn = Turn::Gone;
        io::Error::other("the thread that reads it is gone, a bug to report; another one reads it the next time")
    }
}

fn hangs(path: &Path) -> io::Error {
    let words = format!("reading {} takes longer than {} s: does its mount hang?", path.display(), PATIENCE.as_secs());
    io::Error::new(io::ErrorKind::TimedOut, words)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::process::Command;

    #[test]
    fn only_plain_files_of_bounded_size_are_read_and_nothing_waits() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        let said = |limit| read(&path, limit).unwrap_err().to_string();
        assert!(said(9).contains("No such file"), "{}", said(9));
        fs::write(&path, "ten octets").unwrap();
        assert_eq!(read(&path, 10).unwrap(), b"ten octets");
        assert_eq!(said(9), "it is too large: at most 9 octets are read");
        fs::remove_file(&path).unwrap();
        assert!(Command::new("mkfifo").arg(&path).status().unwrap().success());
        assert_eq!(said(9), "it is a named pipe, and only a plain file is read");
        fs::remove_file(&path).unwrap();
        std::os::unix::fs::symlink("/dev/zero", &path).unwrap();
        assert_eq!(said(9), "it is a device, and only a plain file is read");
        fs::remove_file(&path).unwrap();
        std::os::unix::fs::symlink(&path, &path).unwrap();
        assert!(said(9).contains("symbolic links"), "{}", said(9));
        let said = read(folder.path(), 9).unwrap_err().to_string();
        assert_eq!(said, "it is a folder, and only a plain file is read");
        // What says that it is empty and is not: no end of /proc is believed either.
        assert!(read(Path::new("/proc/self/maps"), 9).unwrap_err().to_string().contains("too large"));
    }

    #[test]
    fn what_is_no_text_is_said_with_its_line() {
        assert_eq!(text(b"a: b\n".to_vec()).unwrap(), "a: b\n");
        assert!(text(b"a: b\nc: \xff\n".to_vec()).unwrap_err().to_string().starts_with("line 2 has an octet"));
    }

    /// A folder whose files `…/never` are on a mount that hangs until the file beside it is there.
    fn hanging(path: &Path, limit: u64) -> io::Result<Vec<u8>> {
        while path.ends_with("never") && !path.with_extension("now").exists() {
            thread::sleep(Duration::from_millis(5));
        }
        read(path, limit)
    }

    #[test]
    fn a_mount_that_hangs_holds_one_thread_and_nobody_who_asks() {
        let folder = tempfile::tempdir().unwrap();
        let (stuck, fine) = (folder.path().join("stuck"), folder.path().join("fine"));
        for folder in [&stuck, &fine] {
            fs::create_dir(folder).unwrap();
            fs::write(folder.join("never"), "x").unwrap();
            fs::write(folder.join("file"), "content").unwrap();
        }
        let mut reader = Reader::default();
        let mut ask = |path: PathBuf| reader.within(&path, 100, Duration::from_millis(20), hanging);
        assert_eq!(ask(stuck.join("never")).unwrap_err().kind(), io::ErrorKind::TimedOut);
        for _ in 0..100 {
            let said = ask(stuck.join("file")).unwrap_err().to_string();
            assert!(said.contains("stuck/never") && said.contains("does its mount hang?"), "{said}");
        }
        let patient = |reader: &mut Reader, path: PathBuf| reader.within(&path, 100, PATIENCE, hanging);
        assert_eq!(patient(&mut reader, fine.join("file")).unwrap(), b"content", "another folder is read");
        // Well again: the late answer is thrown away, and the next one is of the file that was asked for.
        fs::write(stuck.join("never.now"), "").unwrap();
        let answer = loop {
            match patient(&mut reader, stuck.join("file")) {
                Err(error) if error.kind() == io::ErrorKind::TimedOut => thread::yield_now(),
                answer => break answer.unwrap(),
            }
        };
        assert_eq!(answer, b"content");
        assert_eq!(reader.0.len(), 2, "a thread a folder");
    }

    #[test]
    fn a_thread_that_panicked_is_followed_by_another() {
        fn broken(path: &Path, limit: u64) -> io::Result<Vec<u8>> {
            assert!(!path.ends_with("broken"), "on purpose");
            read(path, limit)
        }
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("file"), "content").unwrap();
        let mut reader = Reader::default();
        let mut ask = |name: &str| reader.within(&folder.path().join(name), 100, PATIENCE, broken);
        assert!(ask("broken").unwrap_err().to_string().contains("is gone"));
        assert_eq!(ask("file").unwrap(), b"content");
    }
}
