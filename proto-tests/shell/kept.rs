//! What is kept for the next process: a restart on a file that is refused, and a state folder that does not take it.

use crate::process::{Peer, Stage, config, node, service};
use crate::router::{Entry, Manner, Router};
use crate::standstill::Standing;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;
use std::time::{Duration, Instant};

const V4: &str = "198.51.100.7/32";

fn stage() -> Stage {
    let stage = Stage::new();
    stage.write("manifests/nodes.yaml", &node("n1", ""));
    stage.write("manifests/web.yaml", &service("web", &["198.51.100.7".to_owned()]));
    stage
}

fn shown(stage: &Stage, command: &str) -> String {
    String::from_utf8(stage.show(&[command]).stdout).unwrap()
}

#[test]
fn a_restart_with_a_refused_file_runs_on_the_one_before_and_says_so() {
    let (first, second) = (Router::start(67, Manner::Ordinary), Router::start(68, Manner::Ordinary));
    let mut stage = stage();
    let state = stage.path("state").display().to_string();
    let peers = |more| {
        [Peer { name: "r1", address: first.address, more: "" }, Peer { name: "r2", address: second.address, more }]
    };
    let good = config(&peers("  password: hunter2\n"), "");
    stage.write("herald.yaml", &good);
    stage.start_with("n1", &["--state", &state]);
    first.wait_for_table(&[V4]);
    stage.wait("the configuration in the state folder", || stage.path("state/configuration").exists());
    let kept = fs::read_to_string(stage.path("state/configuration")).unwrap();
    assert!(kept.contains("node n1") && kept.contains("\"r2\"") && !kept.contains("hunter2"), "{kept}");
    let mode = fs::metadata(stage.path("state/configuration")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    assert!(stage.stop().0.success());

    // Refused, and without the password that would be needed.
    stage.write("herald.yaml", &(config(&peers(""), "") + "pears: []\n"));
    stage.start_with("n1", &["--state", &state]);
    first.wait("a second table", |log| {
        let announced = |entry: &&Entry| matches!(entry, Entry::Announce { prefix, .. } if prefix == V4);
        log.iter().filter(announced).count() == 2
    });
    stage.wait("both conditions in the tables", || {
        ["peers", "routes"].iter().all(|command| {
            let shown = shown(&stage, command);
            shown.contains("! ConfigurationRefused: ")
                && shown.contains("! PasswordUnavailable r2: its password stood in")
        })
    });
    let said = shown(&stage, "peers");
    assert!(said.contains("is refused; what is in use was accepted at 20") && said.contains("(hash "), "{said}");
    let (_, metrics) = stage.ask("/metrics");
    assert!(metrics.contains("herald_config_stale 1") && metrics.contains("herald_config_info{hash=\""), "{metrics}");
    assert!(!second.log().iter().any(|entry| matches!(entry, Entry::Up)), "never unsigned");
    assert_eq!(fs::read_to_string(stage.path("state/configuration")).unwrap(), kept, "what is refused is not kept");

    // The password is back, the fault is not gone: the peer waits for its router no more.
    stage.write("herald.yaml", &(good.clone() + "pears: []\n"));
    stage.signal("HUP");
    stage.wait("the password", || !shown(&stage, "peers").contains("PasswordUnavailable"));
    stage.write("herald.yaml", &good);
    stage.signal("HUP");
    stage.wait("a good file", || stage.ask("/metrics").1.contains("herald_config_stale 0"));
    assert!(!shown(&stage, "peers").contains("ConfigurationRefused"));
    assert!(stage.stop().0.success());

    // A missing file is a refused one; without anything kept, that is the end, in words.
    stage.remove("herald.yaml");
    let output = stage.speak("n1").output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(!output.status.success() && said.contains("name a folder for that with --state"), "{said}");
    stage.start_with("n1", &["--state", &state]);
    stage.wait("the condition", || shown(&stage, "peers").contains("! ConfigurationRefused: "));
}

/// A speaker that keeps its state, with a hold time that forgives nothing, and its one route at the router.
fn keeping(router: &Router) -> Stage {
    let mut stage = stage();
    let text = config(&[Peer { name: "r1", address: router.address, more: "" }], "");
    stage.write("herald.yaml", &text.replace("holdTime: 9s", "holdTime: 3s"));
    let state = stage.path("state").display().to_string();
    stage.start_with("n1", &["--state", &state]);
    router.wait_for_table(&[V4]);
    stage
}

/// Waits until each door says that these files, and no other, cannot be written.
#[track_caller]
fn wait_for_failures(stage: &Stage, files: &[&str]) {
    let metric = format!("herald_conditions{{reason=\"StateFolder\"}} {}.0", files.len());
    stage.wait(&format!("{files:?} cannot be written"), || {
        let (ready, peers) = (stage.ask("/readyz").1, shown(stage, "peers"));
        let said = |file: &&str| {
            let line = format!("StateFolder {file}: ");
            ready.contains(&line) && peers.contains(&format!("! {line}"))
        };
        files.iter().all(said) && stage.ask("/metrics").1.contains(&metric)
    });
}

/// One more service, which its router hears of on the session that it has.
#[track_caller]
fn announce_one_more(stage: &Stage, router: &Router) {
    stage.write("manifests/second.yaml", &service("second", &["198.51.100.8".to_owned()]));
    router.wait_for_table(&[V4, "198.51.100.8/32"]);
}

/// Three hold times later the router has its first session still.
#[track_caller]
fn assert_undisturbed(stage: &Stage, router: &Router, since: Instant) {
    stage.wait("three hold times", || since.elapsed() > Duration::from_secs(9));
    assert!(!router.log().contains(&Entry::Closed));
}

#[test]
fn each_file_of_the_state_folder_that_cannot_be_written_is_a_condition_and_no_end() {
    const FILES: [&str; 4] = ["announced", "boot", "configuration", "established"];
    // Nobody may make a file there, whoever it is.
    let router = Router::start(69, Manner::Ordinary);
    let mut stage = stage();
    std::os::unix::fs::symlink("/sys/kernel", stage.path("state")).unwrap();
    stage.write("herald.yaml", &config(&[Peer { name: "r1", address: router.address, more: "" }], ""));
    let state = stage.path("state").display().to_string();
    stage.start_with("n1", &["--state", &state]);
    router.wait_for_end_of_rib();
    wait_for_failures(&stage, &FILES);
    assert!(stage.ask("/readyz").1.contains("StateFolder boot: cannot write "));
    announce_one_more(&stage, &router);
    // It is mounted at last; what is odd in it is no obstacle, but for a folder in the way of one file.
    fs::create_dir_all(stage.path("mounted/established.new")).unwrap();
    for pipe in ["mounted/announced", "mounted/boot.new"] {
        assert!(Command::new("mkfifo").arg(stage.path(pipe)).status().unwrap().success());
    }
    stage.remove("state");
    std::os::unix::fs::symlink("mounted", stage.path("state")).unwrap();
    wait_for_failures(&stage, &["established"]);
    fs::remove_dir(stage.path("state/established.new")).unwrap();
    stage.wait("no condition", || !stage.ask("/readyz").1.contains("StateFolder"));
    assert!(stage.ask("/metrics").1.contains("herald_conditions{reason=\"StateFolder\"} 0.0"));
    for file in FILES {
        assert!(fs::read_to_string(stage.path("state").join(file)).unwrap().starts_with(&format!("herald {file} 1\n")));
    }
    assert!(!router.log().contains(&Entry::Closed));
    assert!(stage.stop().0.success());
}

#[test]
fn a_disk_that_is_full_costs_no_session_and_no_route_and_is_said_until_there_is_room() {
    let router = Router::start(178, Manner::Ordinary);
    let mut stage = keeping(&router);
    stage.wait("the state", || stage.path("state/established").exists());
    let room = |octets: &str| {
        let limit = format!("--fsize={octets}:unlimited");
        assert!(Command::new("prlimit").args(["--pid", &stage.pid().to_string(), &limit]).status().unwrap().success());
    };
    // Nothing that the process writes may grow: its log neither.
    room("0");
    let since = Instant::now();
    announce_one_more(&stage, &router);
    stage.write("herald.yaml", &(fs::read_to_string(stage.path("herald.yaml")).unwrap() + "reload: {patience: 5s}\n"));
    stage.signal("HUP");
    wait_for_failures(&stage, &["announced", "configuration"]);
    assert_undisturbed(&stage, &router, since);
    room("unlimited");
    stage.wait("no condition", || !stage.ask("/readyz").1.contains("StateFolder"));
    assert!(fs::read_to_string(stage.path("state/announced")).unwrap().contains("198.51.100.8/32"));
    assert!(fs::read_to_string(stage.path("state/configuration")).unwrap().contains("patience"));
    assert!(stage.stop().0.success());
}

#[test]
fn a_state_folder_that_hangs_holds_up_neither_sessions_nor_routes_nor_the_end() {
    let router = Router::start(179, Manner::Ordinary);
    let stage = keeping(&router);
    stage.wait("the state", || stage.path("state/established").exists());
    let held = Standing::still(stage.pid(), "state");
    let since = Instant::now();
    announce_one_more(&stage, &router);
    wait_for_failures(&stage, &["announced"]);
    assert!(stage.ask("/readyz").1.contains("takes longer than 2 s"));
    // Neither is the file that control follows.
    stage.write("herald.yaml", "asn: [");
    stage.signal("HUP");
    stage.wait("a look at the file", || stage.ask("/readyz").1.contains("ConfigurationRefused"));
    assert_undisturbed(&stage, &router, since);
    drop(held);
    stage.wait("no condition", || !stage.ask("/readyz").1.contains("StateFolder"));
    assert!(fs::read_to_string(stage.path("state/announced")).unwrap().contains("198.51.100.8/32"));

    let _held = Standing::still(stage.pid(), "state");
    stage.remove("manifests/second.yaml");
    wait_for_failures(&stage, &["announced"]);
    let began = Instant::now();
    stage.signal("TERM");
    router.wait("its end", |log| log.contains(&Entry::Closed));
    // A thread that a debugger holds keeps the process from being buried, but not from dying.
    stage.wait("the end of the process", || {
        fs::read_to_string(format!("/proc/{}/stat", stage.pid())).is_ok_and(|stat| stat.contains(") Z "))
    });
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
}
