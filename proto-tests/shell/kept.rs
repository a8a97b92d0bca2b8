//! A restart on a file that is refused.

use crate::process::{Peer, Stage, config, node, service};
use crate::router::{Entry, Manner, Router};
use std::fs;
use std::os::unix::fs::PermissionsExt;

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

#[test]
fn a_state_folder_that_cannot_be_written_is_a_condition_and_no_end() {
    let router = Router::start(69, Manner::Ordinary);
    let mut stage = stage();
    stage.write("state", "a file in its place");
    stage.write("herald.yaml", &config(&[Peer { name: "r1", address: router.address, more: "" }], ""));
    let state = stage.path("state").display().to_string();
    stage.start_with("n1", &["--state", &state]);
    router.wait_for_end_of_rib();
    stage.wait("the condition", || stage.ask("/readyz").1.contains("StateFolder configuration: cannot write "));
    stage.remove("state");
    stage.wait("no condition", || !stage.ask("/readyz").1.contains("StateFolder"));
    assert!(stage.path("state/configuration").exists());
    assert!(stage.stop().0.success());
}
