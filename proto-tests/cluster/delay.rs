//! A door that makes every request slower: what comes from a client is handed on a while later, in order; answers pass at once. It
//! goes on handing over what a client has sent after that has died, as a network does.

use crate::rig::Outcome;
use crate::rig::net::Namespace;
use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::channel;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

/// The door; it closes when this is dropped.
#[derive(Debug)]
pub struct Delay {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<Outcome<()>>>,
}

impl Delay {
    /// Listens at `door` and hands on to `beyond`, both in one namespace.
    ///
    /// # Errors
    /// The address could not be bound.
    pub fn start(space: &Namespace, door: SocketAddr, beyond: SocketAddr, delay: Duration) -> Outcome<Self> {
        let bound = space.inside(move || TcpListener::bind(door))?;
        let listener = bound.map_err(|e| format!("{door} could not be bound: {e}"))?;
        listener.set_nonblocking(true).map_err(|e| format!("a listener that does not wait: {e}"))?;
        let stop = Arc::new(AtomicBool::new(false));
        let flag = Arc::clone(&stop);
        let thread = space.thread("delay", move || serve(&listener, beyond, delay, &flag));
        Ok(Self { stop, thread: Some(thread) })
    }
}

impl Drop for Delay {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _panicked = thread.join();
        }
    }
}

fn serve(listener: &TcpListener, beyond: SocketAddr, delay: Duration, stop: &AtomicBool) {
    while !stop.load(Ordering::Relaxed) {
        match listener.accept() {
            Ok((client, _)) => {
                // Threads begin where this one is: in the namespace. They end with their connections.
                if let Ok(server) = TcpStream::connect(beyond) {
                    join(client, server, delay);
                }
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => thread::sleep(Duration::from_millis(5)),
            Err(_) => return,
        }
    }
}

fn join(client: TcpStream, server: TcpStream, delay: Duration) {
    let (Ok(()), Ok(from), Ok(back), Ok(to)) =
        (client.set_nonblocking(false), client.try_clone(), client.try_clone(), server.try_clone())
    else {
        return;
    };
    let (queue, waiting) = channel::<(Instant, Vec<u8>)>();
    thread::spawn(move || {
        pass(from, |octets| queue.send((Instant::now() + delay, octets.to_vec())).is_ok());
    });
    thread::spawn(move || {
        let mut to = to;
        for (due, octets) in waiting {
            thread::sleep(due.saturating_duration_since(Instant::now()));
            if to.write_all(&octets).is_err() {
                break;
            }
        }
        let _closed = to.shutdown(Shutdown::Write);
    });
    thread::spawn(move || {
        let mut back = back;
        // A client that is gone reads no answer; the server is still asked what it had sent.
        pass(server, |octets| {
            let _gone = back.write_all(octets);
            true
        });
        let _closed = back.shutdown(Shutdown::Both);
    });
}

fn pass(mut from: TcpStream, mut hand: impl FnMut(&[u8]) -> bool) {
    let mut buffer = vec![0; 16 * 1024];
    while let Ok(count) = from.read(&mut buffer) {
        if count == 0 || !hand(&buffer[..count]) {
            return;
        }
    }
}
