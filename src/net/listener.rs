//! The door for routers that dial us: sockets, who must show what, and how many may wait.

use super::connection::canonical;
use super::descriptors::{self, For};
use super::syn::Syn;
use super::{links, socket};
use crate::condition::{Conditions, Reason};
use crate::config::Listen;
use crate::peer::settings::Password;
use crate::wire::{CeaseSubcode, Notification};
use ipnetwork::IpNetwork;
use socket2::{Domain, Protocol, SockAddr, SockRef, Socket, Type};
use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, watch};
use tracing::{debug, error, info, warn};

/// Between two attempts to get a port that is taken.
const PAUSE: Duration = Duration::from_secs(5);
/// After an error of accepting, such as too many open files: until one may have been closed.
const ACCEPT_PAUSE: Duration = Duration::from_secs(1);
/// The same after an error of a single connection, which may come in numbers.
const SHORT_PAUSE: Duration = Duration::from_millis(50);
/// Connections that may wait in the kernel, as far as the sysctl net.core.somaxconn allows.
const BACKLOG: i32 = 1024;
/// Connections of one router that may wait to be looked at. A router dials once at a time.
const WAITING_PER_SOURCE: usize = 4;

/// A connection that came in.
#[derive(Debug)]
pub struct Accepted {
    /// The connection.
    pub stream: TcpStream,
    /// Who dialled; never a mapped address. One that is link-local has its scope.
    pub remote: SocketAddr,
    /// The SYN that began it, where the kernel kept it.
    pub syn: Option<Syn>,
    /// Counts, as long as it lives, as one of its router's that wait.
    _waits: Arc<()>,
}

impl Accepted {
    /// Turns it away, with a Cease that says why (RFC 4271 §6.7).
    pub async fn refuse(self, why: CeaseSubcode) {
        links::turn_away(self.stream, Notification::bare(6, why as u8)).await;
    }

    /// The same for one of very many: what it said so far is read, and what it says from now on may cost it the reason.
    pub fn refuse_at_once(self, why: CeaseSubcode) {
        links::turn_away_at_once(self.stream, Notification::bare(6, why as u8));
    }
}

/// Who may come in, and what each must show. Nobody else is answered.
pub type Rules = BTreeMap<IpNetwork, Rule>;

/// What routers of an address or block must show.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rule {
    /// The key that they sign with.
    pub key: Key,
    /// The least TTL of what they send; 0: any. The listening socket asks the least of all its rules, each connection its own.
    pub least_ttl: u8,
}

/// The key of a rule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Key {
    /// They need not sign.
    None,
    /// This one.
    Password(Password),
    /// One that is not known, or that Linux cannot ask for: nothing is taken from them.
    Unusable,
}

/// Keys that could not be installed, by address and by where we listen, in words.
pub type Failures = BTreeMap<(IpNetwork, SocketAddr), String>;

/// What a door follows, and tells.
#[derive(Clone)]
pub struct Lines {
    /// Who may come in.
    pub rules: watch::Receiver<Rules>,
    /// Connections.
    pub to: mpsc::Sender<Accepted>,
    /// Keys that could not be installed.
    pub failures: watch::Sender<Failures>,
    /// Where it cannot be listened.
    pub conditions: watch::Sender<Conditions>,
}

/// Listens for ever, on every address of `listen`, and hands over what comes from routers that are expected. An address that
/// cannot be had is tried again and again. What nobody takes yet waits; whoever takes it makes room, and does so at once. From
/// whom a key is asked that could not be installed, nothing is taken.
pub async fn run(listen: Listen, lines: Lines) {
    let all = [IpAddr::V4(Ipv4Addr::UNSPECIFIED), IpAddr::V6(Ipv6Addr::UNSPECIFIED)];
    let addresses = if listen.addresses.is_empty() { &all[..] } else { &listen.addresses };
    let doors = addresses.iter().map(|address| serve(SocketAddr::new(*address, listen.port), lines.clone()));
    futures_util::future::join_all(doors).await;
}

async fn serve(address: SocketAddr, mut lines: Lines) {
    let (listener, mut lock) = open(address, &mut lines).await;
    let mut turnstile = Turnstile::default();
    info!(%address, "listening for routers");
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            Ok(()) = lines.rules.changed() => {
                lock.follow(&SockRef::from(&listener), &lines.rules.borrow_and_update().clone());
                lock.report(&lines.failures);
                continue;
            }
        };
        match accepted {
            Ok((stream, remote)) => {
                let remote = canonical(remote);
                match lock.welcome(remote.ip()).and_then(|of| Ok((of, turnstile.enter(remote.ip())?))) {
                    Ok((of, _)) if descriptors::is_kept(&stream, of) => {
                        debug!(%remote, "a connection is closed: descriptors are short");
                        links::turn_away_at_once(stream, Notification::bare(6, CeaseSubcode::OutOfResources as u8));
                    }
                    Ok((_, waits)) => hand_over(stream, remote, waits, &lines.to).await,
                    Err(why) => debug!(%remote, why, "a connection is closed"),
                }
            }
            Err(error) => {
                let own = matches!(
                    error.kind(),
                    io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset | io::ErrorKind::Interrupted
                );
                warn!(%address, %error, "a connection could not be accepted");
                tokio::time::sleep(if own { SHORT_PAUSE } else { ACCEPT_PAUSE }).await;
            }
        }
    }
}

/// Waits until there is a place: hundreds of routers may dial at once, and none is closed for that. Only who has come asks for
/// one: a door that nobody dials would keep it from another that is dialled.
async fn hand_over(stream: TcpStream, remote: SocketAddr, waits: Arc<()>, to: &mpsc::Sender<Accepted>) {
    // What cannot be read is like what was not kept: whoever must show something is not let in.
    let syn = socket::saved_syn(&stream).ok().flatten();
    // Without a reader the door is about to close.
    let _closing = to.send(Accepted { stream, remote, syn, _waits: waits }).await;
}

/// Counts what waits, so that one router's flood fills no place of another's.
#[derive(Debug, Default)]
struct Turnstile {
    waiting: BTreeMap<IpAddr, Arc<()>>,
}

impl Turnstile {
    /// A place for one more connection of a router, which is taken as long as what is returned lives.
    fn enter(&mut self, router: IpAddr) -> Result<Arc<()>, &'static str> {
        self.waiting.retain(|_, waits| Arc::strong_count(waits) > 1);
        let waits = self.waiting.entry(router).or_default();
        // One count is the turnstile's own.
        if Arc::strong_count(waits) > WAITING_PER_SOURCE {
            return Err("as many connections of this router wait as may");
        }
        Ok(Arc::clone(waits))
    }
}

/// What one listening socket asks.
#[derive(Debug)]
struct Lock {
    address: SocketAddr,
    rules: Rules,
    installed: BTreeMap<IpNetwork, Password>,
    failed: BTreeMap<IpNetwork, String>,
}

impl Lock {
    fn new(address: SocketAddr) -> Self {
        Self { address, rules: Rules::new(), installed: BTreeMap::new(), failed: BTreeMap::new() }
    }

    /// Has the socket ask for what the rules of its family say.
    fn follow(&mut self, socket: &Socket, wanted: &Rules) {
        let family = self.address.ip();
        self.rules = wanted.iter().filter(|(network, _)| network.is_ipv4() == family.is_ipv4()).map(cloned).collect();
        let keys: BTreeMap<IpNetwork, &Password> = self
            .rules
            .iter()
            .filter_map(|(network, rule)| match &rule.key {
                Key::Password(password) => Some((*network, password)),
                Key::None | Key::Unusable => None,
            })
            .collect();
        for network in self.installed.keys().filter(|network| !keys.contains_key(network)) {
            // One that stays installed shuts its router out, which is the safe side.
            let _kept = socket::sign(socket, *network, None);
        }
        self.installed.retain(|network, _| keys.contains_key(network));
        self.failed.clear();
        for (network, password) in keys {
            if self.installed.get(&network) == Some(password) {
                continue;
            }
            match socket::sign(socket, network, Some(password)) {
                Ok(()) => drop(self.installed.insert(network, password.clone())),
                Err(error) => {
                    let why = format!("the password cannot be installed on {}: {}", self.address, no_room(&error));
                    error!("{network}: {why}; nothing is taken from there");
                    self.failed.insert(network, why);
                }
            }
        }
        let least = self.rules.values().map(|rule| rule.least_ttl).min().unwrap_or(0);
        if let Err(error) = socket::set_least_ttl(socket, &family, least) {
            // Each connection is still asked for its own.
            warn!(address = %self.address, %error, "the listening socket takes no TTL guard");
        }
    }

    /// Tells which keys could not be installed here, and takes back what was told before.
    fn report(&self, to: &watch::Sender<Failures>) {
        let here = |(network, why): (&IpNetwork, &String)| ((*network, self.address), why.clone());
        to.send_if_modified(|all| {
            let before = all.clone();
            all.retain(|(_, at), _| *at != self.address);
            all.extend(self.failed.iter().map(here));
            *all != before
        });
    }

    /// Whether a router may come in, and as what: the narrowest rule decides.
    fn welcome(&self, router: IpAddr) -> Result<For, &'static str> {
        let of = self.rules.iter().filter(|(network, _)| network.contains(router));
        match of.max_by_key(|(network, _)| network.prefix()) {
            None => Err("it comes from no peer of this node"),
            Some((_, Rule { key: Key::Unusable, .. })) => Err("the key of this router cannot be used"),
            Some((network, _)) if self.failed.contains_key(network) => Err("the key of this router is not installed"),
            Some((network, _)) if network.prefix() == IpNetwork::from(router).prefix() => Ok(For::Peer),
            Some(_) => Ok(For::Member),
        }
    }
}

fn cloned((network, rule): (&IpNetwork, &Rule)) -> (IpNetwork, Rule) {
    (*network, rule.clone())
}

/// The kernel's error about a key in words. Keys of a socket take of a small allowance.
fn no_room(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::OutOfMemory => format!("too many keys for the sysctl net.core.optmem_max, raise it ({error})"),
        _ => error.to_string(),
    }
}

/// A listening socket that asks for what it must from its first SYN on.
async fn open(address: SocketAddr, lines: &mut Lines) -> (TcpListener, Lock) {
    let subject = address.to_string();
    loop {
        let mut lock = Lock::new(address);
        let opened = bind(address).and_then(|socket| {
            lock.follow(&socket, &lines.rules.borrow_and_update().clone());
            socket.listen(BACKLOG)?;
            TcpListener::from_std(socket.into())
        });
        match opened.map_err(|error| explain(address, &error)) {
            Ok(listener) => {
                lines.conditions.send_if_modified(|mine| {
                    let failed = mine.contains(Reason::ListenFailed, &subject);
                    mine.clear(Reason::ListenFailed, &subject);
                    failed
                });
                lock.report(&lines.failures);
                return (listener, lock);
            }
            Err(error) => {
                lines.conditions.send_if_modified(|mine| {
                    let before = mine.clone();
                    mine.set(Reason::ListenFailed, &subject, format!("cannot listen: {error}"));
                    *mine != before
                });
            }
        }
        tokio::time::sleep(PAUSE).await;
    }
}

/// A socket that is bound and does not listen yet. What it sends leaves with the largest TTL: a router that guards its
/// session (RFC 5082) would not see another.
fn bind(address: SocketAddr) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_nonblocking(true)?;
    socket.set_reuse_address(true)?;
    match address {
        SocketAddr::V4(_) => socket.set_ttl_v4(255)?,
        SocketAddr::V6(_) => {
            socket.set_only_v6(true)?;
            socket.set_unicast_hops_v6(255)?;
        }
    }
    socket::mark_as_network_control(&socket, &address.ip())?;
    socket::save_syns(&socket)?;
    socket.bind(&SockAddr::from(address))?;
    Ok(socket)
}

fn explain(address: SocketAddr, error: &io::Error) -> String {
    let hint = match error.kind() {
        io::ErrorKind::PermissionDenied if address.port() < 1024 => {
            "this process may not use a port below 1024: set the sysctl net.ipv4.ip_unprivileged_port_start on the node, \
             or listen on another port"
        }
        io::ErrorKind::AddrInUse => "another process has it: is another BGP speaker running on this node?",
        io::ErrorKind::AddrNotAvailable => "it is no address of this node",
        _ => return error.to_string(),
    };
    format!("{hint} ({error})")
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::AsyncReadExt;

    fn rule(least_ttl: u8) -> Rule {
        Rule { key: Key::None, least_ttl }
    }

    /// A door on a free port of both loopback addresses.
    struct Scene {
        port: u16,
        rules: watch::Sender<Rules>,
        failures: watch::Receiver<Failures>,
        conditions: watch::Receiver<Conditions>,
        from: mpsc::Receiver<Accepted>,
        door: tokio::task::JoinHandle<()>,
    }

    impl Scene {
        fn new(queue: usize, rules: &[(&str, Rule)]) -> Self {
            let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
            let (to, from) = mpsc::channel(queue);
            let rules = rules.iter().map(|(network, rule)| (network.parse().unwrap(), rule.clone())).collect();
            let (rules, rules_read) = watch::channel(rules);
            let (failures, failures_read) = watch::channel(Failures::new());
            let (conditions, conditions_read) = watch::channel(Conditions::default());
            let listen = Listen { port, addresses: vec!["127.0.0.1".parse().unwrap(), "::1".parse().unwrap()] };
            let door = tokio::spawn(run(listen, Lines { rules: rules_read, to, failures, conditions }));
            Self { port, rules, failures: failures_read, conditions: conditions_read, from, door }
        }

        /// Dials until somebody listens.
        async fn dial(&self, ip: &str) -> TcpStream {
            let address = SocketAddr::new(ip.parse().unwrap(), self.port);
            loop {
                match TcpStream::connect(address).await {
                    Ok(stream) => return stream,
                    Err(_) => tokio::task::yield_now().await,
                }
            }
        }
    }

    impl Drop for Scene {
        fn drop(&mut self) {
            self.door.abort();
        }
    }

    #[tokio::test]
    async fn both_families_are_served_and_what_nobody_takes_yet_waits() {
        let mut scene = Scene::new(1, &[("127.0.0.1/32", rule(0)), ("::1/128", rule(0))]);
        for ip in ["127.0.0.1", "::1"] {
            let stream = scene.dial(ip).await;
            let accepted = scene.from.recv().await.unwrap();
            assert_eq!(accepted.remote, stream.local_addr().unwrap());
            assert_eq!(accepted.syn, Some(Syn { ttl: 64, signed: false }));
        }
        assert!(scene.conditions.borrow().lines().is_empty());
    }

    #[tokio::test]
    async fn of_hundreds_that_dial_at_once_none_is_closed() {
        let mut scene = Scene::new(1, &[("127.0.0.0/8", rule(0))]);
        let first = scene.dial("127.0.0.1").await;
        let mut dialled = vec![first];
        for host in 1..=250 {
            let socket = tokio::net::TcpSocket::new_v4().unwrap();
            socket.bind(SocketAddr::from(([127, 0, 3, host], 0))).unwrap();
            dialled.push(socket.connect(SocketAddr::from(([127, 0, 0, 1], scene.port))).await.unwrap());
        }
        for stream in &dialled {
            assert_eq!(scene.from.recv().await.unwrap().remote, stream.local_addr().unwrap());
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_port_that_cannot_be_had_is_a_condition_until_it_can() {
        let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = taken.local_addr().unwrap();
        let (conditions, mut seen) = watch::channel(Conditions::default());
        let (to, _from) = mpsc::channel(1);
        let lines = Lines {
            rules: watch::channel(Rules::new()).1,
            to,
            failures: watch::channel(Failures::new()).0,
            conditions,
        };
        let listen = Listen { port: address.port(), addresses: vec![address.ip()] };
        let door = tokio::spawn(run(listen, lines));
        let failed = |now: &Conditions| now.contains(Reason::ListenFailed, &address.to_string());
        let words = seen.wait_for(failed).await.unwrap().lines().concat();
        assert!(words.contains("another process has it"), "{words}");
        drop(taken);
        seen.wait_for(|now| !failed(now)).await.unwrap();
        door.abort();
    }

    #[tokio::test]
    async fn strangers_and_those_whose_key_is_no_good_take_no_place() {
        let unusable = Rule { key: Key::Unusable, least_ttl: 0 };
        let mut scene = Scene::new(8, &[("127.0.0.0/8", rule(0)), ("127.0.0.1/32", unusable)]);
        for ip in ["127.0.0.1", "::1"] {
            let mut closed = scene.dial(ip).await;
            assert_eq!(closed.read(&mut [0]).await.unwrap_or(0), 0, "{ip}");
        }
        assert!(scene.from.try_recv().is_err());
        // What the rules let in later is let in.
        scene.rules.send_replace([("127.0.0.1/32".parse().unwrap(), rule(0))].into());
        loop {
            let _stream = scene.dial("127.0.0.1").await;
            if tokio::time::timeout(Duration::from_millis(50), scene.from.recv()).await.is_ok() {
                break;
            }
        }
    }

    #[tokio::test]
    async fn a_flood_from_one_router_leaves_places_for_the_others() {
        let mut scene = Scene::new(64, &[("127.0.0.1/32", rule(0)), ("::1/128", rule(0))]);
        let mut flood = Vec::new();
        for _ in 0..100 {
            flood.push(scene.dial("127.0.0.1").await);
        }
        let healthy = scene.dial("::1").await;
        let mut of_flood = Vec::new();
        loop {
            let accepted = scene.from.recv().await.unwrap();
            if accepted.remote == healthy.local_addr().unwrap() {
                break;
            }
            of_flood.push(accepted);
        }
        assert_eq!(of_flood.len(), WAITING_PER_SOURCE);
        // Once those were looked at there is room again.
        drop(of_flood);
        let again = scene.dial("127.0.0.1").await;
        assert_eq!(scene.from.recv().await.unwrap().remote, again.local_addr().unwrap());
    }

    #[tokio::test]
    async fn the_listening_socket_asks_the_least_of_its_rules_and_signs_from_the_first_syn() {
        let address: SocketAddr = "127.0.0.1:0".parse().unwrap();
        let socket = bind(address).unwrap();
        let mut lock = Lock::new(address);
        let least = || socket::least_ttl(&socket, &address.ip()).unwrap();
        let network = |text: &str| text.parse::<IpNetwork>().unwrap();
        let key = Rule { key: Key::Password(Password::new(b"key").unwrap()), least_ttl: 254 };
        lock.follow(&socket, &[(network("127.0.0.1/32"), rule(255)), (network("10.0.0.0/8"), key.clone())].into());
        assert_eq!(least(), 254);
        lock.follow(&socket, &[(network("127.0.0.1/32"), rule(255)), (network("::1/128"), rule(0))].into());
        assert_eq!(least(), 255, "rules of the other family do not count");
        lock.follow(&socket, &[(network("127.0.0.1/32"), rule(0)), (network("127.0.0.0/8"), key.clone())].into());
        assert_eq!(least(), 0);
        lock.follow(&socket, &[(network("127.0.0.0/8"), Rule { least_ttl: 0, ..key })].into());
        socket.listen(BACKLOG).unwrap();
        let listener = TcpListener::from_std(socket.into()).unwrap();
        let to = listener.local_addr().unwrap();
        let unsigned = tokio::time::timeout(Duration::from_millis(200), TcpStream::connect(to)).await;
        assert!(unsigned.is_err(), "unsigned, and answered");
        // The rule goes, and its key with it.
        lock.follow(&SockRef::from(&listener), &[(network("127.0.0.0/8"), rule(0))].into());
        TcpStream::connect(to).await.unwrap();
    }

    #[tokio::test]
    async fn a_key_that_cannot_be_installed_is_told_and_its_router_shut_out() {
        let scene = Scene::new(8, &[]);
        // Far more than the kernel allows a socket by itself (net.core.optmem_max, 128 KiB as a rule).
        let key = |n: u32| Rule { key: Key::Password(Password::new(&n.to_be_bytes()).unwrap()), least_ttl: 0 };
        let networks = (0..20_000).map(|n| IpNetwork::from(IpAddr::from(Ipv4Addr::from_bits(0x0A00_0000 + n))));
        scene.rules.send_replace(networks.zip(0..).map(|(network, n)| (network, key(n))).collect());
        let mut failures = scene.failures.clone();
        let failed = failures.wait_for(|failures| !failures.is_empty()).await.unwrap().clone();
        let ((network, _), why) = failed.first_key_value().unwrap();
        assert!(why.contains("optmem_max"), "{why}");
        let mut lock = Lock::new("127.0.0.1:0".parse().unwrap());
        lock.rules.insert(*network, key(1));
        lock.failed.insert(*network, why.clone());
        assert!(lock.welcome(network.ip()).is_err());
        scene.rules.send_replace(Rules::new());
        failures.wait_for(Failures::is_empty).await.unwrap();
    }

    #[test]
    fn a_port_that_cannot_be_had_is_explained() {
        let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = taken.local_addr().unwrap();
        let listen = |address| bind(address).and_then(|socket| socket.listen(1)).unwrap_err();
        assert!(explain(address, &listen(address)).contains("another process has it"));
        let foreign = "198.51.100.77:0".parse().unwrap();
        assert!(explain(foreign, &listen(foreign)).contains("no address of this node"));
    }
}
