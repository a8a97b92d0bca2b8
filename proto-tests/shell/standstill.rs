//! One thread of a speaker stands still, by the debugger's way into the kernel, while its others go on: what that costs, what is
//! said of it, and when a kubelet would begin the process anew.

use crate::process::{Peer, Stage, config, node, service};
use crate::router::{Entry, Manner, Router};
use std::fs;
use std::sync::mpsc::{Sender, channel};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

const V4: &str = "198.51.100.7/32";

/// A thread of another process that stands still until this is dropped.
pub struct Standing {
    release: Option<Sender<()>>,
    tracer: Option<JoinHandle<()>>,
}

impl Standing {
    /// Holds the thread of this name.
    pub fn still(pid: u32, name: &str) -> Self {
        let tasks = fs::read_dir(format!("/proc/{pid}/task")).unwrap();
        let mut tasks = tasks.map(|task| task.unwrap().path());
        let task = tasks.find(|task| fs::read_to_string(task.join("comm")).is_ok_and(|comm| comm.trim() == name));
        let task = task.unwrap_or_else(|| panic!("a thread {name}"));
        let tid: libc::pid_t = task.file_name().unwrap().to_str().unwrap().parse().unwrap();
        let (release, released) = channel();
        let (held, is_held) = channel();
        // Whoever holds a thread is the one that lets it go, and may be no other thread.
        let tracer = thread::spawn(move || {
            // SAFETY: no memory of this process is passed.
            let stopped = unsafe {
                libc::ptrace(libc::PTRACE_SEIZE, tid, 0, 0) == 0
                    && libc::ptrace(libc::PTRACE_INTERRUPT, tid, 0, 0) == 0
                    && libc::waitpid(tid, std::ptr::null_mut(), libc::__WALL) == tid
            };
            assert!(stopped, "the thread cannot be held: {}", std::io::Error::last_os_error());
            held.send(()).unwrap();
            // Dropped: let go.
            let _dropped = released.recv();
            // SAFETY: as above. A process that has ended meanwhile has no thread to let go.
            unsafe { libc::ptrace(libc::PTRACE_DETACH, tid, 0, 0) };
        });
        is_held.recv().expect("the thread is held");
        Self { release: Some(release), tracer: Some(tracer) }
    }
}

impl Drop for Standing {
    fn drop(&mut self) {
        drop(self.release.take());
        let ended = self.tracer.take().map(JoinHandle::join);
        assert!(thread::panicking() || ended.is_none_or(|ended| ended.is_ok()));
    }
}

/// A speaker with one route at a router, with this hold time.
fn speaking(router: &Router, hold_time: &str) -> Stage {
    let mut stage = Stage::new();
    stage.write("manifests/node.yaml", &node("n1", ""));
    stage.write("manifests/web.yaml", &service("web", &["198.51.100.7".to_owned()]));
    let text = config(&[Peer { name: "r1", address: router.address, more: "" }], "");
    stage.write("herald.yaml", &text.replace("holdTime: 9s", &format!("holdTime: {hold_time}")));
    stage.start("n1");
    router.wait_for_table(&[V4]);
    stage
}

/// Whether `/healthz` has the process go on, and what it says.
fn healthz(stage: &Stage) -> (bool, String) {
    let (head, body) = stage.ask("/healthz");
    (head.starts_with("HTTP/1.1 200"), body)
}

#[test]
fn a_standstill_of_the_sessions_fails_the_probe_after_five_seconds_and_not_before() {
    let router = Router::start(181, Manner::Ordinary);
    let stage = speaking(&router, "30s");
    assert_eq!(healthz(&stage), (true, "ok\n".to_owned()));
    let began = Instant::now();
    // The first thread of a process has its name.
    let held = Standing::still(stage.pid(), "herald");
    stage.wait("the failing probe", || !healthz(&stage).0);
    let took = began.elapsed();
    assert!((Duration::from_millis(4500)..Duration::from_secs(8)).contains(&took), "{took:?}");
    let (_, body) = healthz(&stage);
    assert!(body.starts_with("the thread 'sessions' has stood still since "), "{body}");
    assert!(body.contains("begin this process anew"), "{body}");
    let (_, ready) = stage.ask("/readyz");
    assert!(ready.contains("ThreadStands sessions: "), "{ready}");
    drop(held);
    stage.wait("the probe", || healthz(&stage).0);
    stage.wait("the end of the condition", || !stage.ask("/readyz").1.contains("ThreadStands"));
    assert!(!router.log().contains(&Entry::Closed));
}

#[test]
fn a_standstill_of_control_is_said_after_ten_seconds_and_costs_no_session_and_no_probe() {
    let router = Router::start(182, Manner::Ordinary);
    let stage = speaking(&router, "3s");
    let held = Standing::still(stage.pid(), "control");
    let began = Instant::now();
    stage.wait("the condition", || {
        assert_eq!(healthz(&stage), (true, "ok\n".to_owned()));
        stage.ask("/readyz").1.contains("ThreadStands control: the thread 'control' has stood still since ")
    });
    let took = began.elapsed();
    assert!((Duration::from_millis(9500)..Duration::from_secs(14)).contains(&took), "{took:?}");
    let (_, metrics) = stage.ask("/metrics");
    assert!(metrics.contains("herald_conditions{reason=\"ThreadStands\"} 1"), "{metrics}");
    // Its hold time is over three times by now.
    assert!(!router.log().contains(&Entry::Closed));
    stage.write("manifests/second.yaml", &service("second", &["198.51.100.8".to_owned()]));
    drop(held);
    stage.wait("the end of the condition", || !stage.ask("/readyz").1.contains("ThreadStands"));
    router.wait_for_table(&[V4, "198.51.100.8/32"]);
    assert!(!router.log().contains(&Entry::Closed));
}

#[test]
fn a_process_that_was_held_still_as_a_whole_fails_no_probe() {
    let router = Router::start(183, Manner::Ordinary);
    let stage = speaking(&router, "30s");
    stage.signal("STOP");
    thread::sleep(Duration::from_secs(7));
    stage.signal("CONT");
    let let_go = Instant::now();
    while let_go.elapsed() < Duration::from_secs(3) {
        assert_eq!(healthz(&stage), (true, "ok\n".to_owned()), "after {:?}", let_go.elapsed());
    }
    assert!(!router.log().contains(&Entry::Closed));
}
