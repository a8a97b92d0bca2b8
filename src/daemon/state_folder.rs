//! What outlives the process: small files in the state folder, each whole or refused. A file has a heading with its format, a body
//! and a checksum; it is written beside the old one and renamed over it, so that a crash leaves one of the two.
//!
//! Whoever has something to keep hands it over and goes on; of a file the newest is written, on a thread of its own, because the
//! folder may be full, read-only, or on a mount that hangs. What cannot be written is a condition until it can.

use crate::condition::{Conditions, Reason};
use crate::files::{self, Reader};
use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::time::Duration;
use tokio::sync::{oneshot, watch};

/// The longest file that is read back, octets.
const LIMIT: u64 = 32 << 20;

/// When what could not be written is tried again.
const RETRY: Duration = Duration::from_secs(5);

/// A file of the folder.
#[derive(Debug, Clone, Copy)]
pub struct File {
    /// Its name.
    pub name: &'static str,
    /// Its first line: its format.
    pub heading: &'static str,
    /// What it costs that it is not written.
    pub cost: &'static str,
}

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

/// What the process before this one left in the folder.
#[derive(Debug)]
pub struct Previous {
    folder: Option<PathBuf>,
    reader: Reader,
}

impl Previous {
    /// That of this folder; without one nothing was left.
    pub fn of(folder: Option<&Path>) -> Self {
        Self { folder: folder.map(Path::to_owned), reader: Reader::default() }
    }

    /// Reads a file. A folder that hangs is waited for as long as any file is, once.
    pub fn read(&mut self, file: &File) -> Record {
        let Some(folder) = &self.folder else { return Record::Absent };
        match self.reader.read(&folder.join(file.name), LIMIT) {
            Ok(octets) => judge(octets, file.heading),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Record::Absent,
            Err(error) => Record::Torn(error.to_string()),
        }
    }

    /// Where a file would be, for people.
    pub fn place(&self, file: &File) -> String {
        self.folder.clone().unwrap_or_default().join(file.name).display().to_string()
    }
}

fn judge(octets: Vec<u8>, heading: &str) -> Record {
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

/// What the files are to hold, by name.
type Wanted = BTreeMap<&'static str, (File, Arc<str>)>;

/// Where is handed over what is to be kept. A clone hands over to the same folder.
#[derive(Debug, Clone)]
pub struct Writer(watch::Sender<Wanted>);

impl Writer {
    /// Has a file hold this, soon. Waits for nothing; without a folder nothing is kept.
    pub fn write(&self, file: File, body: String) {
        if self.0.is_closed() {
            return;
        }
        self.0.send_if_modified(|wanted| {
            let news = wanted.get(file.name).is_none_or(|(_, held)| **held != *body);
            if news {
                wanted.insert(file.name, (file, body.into()));
            }
            news
        });
    }
}

/// A writer, and what is to run beside it for ever. It says what cannot be written.
pub fn writer(folder: Option<PathBuf>, conditions: watch::Sender<Conditions>) -> (Writer, impl Future<Output = ()>) {
    let (writer, wanted) = watch::channel(Wanted::new());
    // Without a folder nobody holds what is handed over.
    let to = folder.map(|folder| (folder, wanted));
    let writing = async move {
        if let Some((folder, wanted)) = to {
            keep_writing(folder, wanted, conditions).await;
        }
        std::future::pending().await
    };
    (Writer(writer), writing)
}

async fn keep_writing(folder: PathBuf, mut wanted: watch::Receiver<Wanted>, conditions: watch::Sender<Conditions>) {
    let mut hand = Hand { folder, thread: None };
    let mut written: BTreeMap<&str, Arc<str>> = BTreeMap::new();
    loop {
        let now = wanted.borrow_and_update().clone();
        let due = now.into_values().filter(|(file, body)| written.get(file.name) != Some(body));
        let mut failures = 0;
        for (file, body) in due.collect::<Vec<_>>() {
            match hand.write(file, &body, &conditions).await {
                Ok(()) => {
                    written.insert(file.name, body);
                    clear(&conditions, file);
                }
                Err(error) => {
                    failures += 1;
                    let todo = "make room, or make the folder writable for the user that herald runs as";
                    set(
                        &conditions,
                        file,
                        format!("cannot write {}: {error}; {}: {todo}", hand.place(file), file.cost),
                    );
                }
            }
        }
        tokio::select! {
            changed = wanted.changed() => if changed.is_err() { return },
            () = tokio::time::sleep(RETRY), if failures > 0 => {}
        }
    }
}

fn set(conditions: &watch::Sender<Conditions>, file: File, message: String) {
    conditions.send_modify(|mine| mine.set(Reason::StateFolder, file.name, message));
}

fn clear(conditions: &watch::Sender<Conditions>, file: File) {
    conditions.send_if_modified(|mine| {
        let said = mine.contains(Reason::StateFolder, file.name);
        mine.clear(Reason::StateFolder, file.name);
        said
    });
}

/// A file, its body, and where it is answered.
type Job = (File, Arc<str>, oneshot::Sender<io::Result<()>>);

/// Writes one file after the other, on a thread that nobody waits for when the process ends.
struct Hand {
    folder: PathBuf,
    thread: Option<SyncSender<Job>>,
}

impl Hand {
    /// Writes a file. One that takes longer than any should is said, and waited for: a second thread would hang beside the first.
    async fn write(&mut self, file: File, body: &Arc<str>, conditions: &watch::Sender<Conditions>) -> io::Result<()> {
        let thread = match self.thread.take() {
            Some(thread) => thread,
            None => start(self.folder.clone())?,
        };
        let (answer, mut answered) = oneshot::channel();
        let gone = || io::Error::other("the thread that writes it is gone, a bug to report; another one tries again");
        thread.try_send((file, Arc::clone(body), answer)).map_err(|_| gone())?;
        let outcome = match tokio::time::timeout(files::PATIENCE, &mut answered).await {
            Ok(outcome) => outcome,
            Err(_) => {
                let (place, patience, cost) = (self.place(file), files::PATIENCE.as_secs(), file.cost);
                let message = format!(
                    "writing {place} takes longer than {patience} s, and no other file of the folder is written meanwhile; {cost}: does \
                     its mount hang?"
                );
                set(conditions, file, message);
                answered.await
            }
        };
        self.thread = Some(thread);
        outcome.unwrap_or_else(|_| {
            self.thread = None;
            Err(gone())
        })
    }

    fn place(&self, file: File) -> String {
        self.folder.join(file.name).display().to_string()
    }
}

fn start(folder: PathBuf) -> io::Result<SyncSender<Job>> {
    let (ask, asked) = sync_channel::<Job>(1);
    std::thread::Builder::new().name("state".to_owned()).spawn(move || {
        for (file, body, answer) in asked {
            // Nobody waits any more: the process ends.
            let _unheard = answer.send(write(&folder, &file, &body));
        }
    })?;
    Ok(ask)
}

/// Writes a file for its owner alone; makes the folder where there is none.
///
/// # Errors
/// The system's.
pub fn write(folder: &Path, file: &File, body: &str) -> io::Result<()> {
    use std::io::Write;
    use std::os::unix::fs::OpenOptionsExt;
    fs::create_dir_all(folder)?;
    let beside = folder.join(format!("{}.new", file.name));
    // What is there already is what a crash left, or a pipe that would hang, or a link to somewhere else.
    match fs::remove_file(&beside) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        Ok(()) | Err(_) => {}
    }
    let mut new = fs::OpenOptions::new().create_new(true).write(true).mode(0o600).open(&beside)?;
    write!(new, "{}\n{body}\n{}\n", file.heading, checksum(body))?;
    new.sync_all()?;
    fs::rename(&beside, folder.join(file.name))?;
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

    const FILE: File = File { name: "file", heading: "herald test 1", cost: "nobody knows" };
    const OTHER: File = File { name: "other", ..FILE };

    fn read(folder: &Path, file: &File) -> Record {
        Previous::of(Some(folder)).read(file)
    }

    #[test]
    fn what_was_written_is_read_whole_for_its_owner_alone() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(read(folder.path(), &FILE), Record::Absent);
        for body in ["", "one line", "two\nlines", "\n\n"] {
            write(folder.path(), &FILE, body).unwrap();
            assert_eq!(read(folder.path(), &FILE), Record::Whole(body.to_owned()));
        }
        let mode = fs::metadata(folder.path().join("file")).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        let other = read(folder.path(), &File { heading: "herald test 2", ..FILE });
        assert_eq!(other, Record::Torn("it is of another format than 'herald test 2'".to_owned()));
    }

    #[test]
    fn a_torn_file_is_refused_wherever_it_is_torn_and_whatever_octet_is_wrong() {
        let folder = tempfile::tempdir().unwrap();
        write(folder.path(), &FILE, "198.51.100.7\n2001:db8::7").unwrap();
        let whole = fs::read(folder.path().join("file")).unwrap();
        for len in 0..whole.len() {
            assert!(matches!(judge(whole[..len].to_vec(), FILE.heading), Record::Torn(_)), "cut to {len} octets");
        }
        for at in 0..whole.len() {
            let mut wrong = whole.clone();
            wrong[at] ^= 1;
            assert!(matches!(judge(wrong, FILE.heading), Record::Torn(_)), "octet {at}");
        }
    }

    #[test]
    fn a_pipe_or_a_link_in_the_place_of_what_is_being_written_is_written_over_and_not_through() {
        let folder = tempfile::tempdir().unwrap();
        let (beside, elsewhere) = (folder.path().join("file.new"), folder.path().join("elsewhere"));
        assert!(std::process::Command::new("mkfifo").arg(&beside).status().unwrap().success());
        write(folder.path(), &FILE, "one").unwrap();
        fs::write(&elsewhere, "mine").unwrap();
        std::os::unix::fs::symlink(&elsewhere, &beside).unwrap();
        write(folder.path(), &FILE, "two").unwrap();
        assert_eq!(read(folder.path(), &FILE), Record::Whole("two".to_owned()));
        assert_eq!(fs::read_to_string(&elsewhere).unwrap(), "mine");
    }

    #[tokio::test]
    async fn each_file_that_cannot_be_written_is_said_until_it_can_be_and_the_others_are_written() {
        let folder = tempfile::tempdir().unwrap();
        let (conditions, mut said) = watch::channel(Conditions::default());
        let (writer, writing) = writer(Some(folder.path().to_owned()), conditions);
        let running = tokio::spawn(writing);
        fs::create_dir(folder.path().join("file.new")).unwrap();
        writer.write(FILE, "first".to_owned());
        writer.write(OTHER, "other".to_owned());
        said.wait_for(|said| said.contains(Reason::StateFolder, "file")).await.unwrap();
        let words = said.borrow().words(Reason::StateFolder, "file").unwrap().to_owned();
        assert!(words.contains("/file: Is a directory") && words.contains("nobody knows: make room"), "{words}");
        fs::remove_dir(folder.path().join("file.new")).unwrap();
        writer.write(FILE, "newest".to_owned());
        said.wait_for(|said| *said == Conditions::default()).await.unwrap();
        assert_eq!(read(folder.path(), &FILE), Record::Whole("newest".to_owned()));
        assert_eq!(read(folder.path(), &OTHER), Record::Whole("other".to_owned()));
        running.abort();
    }

    #[test]
    fn without_a_folder_nothing_is_kept_not_even_in_memory() {
        let (writer, _writing) = writer(None, watch::channel(Conditions::default()).0);
        writer.write(FILE, "body".to_owned());
        assert!(writer.0.borrow().is_empty());
    }
}
