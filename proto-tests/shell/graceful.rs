//! Graceful restart: what routers see of a process that goes and of the one that comes.

use crate::process::{Peer, Stage, config, node, service};
use crate::router::{Entry, Manner, Router, newest, told};
use herald::wire::capability::GracefulRestart;

const V4: &str = "198.51.100.7/32";

fn stage(router: &Router) -> Stage {
    let stage = Stage::new();
    stage.write("manifests/node.yaml", &node("n1", ""));
    stage.write("manifests/web.yaml", &service("web", &["198.51.100.7".to_owned()]));
    stage.write("herald.yaml", &with_graceful_restart(router));
    stage
}

fn with_graceful_restart(router: &Router) -> String {
    config(&[Peer { name: "r1", address: router.address, more: "  gracefulRestart: {restartTime: 77s}\n" }], "")
}

/// What the newest OPEN says.
fn offer(log: &[Entry]) -> GracefulRestart {
    let mut opens = log.iter().filter_map(|entry| match entry {
        Entry::Open(offer) => Some(offer.clone()),
        _ => None,
    });
    opens.next_back().flatten().expect("graceful restart is offered")
}

fn sessions(log: &[Entry]) -> usize {
    log.iter().filter(|entry| **entry == Entry::Up).count()
}

#[test]
fn a_process_that_is_replaced_says_nothing_and_the_next_one_says_that_it_restarted() {
    let router = Router::start(91, Manner::Graceful);
    let mut stage = stage(&router);
    for process in 1..=2 {
        stage.start("n1");
        router.wait("another session", |log| sessions(log) == process);
        let log = router.wait_for_end_of_rib();
        router.wait_for_table(&[V4]);
        let said = offer(&log);
        assert!(said.restarted && said.notification && said.restart_time == 77, "{said:?}");
        let (status, took) = stage.stop();
        assert_eq!(status.code(), Some(0));
        assert!(took.as_secs_f64() < 2.0, "{took:?}");
        let log = router.wait("the end of it", |log| log.last() == Some(&Entry::Closed));
        let quiet = |entry: &Entry| matches!(entry, Entry::Notification { .. } | Entry::Withdraw(_));
        assert!(!newest(&log).iter().any(quiet), "{log:?}");
    }
}

#[test]
fn a_changed_session_is_reset_plainly_and_does_not_claim_a_restart_and_a_removed_one_is_reset_hard() {
    let router = Router::start(92, Manner::Graceful);
    let mut stage = stage(&router);
    stage.start("n1");
    router.wait_for_end_of_rib();
    router.wait_for_table(&[V4]);
    stage.write("herald.yaml", &with_graceful_restart(&router).replace("77s", "78s"));
    stage.signal("HUP");
    router.wait("another session", |log| sessions(log) == 2);
    let log = router.wait_for_end_of_rib();
    assert!(told(&log, (6, 6)));
    let said = offer(&log);
    assert!(!said.restarted && said.restart_time == 78 && said.families.iter().all(|f| f.preserved), "{said:?}");
    stage.write("herald.yaml", &config(&[], "").replace("peers:\n", "peers: []\n"));
    stage.signal("HUP");
    let log = router.wait("a Hard Reset", |log| told(log, (6, 9)));
    let at = |wanted: &dyn Fn(&Entry) -> bool| newest(&log).iter().position(wanted);
    let withdrawn = at(&|entry| *entry == Entry::Withdraw(V4.to_owned()));
    let reset = at(&|entry| matches!(entry, Entry::Notification { code: 6, subcode: 9, .. }));
    assert!(withdrawn.is_some() && withdrawn < reset, "{log:?}");
}

#[test]
fn the_state_folder_tells_a_restart_from_a_boot() {
    let router = Router::start(93, Manner::Graceful);
    let mut stage = stage(&router);
    let state = stage.path("state");
    for (written, preserved) in [(None, None), (None, Some(true)), (Some("another"), Some(false))] {
        if let Some(boot) = written {
            // As a process of an earlier boot left it.
            let sum = boot.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash: u64, octet| {
                (hash ^ u64::from(octet)).wrapping_mul(0x0100_0000_01b3)
            });
            std::fs::write(state.join("boot"), format!("herald boot 1\n{boot}\n{sum:016x}\n")).unwrap();
        }
        let sessions_before = sessions(&router.log());
        stage.start_with("n1", &["--state", state.to_str().unwrap()]);
        router.wait("a session", |log| sessions(log) == sessions_before + 1);
        let said = offer(&router.wait_for_end_of_rib());
        // The first process knows nothing: what it says depends on how long this machine has been up.
        if let Some(preserved) = preserved {
            assert!(said.families.iter().all(|family| family.preserved == preserved), "{said:?}");
        }
        stage.stop();
    }
}
