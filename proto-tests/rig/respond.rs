//! What stands behind a service address: a responder that says which node answered.
//!
//! TCP: the node's name and a newline at once, then an echo of whatever comes. UDP: the node's name, a space, and the
//! datagram itself. Both are bound to the service addresses, so that an answer carries the address that was asked.

use super::Outcome;
use super::net::Namespace;
use std::io::{ErrorKind, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::channel;
use std::thread::{self, JoinHandle};
use std::time::Duration;

/// How long a responder sleeps at most before it looks whether it shall end.
const PATIENCE: Duration = Duration::from_millis(250);

/// Responders in one namespace; they end when this is dropped.
#[derive(Debug)]
pub struct Responder {
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<Outcome<()>>>,
}

impl Responder {
    /// Answers on these addresses, which must be there already, on one port for TCP and UDP alike.
    ///
    /// # Errors
    /// An address could not be bound.
    pub fn start(space: &Namespace, node: &str, addresses: &[IpAddr], port: u16) -> Outcome<Self> {
        let mut responder = Self { stop: Arc::new(AtomicBool::new(false)), threads: Vec::new() };
        for &address in addresses {
            let at = SocketAddr::new(address, port);
            let bound = space
                .inside(move || Ok((TcpListener::bind(at)?, UdpSocket::bind(at)?)))?
                .map_err(|e: std::io::Error| format!("{at} in {} could not be bound: {e}", space.short()))?;
            responder.serve(space, node, bound)?;
        }
        Ok(responder)
    }

    fn serve(&mut self, space: &Namespace, node: &str, (tcp, udp): (TcpListener, UdpSocket)) -> Outcome {
        // Linux lets a receive time-out bound accept() as well.
        let timeouts =
            socket2::SockRef::from(&tcp).set_read_timeout(Some(PATIENCE)).and(udp.set_read_timeout(Some(PATIENCE)));
        timeouts.map_err(|e| format!("no time-out for a responder: {e}"))?;
        let (name, stop) = (node.to_owned(), Arc::clone(&self.stop));
        self.threads.push(space.thread("respond-tcp", move || accept(&tcp, &name, &stop)));
        let (name, stop) = (node.to_owned(), Arc::clone(&self.stop));
        self.threads.push(space.thread("respond-udp", move || answer(&udp, &name, &stop)));
        Ok(())
    }
}

impl Drop for Responder {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            let _panicked = thread.join();
        }
    }
}

fn accept(listener: &TcpListener, node: &str, stop: &Arc<AtomicBool>) {
    let (done, all_done) = channel::<()>();
    while !stop.load(Ordering::Relaxed) {
        if let Ok((stream, _)) = listener.accept() {
            let (name, stop, done) = (node.to_owned(), Arc::clone(stop), done.clone());
            thread::spawn(move || {
                let _client_left = echo(stream, &name, &stop);
                drop(done);
            });
        }
    }
    drop(done);
    let _every_connection_ended = all_done.recv();
}

fn echo(mut stream: TcpStream, node: &str, stop: &AtomicBool) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.write_all(format!("{node}\n").as_bytes())?;
    let mut buffer = [0; 2048];
    while !stop.load(Ordering::Relaxed) {
        match stream.read(&mut buffer) {
            Ok(0) => return Ok(()),
            Ok(length) => stream.write_all(&buffer[..length])?,
            Err(e) if matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
            Err(e) => return Err(e),
        }
    }
    Ok(())
}

fn answer(socket: &UdpSocket, node: &str, stop: &AtomicBool) {
    let mut buffer = [0; 2048];
    while !stop.load(Ordering::Relaxed) {
        if let Ok((length, from)) = socket.recv_from(&mut buffer) {
            let text = [node.as_bytes(), b" ", &buffer[..length]].concat();
            let _client_left = socket.send_to(&text, from);
        }
    }
}
