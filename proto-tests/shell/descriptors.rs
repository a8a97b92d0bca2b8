//! Few descriptors and many peers.

use crate::process::{Peer, Stage, config, node, service};
use crate::router::{Entry, Manner, PATIENCE, Router, newest, table};
use std::io::Write;
use std::net::{Ipv4Addr, TcpStream};
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

const PEERS: u8 = 100;
const ROUTE: &str = "198.51.100.1/32";
const OTHER: &str = "198.51.100.2/32";

fn routers() -> Vec<Router> {
    (1..=PEERS).map(|n| Router::start_at(Ipv4Addr::new(127, 0, 9, n).into(), Manner::Ordinary, None)).collect()
}

fn configuration(routers: &[Router]) -> String {
    let names: Vec<String> = (0..routers.len()).map(|n| format!("r{n:03}")).collect();
    let peers = routers.iter().zip(&names).map(|(router, name)| Peer { name, address: router.address, more: "" });
    config(&peers.collect::<Vec<_>>(), "")
}

/// A speaker that may have `soft` descriptors, and may ask for as many as `hard`.
fn limited(routers: &[Router], soft: u32, hard: u32) -> Stage {
    let mut stage = Stage::new();
    stage.write("manifests/node.yaml", &node("n1", ""));
    stage.write("manifests/one.yaml", &service("one", &["198.51.100.1".to_owned()]));
    stage.write("herald.yaml", &configuration(routers));
    let speak = stage.speak("n1");
    let mut command = Command::new("prlimit");
    command.arg(format!("--nofile={soft}:{hard}")).arg(speak.get_program()).args(speak.get_args());
    stage.start_command(command);
    stage
}

fn has(router: &Router, route: &str) -> bool {
    table(newest(&router.log())).contains(route)
}

fn fell(router: &Router) -> bool {
    let log = router.log();
    log.iter().skip_while(|entry| !matches!(entry, Entry::Up)).any(|entry| matches!(entry, Entry::Closed))
}

#[test]
fn with_few_descriptors_sessions_that_are_up_stay_and_the_rest_say_why() {
    let routers = routers();
    let stage = limited(&routers, 64, 64);
    stage.wait("the shortage to be said", || stage.ask("/readyz").1.contains("DescriptorsShort"));
    // Whoever has its session keeps it, and is told what is new.
    let up = || routers.iter().filter(|router| has(router, ROUTE)).collect::<Vec<_>>();
    stage.wait("some sessions", || up().len() >= 15);
    stage.write("manifests/two.yaml", &service("two", &["198.51.100.2".to_owned()]));
    stage.wait("something new to reach each of them", || up().iter().all(|router| has(router, OTHER)));
    assert!(!routers.iter().any(fell), "a session was lost");
    assert!(stage.ask("/healthz").0.contains("200"));
    let metrics = stage.ask("/metrics").1;
    assert!(metrics.contains("herald_conditions{reason=\"DescriptorsShort\"} 1"), "{metrics}");
    let shown = String::from_utf8(stage.show(&["peers"]).stdout).unwrap();
    let waiting = shown.matches("descriptors are short; the process may have 64 descriptors").count();
    assert!(waiting + up().len() >= usize::from(PEERS), "{waiting} say why, {} are up\n{shown}", up().len());
    // Fewer peers, as the words say.
    stage.write("herald.yaml", &configuration(&routers[..5]));
    stage.signal("HUP");
    stage.wait("the shortage to be over", || !stage.ask("/readyz").1.contains("DescriptorsShort"));
    stage.wait("the five to be up", || routers[..5].iter().all(|router| has(router, OTHER)));
}

#[test]
fn a_low_soft_limit_costs_no_session_also_while_the_doors_are_besieged() {
    raise();
    let routers = routers();
    let stage = limited(&routers, 64, 1024);
    stage.wait("all sessions", || routers.iter().all(|router| has(router, ROUTE)));
    let port = stage.port();
    let came = |header: &[u8]| {
        let mut stream = TcpStream::connect_timeout(&port, Duration::from_secs(1)).ok()?;
        stream.set_nonblocking(true).ok()?;
        let _as_much_as_fits = stream.write(header);
        Some(stream)
    };
    let long = [b"GET /healthz HTTP/1.1\r\nX: ".to_vec(), vec![b'a'; 390_000]].concat();
    let mut besiegers: Vec<TcpStream> = (0..868).filter_map(|_| came(&long)).collect();
    besiegers.extend((0..1011).filter_map(|_| came(b"G")));
    stage.write("manifests/two.yaml", &service("two", &["198.51.100.2".to_owned()]));
    stage.wait("something new to reach all", || routers.iter().all(|router| has(router, OTHER)));
    stage.remove("manifests/one.yaml");
    stage.wait("a withdrawal to reach all", || routers.iter().all(|router| !has(router, ROUTE)));
    // Longer than a hold time, an octet each now and then.
    let began = Instant::now();
    while began.elapsed() < Duration::from_secs(10) {
        besiegers.iter_mut().for_each(|stream| drop(stream.write(b"a")));
        thread::sleep(Duration::from_millis(500));
    }
    assert!(!routers.iter().any(fell), "a session was lost");
    let asked = Instant::now();
    assert!(stage.ask("/healthz").0.contains("200"));
    assert!(asked.elapsed() < Duration::from_secs(1), "{:?}", asked.elapsed());
    assert!(!stage.ask("/readyz").1.contains("DescriptorsShort"));
    assert!(began.elapsed() < PATIENCE);
}

/// Both ends of everything are in this process.
fn raise() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum }).unwrap();
}
