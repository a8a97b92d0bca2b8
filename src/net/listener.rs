//! The door for routers that dial us: sockets, and nothing about who is welcome.

use super::socket;
use crate::config::Listen;
use crate::peer::settings::Password;
use ipnetwork::IpNetwork;
use socket2::SockRef;
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, watch};
use tracing::{debug, error, info, warn};

/// Between two attempts to get a port that is taken, or to accept after an error such as too many open files.
const PAUSE: Duration = Duration::from_secs(5);
/// The same after an error of a single connection, which may come in numbers.
const SHORT_PAUSE: Duration = Duration::from_millis(50);

/// A connection that came in.
#[derive(Debug)]
pub struct Accepted {
    /// The connection.
    pub stream: TcpStream,
    /// Who dialled; never a mapped address.
    pub remote: SocketAddr,
}

/// Keys by who must sign with them.
pub type Keys = BTreeMap<IpNetwork, Password>;

/// Listens for ever, on every address of `listen`, and hands over what comes. An address that cannot be had is tried again
/// and again. When nobody takes what comes, the newest connections are closed. From whom a
/// key is asked that could not be installed, nothing is taken.
pub async fn run(listen: Listen, keys: watch::Receiver<Keys>, to: mpsc::Sender<Accepted>) {
    let all = [IpAddr::V4(Ipv4Addr::UNSPECIFIED), IpAddr::V6(Ipv6Addr::UNSPECIFIED)];
    let addresses = if listen.addresses.is_empty() { &all[..] } else { &listen.addresses };
    let doors = addresses.iter().map(|address| serve(SocketAddr::new(*address, listen.port), keys.clone(), to.clone()));
    futures_util::future::join_all(doors).await;
}

async fn serve(address: SocketAddr, mut keys: watch::Receiver<Keys>, to: mpsc::Sender<Accepted>) {
    let listener = bind(address).await;
    let mut lock = Lock::default();
    lock.follow(&listener, address, &keys.borrow_and_update().clone());
    info!(%address, "listening for routers");
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            Ok(()) = keys.changed() => {
                lock.follow(&listener, address, &keys.borrow_and_update().clone());
                continue;
            }
        };
        match accepted {
            Ok((_, remote)) if lock.is_shut_for(remote.ip().to_canonical()) => {
                warn!(%remote, "closed: the key of this router could not be installed");
            }
            Ok((stream, remote)) => {
                let remote = SocketAddr::new(remote.ip().to_canonical(), remote.port());
                if to.try_send(Accepted { stream, remote }).is_err() {
                    debug!(%remote, "too many connections at once; closed");
                }
            }
            Err(error) => {
                let own = matches!(
                    error.kind(),
                    io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset | io::ErrorKind::Interrupted
                );
                warn!(%address, %error, "a connection could not be accepted");
                tokio::time::sleep(if own { SHORT_PAUSE } else { PAUSE }).await;
            }
        }
    }
}

/// The keys of one listening socket.
#[derive(Debug, Default)]
struct Lock {
    installed: Keys,
    failed: BTreeSet<IpNetwork>,
}

impl Lock {
    fn follow(&mut self, listener: &TcpListener, address: SocketAddr, wanted: &Keys) {
        let socket = SockRef::from(listener);
        let fits = |network: &IpNetwork| network.is_ipv4() == address.is_ipv4();
        for network in self.installed.keys().filter(|network| !wanted.contains_key(network)) {
            // One that stays installed shuts its router out, which is the safe side.
            let _kept = socket::sign(&socket, *network, None);
        }
        self.failed.clear();
        for (network, password) in wanted.iter().filter(|(network, _)| fits(network)) {
            if self.installed.get(network) == Some(password) {
                continue;
            }
            if let Err(error) = socket::sign(&socket, *network, Some(password)) {
                error!("cannot install the password of {network} on {address}: {error}; nothing is taken from there");
                self.failed.insert(*network);
            }
        }
        self.installed = wanted
            .iter()
            .filter(|(network, _)| fits(network) && !self.failed.contains(network))
            .map(|(network, password)| (*network, password.clone()))
            .collect();
    }

    fn is_shut_for(&self, remote: IpAddr) -> bool {
        self.failed.iter().any(|network| network.contains(remote))
    }
}

async fn bind(address: SocketAddr) -> TcpListener {
    let mut told = String::new();
    loop {
        let error = match socket::listen(address) {
            Ok(listener) => return listener,
            Err(error) => explain(address, &error),
        };
        if error != told {
            error!("cannot listen on {address}: {error}");
            told = error;
        }
        tokio::time::sleep(PAUSE).await;
    }
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

    #[tokio::test]
    async fn both_families_are_served_and_what_nobody_takes_is_closed() {
        use tokio::io::AsyncReadExt;
        let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let (to, mut from) = mpsc::channel(1);
        let listen = Listen { port: free, addresses: vec!["127.0.0.1".parse().unwrap(), "::1".parse().unwrap()] };
        let (_keys, keys) = watch::channel(Keys::new());
        let door = tokio::spawn(run(listen, keys, to));
        let dial = async |ip: &str| {
            let address = SocketAddr::new(ip.parse().unwrap(), free);
            loop {
                match TcpStream::connect(address).await {
                    Ok(stream) => return stream,
                    Err(_) => tokio::task::yield_now().await,
                }
            }
        };
        for ip in ["127.0.0.1", "::1"] {
            let stream = dial(ip).await;
            let accepted = from.recv().await.unwrap();
            assert_eq!(accepted.remote, stream.local_addr().unwrap());
        }
        // The first waits in the queue; the second finds it full.
        let _first = dial("127.0.0.1").await;
        let mut second = dial("127.0.0.1").await;
        assert_eq!(second.read(&mut [0]).await.unwrap_or(0), 0);
        assert!(from.recv().await.is_some());
        door.abort();
    }

    #[test]
    fn a_port_that_cannot_be_had_is_explained() {
        let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build().unwrap();
        let _guard = runtime.enter();
        let address = taken.local_addr().unwrap();
        assert!(explain(address, &socket::listen(address).unwrap_err()).contains("another process has it"));
        let foreign = "198.51.100.77:0".parse().unwrap();
        assert!(explain(foreign, &socket::listen(foreign).unwrap_err()).contains("no address of this node"));
    }
}
