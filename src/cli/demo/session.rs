//! The receiving end of one BGP session: it answers, listens, and says nothing of its own beyond KEEPALIVEs.
//!
//! Small on purpose: enough to judge a speaker by what arrives, and no second implementation of the machine that is
//! being judged. The benches receive by the same code.

use crate::wire::{
    AsWidth, Asn, Capability, Context, Error, Family, Message, Notification, Open, PeerKind, RouterId, Update, frame,
};
use bytes::BytesMut;
use std::collections::BTreeSet;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout_at};

/// How long an accepted connection may take to become Established.
const OPENING: Duration = Duration::from_secs(30);

/// Octets read at once.
const READ: usize = 256 * 1024;

/// Who the receiver is, and whom it lets in.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Its own AS.
    pub asn: Asn,
    /// Its BGP Identifier.
    pub router_id: RouterId,
    /// The AS that peers must have.
    pub peer_asn: Asn,
    /// The hold time that it proposes.
    pub hold_time: Duration,
}

/// Why a session is over.
#[derive(Debug, thiserror::Error)]
pub enum Down {
    /// The peer closed, or its process is gone.
    #[error("the connection was closed")]
    Closed,
    /// The connection broke.
    #[error("the connection broke: {0}")]
    Broken(#[from] io::Error),
    /// Nothing came for a whole hold time (RFC 4271 §6.5).
    #[error("nothing was heard for {} s", .0.as_secs())]
    Silent(Duration),
    /// The peer said why.
    #[error("the peer sent {0:?}")]
    Told(Notification),
    /// What came is no BGP.
    #[error("the peer sent what is no BGP message: {0}")]
    Unreadable(#[from] Error),
    /// A message of the wrong kind for this moment (RFC 4271 §6.6).
    #[error("the peer sent {got} where {wanted} was due")]
    Unexpected {
        /// What came.
        got: &'static str,
        /// What would have been right.
        wanted: &'static str,
    },
    /// The peer's AS is not the one let in (RFC 4271 §6.2).
    #[error("the peer says that it is AS {got}; AS {wanted} is let in")]
    WrongAs {
        /// What its OPEN says.
        got: Asn,
        /// What the settings say.
        wanted: Asn,
    },
}

/// An established session.
#[derive(Debug)]
pub struct Session {
    stream: TcpStream,
    buffer: BytesMut,
    context: Context,
    peer: Open,
    released: Instant,
    hold_time: Duration,
    hold_until: Instant,
    keepalive_at: Instant,
}

impl Session {
    /// Exchanges OPEN and KEEPALIVE on an accepted connection.
    ///
    /// # Errors
    /// What ended the connection before it was Established.
    pub async fn accept(stream: TcpStream, settings: &Settings) -> Result<Self, Down> {
        stream.set_nodelay(true)?;
        let deadline = Instant::now() + OPENING;
        timeout_at(deadline, Self::open(stream, settings)).await.unwrap_or(Err(Down::Silent(OPENING)))
    }

    async fn open(mut stream: TcpStream, settings: &Settings) -> Result<Self, Down> {
        let mut context = Context::before_open();
        let mut buffer = BytesMut::with_capacity(READ);
        send(&mut stream, &Message::Open(our_open(settings)), &context).await?;
        let peer = match receive(&mut stream, &mut buffer, &context).await? {
            Message::Open(open) => open,
            other => return Err(unexpected(&other, "OPEN")),
        };
        if peer.asn() != settings.peer_asn {
            send(&mut stream, &Message::Notification(Notification::bare(2, 2)), &context).await?;
            return Err(Down::WrongAs { got: peer.asn(), wanted: settings.peer_asn });
        }
        context = agreed(&peer, settings);
        let released = Instant::now();
        send(&mut stream, &Message::Keepalive, &context).await?;
        match receive(&mut stream, &mut buffer, &context).await? {
            Message::Keepalive => {}
            other => return Err(unexpected(&other, "KEEPALIVE")),
        }
        let hold_time = settings.hold_time.min(Duration::from_secs(peer.hold_time.into()));
        let now = Instant::now();
        Ok(Self {
            stream,
            buffer,
            context,
            peer,
            released,
            hold_time,
            hold_until: now + hold_time,
            keepalive_at: now + hold_time / 3,
        })
    }

    /// The peer's OPEN.
    pub fn peer(&self) -> &Open {
        &self.peer
    }

    /// What both sides agreed on.
    pub fn context(&self) -> &Context {
        &self.context
    }

    /// When our KEEPALIVE was written: not before this can the peer be Established.
    pub fn released(&self) -> std::time::Instant {
        self.released.into_std()
    }

    /// The next UPDATE. KEEPALIVEs are sent and taken meanwhile. May be dropped at any await without losing octets.
    ///
    /// # Errors
    /// What ended the session; a hold time that ran out has been told to the peer.
    pub async fn update(&mut self) -> Result<Update, Down> {
        loop {
            if let Some(octets) = frame(&mut self.buffer, &self.context)? {
                self.hold_until = Instant::now() + self.hold_time;
                match Message::decode(&octets, &self.context)? {
                    Message::Update(update) => return Ok(update),
                    Message::Keepalive | Message::RouteRefresh(_) => continue,
                    Message::Notification(notification) => return Err(Down::Told(notification)),
                    open @ Message::Open(_) => return Err(unexpected(&open, "UPDATE")),
                }
            }
            self.read_more().await?;
        }
    }

    /// The connection, and the octets read from it that were not looked at yet.
    pub fn into_parts(self) -> (TcpStream, BytesMut) {
        (self.stream, self.buffer)
    }

    /// Waits for octets, or sends what a timer asks for. A hold time of zero has no timers (RFC 4271 §4.2).
    async fn read_more(&mut self) -> Result<(), Down> {
        if self.hold_time.is_zero() {
            return read(&mut self.stream, &mut self.buffer).await;
        }
        tokio::select! {
            octets = read(&mut self.stream, &mut self.buffer) => octets,
            () = tokio::time::sleep_until(self.keepalive_at) => {
                self.keepalive_at += self.hold_time / 3;
                send(&mut self.stream, &Message::Keepalive, &self.context).await
            }
            () = tokio::time::sleep_until(self.hold_until) => {
                let expired = Message::Notification(Notification::HOLD_TIMER_EXPIRED);
                send(&mut self.stream, &expired, &self.context).await?;
                Err(Down::Silent(self.hold_time))
            }
        }
    }
}

/// Waits for a connection whose peer becomes Established; connections that fail before that are passed over.
///
/// # Errors
/// The listener's own.
pub async fn accept_one(listener: &tokio::net::TcpListener, settings: &Settings) -> io::Result<(Session, SocketAddr)> {
    loop {
        let (stream, from) = listener.accept().await?;
        if let Ok(session) = Session::accept(stream, settings).await {
            return Ok((session, from));
        }
    }
}

/// Both families and 4-octet AS numbers.
fn our_open(settings: &Settings) -> Open {
    Open {
        my_as: settings.asn.two_octets(),
        hold_time: u16::try_from(settings.hold_time.as_secs()).unwrap_or(u16::MAX),
        router_id: settings.router_id,
        capabilities: vec![
            Capability::Multiprotocol(Family::IPV4_UNICAST),
            Capability::Multiprotocol(Family::IPV6_UNICAST),
            Capability::FourOctetAs(settings.asn),
        ],
    }
}

fn agreed(peer: &Open, settings: &Settings) -> Context {
    let ours = BTreeSet::from([Family::IPV4_UNICAST, Family::IPV6_UNICAST]);
    let four = peer.capabilities.iter().any(|capability| matches!(capability, Capability::FourOctetAs(_)));
    Context {
        as_width: if four { AsWidth::Four } else { AsWidth::Two },
        peer_kind: if peer.asn() == settings.asn { PeerKind::Internal } else { PeerKind::External },
        families: peer.families().into_iter().filter(|family| ours.contains(family)).collect(),
        ..Context::before_open()
    }
}

async fn send(stream: &mut TcpStream, message: &Message, context: &Context) -> Result<(), Down> {
    let mut out = BytesMut::new();
    message.encode(context, &mut out).expect("what a receiver says is short");
    Ok(stream.write_all(&out).await?)
}

async fn receive(stream: &mut TcpStream, buffer: &mut BytesMut, context: &Context) -> Result<Message, Down> {
    loop {
        if let Some(octets) = frame(buffer, context)? {
            return match Message::decode(&octets, context)? {
                Message::Notification(notification) => Err(Down::Told(notification)),
                message => Ok(message),
            };
        }
        read(stream, buffer).await?;
    }
}

async fn read(stream: &mut TcpStream, buffer: &mut BytesMut) -> Result<(), Down> {
    buffer.reserve(READ);
    match stream.read_buf(buffer).await? {
        0 => Err(Down::Closed),
        _ => Ok(()),
    }
}

fn unexpected(message: &Message, wanted: &'static str) -> Down {
    let got = match message {
        Message::Open(_) => "OPEN",
        Message::Update(_) => "UPDATE",
        Message::Notification(_) => "NOTIFICATION",
        Message::Keepalive => "KEEPALIVE",
        Message::RouteRefresh(_) => "ROUTE-REFRESH",
    };
    Down::Unexpected { got, wanted }
}
