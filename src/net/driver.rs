//! One task a peer: wait, feed, drain, publish.

use super::addresses::{self, Addresses, Beside};
use super::connection::{self, DialError, Ends};
use super::journal::{self, Voice};
use super::links::{FAREWELL, Links, Read, Ready, Stream};
use super::listener::Accepted;
use super::unfinished::Unfinished;
use crate::peer::settings::Password;
use crate::peer::transport::{Signed, Transport};
use crate::peer::{CloseHow, ConnId, Input, LocalEnd, Output, Peer, Phase, Plan, Settings, Status, Stop};
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::timeout;

/// Octets kept for one connection beyond what the kernel holds. What is over stays a diff that is not taken yet.
const OUTPUT_LIMIT: usize = 256 * 1024;

/// The same for a router of a range: there may be a thousand, and none of them may read.
const OUTPUT_LIMIT_OF_RANGE: usize = 16 * 1024;

/// Connections at a time that last words are waited for on. A router that opens and leaves hundreds would else hold as many.
const FAREWELLS: usize = 8;

/// A peer that was told to stop is left behind after this long, whatever it still wanted to say.
const STOP_LIMIT: Duration = Duration::from_secs(5);

/// While octets wait to be acknowledged, how often we look whether they are.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

/// Steps of reading on each connection before a deadline is believed. The first whole KEEPALIVE or UPDATE puts off the hold
/// timer, so that one does; a bound is for who sends other things without end.
const STEPS_BEFORE_TIMEOUT: usize = 4;

/// What a driver is told while it runs.
pub struct Lines {
    /// The newest plan.
    pub plan: watch::Receiver<Option<Plan>>,
    /// The key that connections are signed with. Another one is taken by live connections; from none to one, or back, is the
    /// business of a new driver.
    pub key: watch::Receiver<Option<Password>>,
    /// Connections that the peer opened.
    pub accepted: mpsc::Receiver<Accepted>,
    /// The addresses of this node.
    pub addresses: watch::Receiver<Addresses>,
}

/// Where the state of a driver can be read.
#[derive(Debug, Clone)]
pub struct Readings {
    /// Where the peer stands.
    pub status: watch::Receiver<Status>,
    /// What the kernel says about the connection of its session; `None` without a session.
    pub transport: watch::Receiver<Option<Transport>>,
}

type Farewell = Pin<Box<dyn Future<Output = ()> + Send>>;

/// Runs one [`Peer`] on real sockets.
pub struct Driver {
    peer: Peer,
    settings: Arc<Settings>,
    links: Links,
    farewells: FuturesUnordered<Farewell>,
    status: watch::Sender<Status>,
    transport: watch::Sender<Option<Transport>>,
    voice: Voice,
    unfinished: Unfinished,
}

impl Driver {
    /// A peer at rest, and where its state can be read. `seed` decides the jitter of its timers, `voice` how much of it is
    /// logged; `unfinished` is what all drivers share.
    pub fn new(settings: Settings, seed: u64, voice: Voice, unfinished: Unfinished) -> (Self, Readings) {
        let peer = Peer::new(settings.clone(), seed, now());
        let (status, status_read) = watch::channel(peer.status().clone());
        let (transport, transport_read) = watch::channel(None);
        let driver = Self {
            peer,
            settings: Arc::new(settings),
            links: Links::default(),
            farewells: FuturesUnordered::new(),
            status,
            transport,
            voice,
            unfinished,
        };
        (driver, Readings { status: status_read, transport: transport_read })
    }

    /// Runs until `stop` says why to end and the last words are said. A dropped sender of `stop` ends it as a shutdown.
    pub async fn run(mut self, mut lines: Lines, stop: oneshot::Receiver<Stop>) {
        lines.plan.mark_changed();
        self.peer.handle(Input::Start, now());
        let reason = tokio::select! {
            () = self.serve(&mut lines) => return,
            reason = stop => reason.unwrap_or_else(|_| Stop::Shutdown("herald is stopping".to_owned())),
        };
        self.peer.handle(Input::Stop(reason), now());
        if timeout(STOP_LIMIT, self.serve(&mut lines)).await.is_err() {
            tracing::warn!(peer = %self.settings.neighbor.name, "the peer did not take our last words in time; closed");
        }
    }

    /// Serves the peer until it is finished. May be dropped at any await: all state is in `self`.
    async fn serve(&mut self, lines: &mut Lines) {
        self.settle();
        while !(self.peer.is_finished() && self.farewells.is_empty()) {
            let waiting = self.look();
            let deadline = self.peer.poll_timeout();
            let look_again = waiting.then_some(LOOK_AGAIN).map(|pause| now() + pause);
            tokio::select! {
                ready = self.links.ready() => self.on_ready(ready, &lines.addresses.borrow().clone()),
                Some(()) = self.farewells.next() => {}
                () = at(deadline) => self.on_timeout(),
                () = at(look_again) => {}
                Ok(()) = lines.plan.changed() => self.on_plan(&mut lines.plan),
                Ok(()) = lines.key.changed() => self.on_key(&mut lines.key),
                Some(accepted) = lines.accepted.recv() => self.on_accepted(accepted, &lines.addresses.borrow().clone()),
                Ok(()) = lines.addresses.changed() => self.on_addresses(&mut lines.addresses),
            }
            // One step, then the others have their turn: a peer with much to say delays nobody.
            self.settle();
            tokio::task::yield_now().await;
        }
    }

    fn on_ready(&mut self, ready: Ready, addresses: &Addresses) {
        match ready {
            Ready::Dialled(id, Ok(ends)) => match self.locate(ends, addresses) {
                Ok(end) => self.peer.handle(Input::Connected(id, end), now()),
                Err(error) => {
                    self.links.remove(id);
                    self.peer.handle(Input::ConnectFailed(id, error.to_string()), now());
                }
            },
            Ready::Dialled(id, Err(error)) => self.peer.handle(Input::ConnectFailed(id, error), now()),
            Ready::Crowded(id) => {
                if let Some(stream) = self.links.stream(id) {
                    stream.forget_input();
                }
                self.peer.handle(Input::Crowded(id), now());
            }
            // Those that are to go for what others leave unfinished have their turn first.
            Ready::Stream(id) if !self.is_vouched_for(id) && self.unfinished.is_crowded() => {}
            Ready::Stream(id) => {
                if let Some(end) = self.read(id) {
                    self.closed(id, end);
                }
            }
        }
    }

    fn on_plan(&mut self, plan: &mut watch::Receiver<Option<Plan>>) {
        let newest = plan.borrow_and_update().clone();
        if let Some(plan) = newest {
            self.peer.handle(Input::Plan(plan), now());
        }
    }

    /// A deadline has come. What the peer said or acknowledged before we looked counts first: we may have been kept from
    /// reading (a frozen machine, a busy one), and only what is not there by now did not come.
    fn on_timeout(&mut self) {
        for _ in 0..STEPS_BEFORE_TIMEOUT {
            if !self.read_waiting() || self.peer.poll_timeout().is_none_or(|at| at > now()) {
                break;
            }
        }
        self.look();
        self.peer.handle(Input::Timeout, now());
    }

    /// Reads one step of what waits on each connection; whether there was something.
    fn read_waiting(&mut self) -> bool {
        let mut found = false;
        for id in self.links.open() {
            let Some(stream) = self.links.stream(id) else { continue };
            match stream.read_waiting() {
                Read::Some => {
                    found = true;
                    self.received(id);
                }
                Read::Nothing => {}
                Read::End(error) => self.closed(id, error),
            }
            self.obey();
        }
        found
    }

    /// Tells the peer what was acknowledged; whether something still waits to be.
    fn look(&mut self) -> bool {
        let mut waiting = false;
        for id in self.links.open() {
            let Some(look) = self.links.stream(id).map(super::links::Stream::look) else { continue };
            waiting |= look.waiting;
            if look.progress {
                self.peer.handle(Input::Acknowledged(id), now());
            }
        }
        waiting
    }

    /// Another key: connections that live go on with it. One that does not take it ends.
    fn on_key(&mut self, key: &mut watch::Receiver<Option<Password>>) {
        let Some(password) = key.borrow_and_update().clone() else { return };
        if self.settings.neighbor.password.as_ref() == Some(&password) {
            return;
        }
        let open = self.links.open();
        let rekeyed = |id: &ConnId| self.links.stream(*id).map_or(Ok(()), |stream| stream.rekey(&password));
        let failed: Vec<_> = open.iter().map(rekeyed).collect();
        Arc::make_mut(&mut self.settings).neighbor.password = Some(password);
        tracing::info!(peer = %self.settings.neighbor.name, connections = open.len(), "another password is in use");
        for (id, outcome) in open.into_iter().zip(failed) {
            if let Err(error) = outcome {
                self.closed(id, Some(format!("the connection did not take the new password: {error}")));
            }
        }
    }

    /// The node has other addresses than before. A connection whose own is gone would stay Established with nothing leaving it.
    fn on_addresses(&mut self, newest: &mut watch::Receiver<Addresses>) {
        let all = newest.borrow_and_update().clone();
        for id in self.links.open() {
            let Some(Ok(ends)) = self.links.stream(id).map(|stream| stream.ends()) else { continue };
            match self.beside(ends, &all) {
                Ok(Some(beside)) => self.peer.handle(Input::Located(id, local_end(ends, beside)), now()),
                Ok(None) => {
                    self.links.remove(id);
                    self.peer.handle(Input::Displaced(id, DialError::NotOurs { ends }.to_string()), now());
                }
                // It cannot be looked for: who follows the addresses says so, and tells when it can.
                Err(_) => {}
            }
        }
    }

    /// What is beside our end of a connection. An address that is missing is looked for a second time: a list that was read while it
    /// changed may lack any, and one that is new may not have been told yet.
    fn beside(&self, ends: Ends, all: &Addresses) -> std::io::Result<Option<Beside>> {
        match connection::beside(&self.settings, ends.local, all) {
            Some(beside) => Ok(Some(beside)),
            None => Ok(connection::beside(&self.settings, ends.local, &addresses::read()?)),
        }
    }

    /// Our end of a new connection, unless its address is gone again already.
    fn locate(&self, ends: Ends, all: &Addresses) -> Result<LocalEnd, DialError> {
        match self.beside(ends, all) {
            Ok(Some(beside)) => Ok(local_end(ends, beside)),
            Ok(None) => Err(DialError::NotOurs { ends }),
            // Nothing is known beside it until the addresses are told again.
            Err(_) => Ok(local_end(ends, Beside::default())),
        }
    }

    fn on_accepted(&mut self, accepted: Accepted, addresses: &Addresses) {
        let Accepted { stream, remote, syn, .. } = accepted;
        let name = &self.settings.neighbor.name;
        let admitted = connection::admit(&self.settings, &stream, syn).and_then(|ends| self.locate(ends, addresses));
        match admitted {
            Ok(end) => match self.peer.accept(end, now()) {
                Some(id) => self.links.adopt(id, stream),
                None => tracing::debug!(peer = %name, %remote, "a connection of the peer is not welcome now; closed"),
            },
            // As often as somebody likes who only has to dial.
            Err(error @ (DialError::Prepare { .. } | DialError::Unwelcome { .. } | DialError::Descriptors { .. })) => {
                if self.voice.budget().spend(now()) {
                    tracing::warn!(peer = %name, %remote, "a connection of the peer is refused: {error}");
                }
            }
            // Who is gone again before we looked may come in any number.
            Err(
                error @ (DialError::Connect { .. }
                | DialError::Timeout { .. }
                | DialError::Ourselves { .. }
                | DialError::NotOurs { .. }),
            ) => {
                tracing::debug!(peer = %name, %remote, "a connection of the peer is over already: {error}");
            }
        }
    }

    /// Reads one step; `Some` says that the connection came to its end, and how.
    fn read(&mut self, id: ConnId) -> Option<Option<String>> {
        match self.links.stream(id)?.read() {
            Read::Some => self.received(id),
            Read::Nothing => {}
            Read::End(error) => return Some(error),
        }
        None
    }

    /// Hands over what was read, and keeps no more room than for what is left of it.
    fn received(&mut self, id: ConnId) {
        let Some(stream) = self.links.stream(id) else { return };
        let read = stream.input.len();
        self.peer.handle(Input::Received(id, &mut stream.input), now());
        if stream.input.len() < read {
            stream.fit();
        }
        match self.is_vouched_for(id) {
            true => self.links.stream(id).map(Stream::vouch),
            false => self.links.stream(id).map(|stream| stream.account(read, &self.unfinished)),
        };
    }

    /// Whether this is the session of a peer that the configuration names.
    fn is_vouched_for(&self, id: ConnId) -> bool {
        matches!(self.voice, Voice::Named(_)) && self.peer.is_established_on(id)
    }

    fn closed(&mut self, id: ConnId, error: Option<String>) {
        self.links.remove(id);
        self.peer.handle(Input::Closed(id, error), now());
    }

    /// Does what the peer asks, until it asks no more, and publishes where it stands.
    fn settle(&mut self) {
        loop {
            self.obey();
            // Before any answer leaves: who has the answer finds what led to it.
            self.publish();
            let broken: Vec<_> =
                self.links.open().into_iter().filter_map(|id| self.write(id).err().map(|error| (id, error))).collect();
            if broken.is_empty() {
                break;
            }
            for (id, error) in broken {
                self.broken(id, error);
            }
        }
        self.publish();
    }

    fn obey(&mut self) {
        while let Some(output) = self.peer.poll_output() {
            match output {
                Output::Connect(id) => self.links.dial(id, self.settings.clone()),
                Output::Close(id, how) => self.close(id, how),
            }
        }
    }

    fn write(&mut self, id: ConnId) -> Result<(), String> {
        let limit = match self.voice {
            Voice::Named(_) => OUTPUT_LIMIT,
            Voice::OfRange(_) => OUTPUT_LIMIT_OF_RANGE,
        };
        let Some(stream) = self.links.stream(id) else { return Ok(()) };
        stream.write(|out| self.peer.transmit(id, out, limit, now()))
    }

    /// Writing failed. What the peer said before it closed may still wait to be read, and says more than the error.
    fn broken(&mut self, id: ConnId, error: String) {
        while let Some(stream) = self.links.stream(id) {
            match stream.read_waiting() {
                Read::Some => self.received(id),
                Read::Nothing | Read::End(_) => return self.closed(id, Some(error)),
            }
            self.obey();
        }
    }

    fn close(&mut self, id: ConnId, how: CloseHow) {
        let Some(mut stream) = self.links.remove(id) else { return };
        stream.forget_input();
        match how {
            CloseHow::Now => {}
            // The peer keeps its last words until they are taken, or until it hears that nobody will.
            CloseHow::AfterFlush if self.farewells.len() >= FAREWELLS => {
                self.peer.handle(Input::Closed(id, None), now());
            }
            CloseHow::AfterFlush => {
                // What follows a failed write would be lost anyhow.
                let written = stream.write(|out| self.peer.transmit(id, out, usize::MAX, now()));
                if written.is_ok() && self.farewells.len() < FAREWELLS {
                    self.farewells.push(Box::pin(async move {
                        let _late = timeout(FAREWELL, stream.farewell()).await;
                    }));
                }
            }
        }
    }

    /// Reads the options of the session's socket: whenever something happened to the session, which is seldom.
    fn publish_transport(&mut self) {
        let signed = match self.settings.neighbor.password {
            Some(_) => Signed::KeyInstalled,
            None => Signed::No,
        };
        let now = match &self.peer.status().phase {
            Phase::Established { local, .. } => {
                let all = self.links.open();
                let mut all = all.into_iter().filter_map(|id| self.links.stream(id)?.read_back(signed));
                let local = *local;
                all.find(|transport| transport.local == local)
            }
            Phase::Idle { .. } | Phase::Connect | Phase::Active | Phase::OpenSent | Phase::OpenConfirm => None,
        };
        self.transport.send_if_modified(|published| {
            let changed = *published != now;
            *published = now;
            changed
        });
    }

    fn publish(&mut self) {
        if *self.status.borrow() == *self.peer.status() {
            return;
        }
        // First: who sees a session sees its socket.
        self.publish_transport();
        let status = self.peer.status();
        self.status.send_modify(|published| {
            journal::report(published, status, &self.voice, now());
            published.clone_from(status);
        });
    }
}

/// The clock of the runtime, so that a test may hold it.
fn local_end(Ends { local, remote }: Ends, Beside { fit, unfit }: Beside) -> LocalEnd {
    LocalEnd { local, remote, interface: fit, unfit }
}

fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}

async fn at(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => tokio::time::sleep_until(deadline.into()).await,
        None => std::future::pending().await,
    }
}
