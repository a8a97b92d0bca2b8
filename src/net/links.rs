//! The connections of one peer: which are being opened, which are open, and what is buffered for them.

use super::connection::{self, DialError, Ends};
use super::socket;
use super::unfinished::{Claim, Unfinished};
use crate::peer::settings::Password;
use crate::peer::transport::{Signed, Transport};
use crate::peer::{ConnId, Settings};
use crate::wire::{self, Message, Notification};
use bytes::{Buf, BytesMut};
use socket2::SockRef;
use std::collections::BTreeMap;
use std::future::Future;
use std::io::{self, Read as _};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;
use tokio::time::timeout;

/// Octets taken from a socket in one step; after each the other tasks have their turn.
const READ_STEP: usize = 64 * 1024;

/// Last words and the wait for the peer's end take at most this long.
pub const FAREWELL: Duration = Duration::from_secs(1);

/// Octets taken in one step of that wait. Nobody reads them, and there may be many at once.
const FAREWELL_STEP: usize = 4096;

type Dial = Pin<Box<dyn Future<Output = Result<(TcpStream, Ends), DialError>> + Send>>;

/// Something a connection is ready for.
#[derive(Debug)]
pub enum Ready {
    /// A dial came to its end.
    Dialled(ConnId, Result<Ends, String>),
    /// Octets wait, or there is room to write again.
    Stream(ConnId),
    /// Its unfinished message must go, and the connection with it.
    Crowded(ConnId),
}

/// Dials and open connections of one peer.
#[derive(Default)]
pub struct Links {
    dials: BTreeMap<ConnId, Dial>,
    streams: BTreeMap<ConnId, Stream>,
}

impl Links {
    /// Begins to dial.
    pub fn dial(&mut self, id: ConnId, settings: Arc<Settings>) {
        self.dials.insert(id, Box::pin(async move { connection::dial(&settings).await }));
    }

    /// Takes a connection that the peer opened.
    pub fn adopt(&mut self, id: ConnId, tcp: TcpStream) {
        self.streams.insert(id, Stream::new(tcp));
    }

    /// Gives up a dial, or takes an open connection away.
    pub fn remove(&mut self, id: ConnId) -> Option<Stream> {
        self.dials.remove(&id);
        self.streams.remove(&id)
    }

    /// The open connections.
    pub fn open(&self) -> Vec<ConnId> {
        self.streams.keys().copied().collect()
    }

    /// One open connection.
    pub fn stream(&mut self, id: ConnId) -> Option<&mut Stream> {
        self.streams.get_mut(&id)
    }

    /// Waits until a connection is ready for something. May be dropped and called again: nothing is lost.
    pub async fn ready(&mut self) -> Ready {
        std::future::poll_fn(|cx| self.poll_ready(cx)).await
    }

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Ready> {
        for (id, dial) in &mut self.dials {
            let id = *id;
            if let Poll::Ready(outcome) = dial.as_mut().poll(cx) {
                self.dials.remove(&id);
                return Poll::Ready(Ready::Dialled(id, self.keep(id, outcome)));
            }
        }
        for (id, stream) in &mut self.streams {
            if let Some(claim) = &mut stream.claim
                && claim.poll_evicted(cx).is_ready()
            {
                return Poll::Ready(Ready::Crowded(*id));
            }
        }
        let ready = self.streams.iter().find(|(_, stream)| stream.poll_ready(cx).is_ready());
        ready.map_or(Poll::Pending, |(id, _)| Poll::Ready(Ready::Stream(*id)))
    }

    fn keep(&mut self, id: ConnId, outcome: Result<(TcpStream, Ends), DialError>) -> Result<Ends, String> {
        let (tcp, end) = outcome.map_err(|error| error.to_string())?;
        self.streams.insert(id, Stream::new(tcp));
        Ok(end)
    }
}

/// Whether a stream waits for room to write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Writing {
    /// Everything there was to say is with the kernel.
    Drained,
    /// More may follow as soon as the socket is writable.
    Pending,
}

/// How reading went.
#[derive(Debug)]
pub enum Read {
    /// Octets were added to [`Stream::input`].
    Some,
    /// Nothing there now.
    Nothing,
    /// The peer is done writing (`None`), or the connection broke.
    End(Option<String>),
}

/// An open connection with its buffers.
pub struct Stream {
    tcp: TcpStream,
    /// Octets received that are not a whole message yet.
    pub input: BytesMut,
    /// What of `input` is counted among all that is unfinished.
    claim: Option<Claim>,
    output: BytesMut,
    writing: Writing,
    /// Octets that the kernel took so far.
    written: u64,
    /// How many of them the peer is known to have acknowledged.
    acknowledged: u64,
}

/// What a look at the acknowledgements showed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Look {
    /// Whether the peer acknowledged something since the last look.
    pub progress: bool,
    /// Whether something still waits to be acknowledged.
    pub waiting: bool,
}

impl Stream {
    fn new(tcp: TcpStream) -> Self {
        Self {
            tcp,
            input: BytesMut::new(),
            claim: None,
            output: BytesMut::new(),
            writing: Writing::Drained,
            written: 0,
            acknowledged: 0,
        }
    }

    /// Looks at what the peer has acknowledged.
    pub fn look(&mut self) -> Look {
        if self.written == self.acknowledged {
            return Look { progress: false, waiting: false };
        }
        // An error shows again, with its words, when the socket is read or written.
        let held = socket::unacknowledged(&self.tcp).map_or(u64::MAX, |held| held as u64);
        let acknowledged = self.written.saturating_sub(held).max(self.acknowledged);
        let progress = acknowledged > self.acknowledged;
        self.acknowledged = acknowledged;
        Look { progress, waiting: acknowledged < self.written }
    }

    /// Signs with another key from now on.
    ///
    /// # Errors
    /// The kernel refuses; the connection must not go on.
    pub fn rekey(&self, password: &Password) -> io::Result<()> {
        connection::rekey(&self.tcp, password)
    }

    /// Our end and the other one.
    ///
    /// # Errors
    /// The kernel's: the connection is gone.
    pub fn ends(&self) -> io::Result<Ends> {
        let (local, remote) = (self.tcp.local_addr()?, self.tcp.peer_addr()?);
        Ok(Ends { local: connection::canonical(local), remote: connection::canonical(remote) })
    }

    /// What the kernel says about it, as long as there is something to say.
    pub fn read_back(&self, signed: Signed) -> Option<Transport> {
        connection::read_back(&self.tcp, signed).ok()
    }

    fn poll_ready(&self, cx: &mut Context<'_>) -> Poll<()> {
        // An error of polling shows again, with its words, when the socket is read or written.
        if self.tcp.poll_read_ready(cx).is_ready() {
            return Poll::Ready(());
        }
        match self.writing {
            Writing::Drained => Poll::Pending,
            Writing::Pending => self.tcp.poll_write_ready(cx).map(|_| ()),
        }
    }

    /// Takes what waits, at most one step of it.
    pub fn read(&mut self) -> Read {
        let mut step = [0; READ_STEP];
        let outcome = self.tcp.try_read(&mut step);
        self.outcome(outcome, &step)
    }

    /// As [`Self::read`], by asking the kernel and not the runtime, which may not have looked since something came.
    pub fn read_waiting(&mut self) -> Read {
        let mut step = [0; READ_STEP];
        // The socket is non-blocking, as all of the runtime's are.
        let outcome = (&*SockRef::from(&self.tcp)).read(&mut step);
        self.outcome(outcome, &step)
    }

    /// Of what many leave unfinished no buffer is larger than it: rooms of a whole step, taken and given back between them, leave
    /// holes.
    fn outcome(&mut self, outcome: io::Result<usize>, step: &[u8; READ_STEP]) -> Read {
        match outcome {
            Ok(0) => Read::End(None),
            Ok(count) => {
                let mut input = BytesMut::with_capacity(self.input.len() + count);
                input.extend_from_slice(&self.input);
                input.extend_from_slice(&step[..count]);
                self.input = input;
                Read::Some
            }
            Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => {
                Read::Nothing
            }
            Err(error) => Read::End(Some(connection::explain(&error))),
        }
    }

    /// Counts what is left of the input. `read` octets were there before messages were taken from it.
    pub fn account(&mut self, read: usize, all: &Unfinished) {
        let left = self.input.len();
        match &mut self.claim {
            _ if left == 0 => self.claim = None,
            Some(claim) if left == read => claim.grow(left),
            // Another message has begun.
            Some(_) | None => self.claim = Some(all.begin(left)),
        }
    }

    /// Counts nothing: somebody vouches for this connection.
    pub fn vouch(&mut self) {
        self.claim = None;
    }

    /// Gives back the room that input does not fill: most connections are silent most of the time, and hundreds of them must
    /// hold no more than what they left unfinished.
    pub fn fit(&mut self) {
        // What is left may be the end of a large buffer that it alone keeps, so that its own capacity tells nothing.
        self.input = BytesMut::from(&self.input[..]);
    }

    fn say(&mut self, notification: Notification) -> Result<(), String> {
        let message = Message::Notification(notification);
        self.write(|out| message.encode(&wire::Context::before_open(), out).expect("a NOTIFICATION always fits"))
    }

    /// One step of writing: `fill` adds to the buffer, the socket takes what it can.
    ///
    /// # Errors
    /// The connection is broken for writing; something may still be there to be read.
    pub fn write(&mut self, fill: impl FnOnce(&mut BytesMut)) -> Result<(), String> {
        fill(&mut self.output);
        self.writing = if self.output.is_empty() { Writing::Drained } else { Writing::Pending };
        if self.output.is_empty() {
            return Ok(());
        }
        match self.tcp.try_write(&self.output) {
            Ok(written) => {
                self.output.advance(written);
                self.written += written as u64;
                if self.output.is_empty() {
                    self.output = BytesMut::new();
                }
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(connection::explain(&error)),
        }
        Ok(())
    }

    /// Nothing more of what was said is heeded.
    pub fn forget_input(&mut self) {
        self.input = BytesMut::new();
        self.claim = None;
    }

    /// Says the last words: writes what is buffered, shuts down writing, reads to the end; then the socket closes. Unread
    /// input would turn the close into a reset, and the peer might lose the NOTIFICATION.
    pub async fn farewell(mut self) {
        use tokio::io::AsyncWriteExt;
        if self.tcp.write_all_buf(&mut self.output).await.is_err() || self.tcp.shutdown().await.is_err() {
            return;
        }
        self.input = BytesMut::with_capacity(FAREWELL_STEP);
        loop {
            self.input.clear();
            match self.tcp.read_buf(&mut self.input).await {
                Ok(0) | Err(_) => return,
                Ok(_) => {}
            }
        }
    }
}

/// Says one NOTIFICATION on a connection that is nobody's, and closes it.
pub async fn turn_away(tcp: TcpStream, notification: Notification) {
    let mut stream = Stream::new(tcp);
    if stream.say(notification).is_ok() {
        let _late = timeout(FAREWELL, stream.farewell()).await;
    }
}

/// The same without a wait: unread input would turn the close into a reset, so what has come is read.
pub fn turn_away_at_once(tcp: TcpStream, notification: Notification) {
    let mut stream = Stream::new(tcp);
    let _read = stream.read_waiting();
    let _gone = stream.say(notification);
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::AsyncWriteExt;
    use tokio::net::TcpListener;

    async fn connected() -> (Stream, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let tcp = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let stream = Stream::new(tcp);
        (stream, listener.accept().await.unwrap().0)
    }

    #[tokio::test]
    async fn last_words_arrive_although_input_was_never_read() {
        let (mut stream, mut peer) = connected().await;
        peer.write_all(&[0; 200_000]).await.unwrap();
        stream.tcp.readable().await.unwrap();
        // More than is on its way at once, so that a reset would throw away what the kernel still holds.
        let words = vec![7; 4 << 20];
        stream.write(|out| out.extend_from_slice(&words)).unwrap();
        let leaving = tokio::spawn(stream.farewell());
        let mut heard = Vec::new();
        peer.read_to_end(&mut heard).await.expect("an orderly end, not a reset");
        assert_eq!(heard.len(), words.len());
        drop(peer);
        leaving.await.unwrap();
    }

    #[tokio::test]
    async fn who_is_turned_away_hears_why_although_it_spoke_first() {
        let (stream, mut peer) = connected().await;
        peer.write_all(&[0xff; 29]).await.unwrap();
        let leaving = tokio::spawn(turn_away(stream.tcp, Notification::bare(6, 5)));
        let mut heard = Vec::new();
        peer.read_to_end(&mut heard).await.expect("an orderly end, not a reset");
        assert_eq!(heard[16..], [0, 21, 3, 6, 5]);
        drop(peer);
        leaving.await.unwrap();
    }

    #[tokio::test]
    async fn what_waits_is_read_although_the_runtime_has_not_looked() {
        let (mut stream, peer) = connected().await;
        assert!(matches!(stream.read(), Read::Nothing));
        // Written and read without the runtime having its turn in between.
        peer.try_write(&[7; 19]).unwrap();
        assert!(matches!(stream.read(), Read::Nothing), "this is what the runtime knows");
        assert!(matches!(stream.read_waiting(), Read::Some));
        assert_eq!(stream.input[..], [7; 19]);
        assert!(matches!(stream.read_waiting(), Read::Nothing));
        drop(peer);
        assert!(matches!(stream.read_waiting(), Read::End(None)));
    }

    #[tokio::test]
    async fn a_connection_holds_no_more_room_than_what_is_unfinished() {
        let (mut stream, mut peer) = connected().await;
        peer.write_all(&[7; 3000]).await.unwrap();
        stream.tcp.readable().await.unwrap();
        assert!(matches!(stream.read(), Read::Some));
        stream.fit();
        assert_eq!((stream.input.len(), stream.input.capacity()), (3000, 3000));
        stream.input.clear();
        stream.fit();
        assert_eq!(stream.input.capacity(), 0);
        stream.write(|out| out.extend_from_slice(&[7; 10_000])).unwrap();
        assert_eq!(stream.output.capacity(), 0, "all of it is with the kernel");
    }

    #[tokio::test]
    async fn what_a_socket_does_not_take_waits_and_is_bounded_by_who_fills() {
        let (mut stream, peer) = connected().await;
        // Far more than both sockets hold: the rest stays here, and writing goes on only when the peer reads.
        stream.write(|out| out.resize(32 << 20, 7)).unwrap();
        let waiting = stream.output.len();
        assert!(waiting > 0);
        assert_eq!(stream.writing, Writing::Pending);
        stream.write(|_| {}).unwrap();
        assert!(stream.output.len() <= waiting);
        drop(peer);
        // The peer is gone with octets unread: writing ends with an error in words, sooner or later never a panic.
        stream.tcp.readable().await.unwrap();
        let error = std::iter::repeat_with(|| stream.write(|_| {})).find_map(Result::err).unwrap();
        assert!(!error.is_empty());
    }
}
