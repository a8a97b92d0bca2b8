//! `herald demo` as a user runs it: its exit code, its lines, and that it leaves nothing behind.

use std::io::{BufRead, BufReader, Read};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

/// What the order allows the demo.
const LIMIT: Duration = Duration::from_secs(30);

/// A running demo in a process group and a folder of its own.
struct Demo {
    child: Child,
    lines: Receiver<String>,
    seen: Vec<String>,
    folder: tempfile::TempDir,
}

impl Demo {
    fn start(words: &[&str]) -> Self {
        Self::start_with(words, &[])
    }

    fn start_with(words: &[&str], variables: &[(&str, &str)]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut child = Command::new(env!("CARGO_BIN_EXE_herald"))
            .arg("demo")
            .args(words)
            .env("TMPDIR", folder.path())
            .envs(variables.iter().copied())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .process_group(0)
            .spawn()
            .unwrap();
        let out = BufReader::new(child.stdout.take().unwrap());
        let (tell, lines) = channel();
        std::thread::spawn(move || out.lines().map_while(Result::ok).try_for_each(|line| tell.send(line)));
        Self { child, lines, seen: Vec::new(), folder }
    }

    /// Reads until a line contains `text`.
    fn wait_for(&mut self, text: &str) -> String {
        let until = Instant::now() + LIMIT;
        while let Ok(line) = self.lines.recv_timeout(until.saturating_duration_since(Instant::now())) {
            self.seen.push(line.clone());
            if line.contains(text) {
                return line;
            }
        }
        panic!("no line with {text:?}; seen:\n{}", self.seen.join("\n"));
    }

    fn rest(&mut self) -> String {
        self.seen.extend(self.lines.iter());
        self.seen.join("\n")
    }

    fn pid(&self) -> rustix::process::Pid {
        rustix::process::Pid::from_child(&self.child)
    }

    fn signal(&self, signal: rustix::process::Signal) {
        rustix::process::kill_process(self.pid(), signal).unwrap();
    }

    fn wait(&mut self) -> ExitStatus {
        let until = Instant::now() + LIMIT;
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status;
            }
            assert!(Instant::now() < until, "the demo does not end; seen:\n{}", self.rest());
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Nothing of the demo's is left: no file, and no process that names its folder.
    fn assert_clean(&self) {
        let left: Vec<_> = std::fs::read_dir(self.folder.path()).unwrap().collect();
        assert!(left.is_empty(), "left behind: {left:?}");
        let folder = self.folder.path().to_str().unwrap();
        let processes: Vec<String> = std::fs::read_dir("/proc")
            .unwrap()
            .filter_map(|entry| command_line(&entry.ok()?.path()))
            .filter(|line| line.contains(folder))
            .collect();
        assert!(processes.is_empty(), "still running: {processes:?}");
    }
}

impl Drop for Demo {
    /// Whatever a failed test left: the whole process group, by its number.
    fn drop(&mut self) {
        let _gone_already = rustix::process::kill_process_group(self.pid(), rustix::process::Signal::KILL);
        let _reaped_already = self.child.wait();
    }
}

fn command_line(process: &Path) -> Option<String> {
    let mut octets = Vec::new();
    std::fs::File::open(process.join("cmdline")).ok()?.read_to_end(&mut octets).ok()?;
    Some(String::from_utf8_lossy(&octets).replace('\0', " "))
}

#[test]
fn the_story_comes_true_at_the_router() {
    let began = Instant::now();
    let mut demo = Demo::start(&[]);
    let status = demo.wait();
    let text = demo.rest();
    assert_eq!(status.code(), Some(0), "{text}");
    assert!(began.elapsed() < LIMIT, "{:?}", began.elapsed());
    assert!(!text.contains('\x1b'), "escapes in a pipe:\n{text}");
    assert!(text.contains("5 of 5 steps as told"), "{text}");
    let rows: Vec<Vec<&str>> = text.lines().map(|line| line.split_whitespace().skip(2).collect()).collect();
    let all = ["127.0.0.11", "127.0.0.12", "127.0.0.13"];
    let all_v6 = ["fd00::11", "fd00::12", "fd00::13"];
    for row in [
        ["198.51.100.10/32", all[0], all[1], all[2]],
        ["2001:db8:5::10/128", all_v6[0], all_v6[1], all_v6[2]],
        ["198.51.100.20/32", all[0], all[1], "-"],
        ["198.51.100.20/32", all[0], "-", "-"],
        ["198.51.100.10/32", all[0], "-", all[2]],
        ["198.51.100.10/32", "-", "-", "-"],
        ["2001:db8:5::10/128", "-", "-", "-"],
        ["198.51.100.20/32", "-", "-", "-"],
    ] {
        assert!(rows.iter().any(|seen| seen == &row), "no line {row:?} in\n{text}");
    }
    demo.assert_clean();
}

#[test]
fn it_stays_on_a_folder_that_can_be_edited_until_it_is_told_to_end() {
    let mut demo = Demo::start(&["--stay"]);
    demo.wait_for("Everything stays up");
    let hint = demo.wait_for("routes --socket");
    let wait_for_web = |demo: &mut Demo, paths: &str| loop {
        let line = demo.wait_for("198.51.100.10/32");
        if line.split_whitespace().skip(3).collect::<Vec<_>>().join(" ") == paths {
            return;
        }
    };
    wait_for_web(&mut demo, "127.0.0.11 127.0.0.12 127.0.0.13");
    let folder = std::fs::read_dir(demo.folder.path()).unwrap().next().unwrap().unwrap().path().join("manifests");
    let web = folder.join("web.yaml");
    let text = std::fs::read_to_string(&web).unwrap().replace("Policy: Cluster", "Policy: Local");
    std::fs::write(&web, text).unwrap();
    wait_for_web(&mut demo, "127.0.0.11 127.0.0.12 -");

    // The command that is shown for asking a speaker works as it is shown.
    let words: Vec<&str> = hint.split('#').next().unwrap().split_whitespace().collect();
    let asked = Command::new(words[0]).args(&words[1..]).output().unwrap();
    let said = String::from_utf8_lossy(&asked.stdout).into_owned();
    assert!(asked.status.success() && said.contains("198.51.100.10/32"), "{asked:?}");

    std::fs::remove_file(&web).unwrap();
    wait_for_web(&mut demo, "- - -");
    demo.signal(rustix::process::Signal::INT);
    assert_eq!(demo.wait().code(), Some(0));
    demo.assert_clean();
}

#[test]
fn an_interrupted_story_is_no_success_and_leaves_nothing() {
    let mut demo = Demo::start(&[]);
    demo.wait_for("1. ");
    demo.signal(rustix::process::Signal::TERM);
    assert_eq!(demo.wait().code(), Some(130), "{}", demo.rest());
    demo.assert_clean();
}

#[test]
fn speakers_that_do_not_speak_fail_the_first_step_and_are_quoted() {
    // The demo itself does not read this variable; the speakers refuse what it holds.
    let mut demo = Demo::start_with(&[], &[("HERALD_LOG", "herald=no-such-level")]);
    assert_eq!(demo.wait().code(), Some(1));
    let text = demo.rest();
    for wanted in [
        "step 1 failed: Three speakers dial the router",
        "expected 127.0.0.11, 127.0.0.12, 127.0.0.13; there are none",
        "node-a ended by itself",
        "says no level",
    ] {
        assert!(text.contains(wanted), "no {wanted:?} in\n{text}");
    }
    demo.assert_clean();
}

#[test]
fn a_folder_that_cannot_be_made_is_named() {
    let output =
        Command::new(env!("CARGO_BIN_EXE_herald")).arg("demo").env("TMPDIR", "/proc/no-such-folder").output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert_eq!(output.status.code(), Some(1), "{text}");
    assert!(text.contains("/proc/no-such-folder") && text.contains("set TMPDIR"), "{text}");
}
