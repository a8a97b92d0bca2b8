//! The peer as one object: inputs in, outputs out.

use super::export::Export;
use super::link::{self, Connection, Link, Queue};
use super::seam::{CloseHow, ConnId, Input, LocalEnd, Output, Plan, Stop};
use super::settings::Settings;
use super::status::{Phase, Status};
use crate::fsm::{self, Event, Parting, Session, State, Terms};
use crate::wire::notification::CeaseSubcode;
use crate::wire::{Attribute, Message, Notification, Update, frame};
use bytes::BytesMut;
use std::collections::{BTreeMap, VecDeque};
use std::time::Instant;

/// NOTIFICATIONs remembered in the status.
const NOTIFICATIONS_KEPT: usize = 8;

/// One neighbour.
#[derive(Debug)]
pub struct Peer {
    settings: Settings,
    life: Life,
    session: Session,
    link: Link,
    /// What connections that were closed after a NOTIFICATION still have to write.
    last_words: BTreeMap<ConnId, Queue>,
    /// The newest plan. `None`: not planned yet, which is not an empty plan; nothing is sent until there is one.
    plan: Option<Plan>,
    outputs: VecDeque<Output>,
    connections: u64,
    status: Status,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Life {
    /// Made, or running.
    Running,
    /// Stopped for good.
    Stopped,
}

impl Peer {
    /// A peer at rest. `seed` decides the jitter of its timers.
    pub fn new(settings: Settings, seed: u64, now: Instant) -> Self {
        let terms = Terms {
            asn: settings.identity.asn,
            router_id: settings.identity.router_id,
            peer_asn: settings.neighbor.asn,
            hold_time: settings.neighbor.hold_time,
            families: settings.neighbor.families.clone(),
        };
        Self {
            status: Status::at_rest(&settings, now),
            session: Session::new(terms, seed),
            settings,
            life: Life::Running,
            link: Link::Absent,
            last_words: BTreeMap::new(),
            plan: None,
            outputs: VecDeque::new(),
            connections: 0,
        }
    }

    /// Takes one input. What comes of connections that were given up is ignored, and so is everything after a stop.
    pub fn handle(&mut self, input: Input<'_>, now: Instant) {
        match (input, self.life) {
            (Input::Closed(conn, error), Life::Running | Life::Stopped) => self.closed(conn, error, now),
            (
                Input::Start
                | Input::Stop(_)
                | Input::Timeout
                | Input::Connected(..)
                | Input::ConnectFailed(..)
                | Input::Received(..)
                | Input::Plan(_),
                Life::Stopped,
            ) => {}
            (Input::Start, Life::Running) => self.event(Event::AutomaticStart, now),
            (Input::Stop(stop), Life::Running) => self.stop(&stop, now),
            (Input::Timeout, Life::Running) => {
                self.session.handle_timeout(now);
                self.follow(now);
            }
            (Input::Connected(conn, end), Life::Running) => self.connected(conn, end, now),
            (Input::ConnectFailed(conn, error), Life::Running) => {
                if matches!(self.link, Link::Dialing(current) if current == conn) {
                    self.link = Link::Absent;
                    self.event(Event::TcpConnectionFails(Some(error)), now);
                }
            }
            (Input::Received(conn, octets), Life::Running) => self.received(conn, octets, now),
            (Input::Plan(plan), Life::Running) => self.planned(plan),
        }
        self.publish();
    }

    /// The next thing to do; call until `None` after every input.
    pub fn poll_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// Appends octets to send on `conn` until `out` holds `limit` octets or nothing is left: messages of the machine first,
    /// then UPDATEs, whose diff is taken here, when there is room, and not before. Call after every input and whenever `out`
    /// has drained. UPDATEs are appended whole, so `out` may end above `limit` by less than one message.
    pub fn transmit(&mut self, conn: ConnId, out: &mut BytesMut, limit: usize, now: Instant) {
        if let Some(queue) = self.last_words.get_mut(&conn) {
            queue.write(out, limit, &mut self.status.sent);
            if queue.is_empty() {
                self.last_words.remove(&conn);
            }
            return;
        }
        match &mut self.link {
            Link::Opening(connection) if connection.id == conn => {
                connection.queue.write(out, limit, &mut self.status.sent);
            }
            Link::Up(connection, export) if connection.id == conn => {
                connection.queue.write(out, limit, &mut self.status.sent);
                let Some(plan) = &self.plan else { return };
                let messages = export.write(&plan.routes, out, limit, now);
                if messages > 0 {
                    *self.status.sent.entry(link::UPDATE).or_default() += messages;
                    self.session.sent_update(now);
                }
                self.publish();
            }
            Link::Absent | Link::Dialing(_) | Link::Opening(_) | Link::Up(..) => {}
        }
    }

    /// When to call again with [`Input::Timeout`].
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.session.poll_timeout().map(|(at, _)| at)
    }

    /// Whether a stopped peer has nothing left to do: all outputs taken, all last words transmitted or their connections
    /// reported closed.
    pub fn is_finished(&self) -> bool {
        self.life == Life::Stopped && self.outputs.is_empty() && self.last_words.is_empty()
    }

    /// What is known; cheap to compare, published by the driver when it changed.
    pub fn status(&self) -> &Status {
        &self.status
    }

    // === inputs ===

    fn stop(&mut self, stop: &Stop, now: Instant) {
        let cease = match stop {
            Stop::Shutdown(text) => Notification::cease(CeaseSubcode::AdministrativeShutdown, text),
            Stop::Deconfigured => {
                if let Link::Up(connection, export) = &mut self.link {
                    let mut octets = BytesMut::new();
                    let messages = export.write_withdrawals(&mut octets);
                    connection.queue.push_updates(messages, octets);
                }
                Notification::bare(6, CeaseSubcode::PeerDeconfigured as u8)
            }
            Stop::ConfigurationChange => Notification::bare(6, CeaseSubcode::OtherConfigurationChange as u8),
        };
        self.event(Event::ManualStop(cease), now);
        self.life = Life::Stopped;
    }

    fn connected(&mut self, conn: ConnId, end: LocalEnd, now: Instant) {
        if matches!(self.link, Link::Dialing(current) if current == conn) {
            self.link = Link::Opening(Connection { id: conn, end, queue: Queue::default() });
            self.event(Event::TcpCrAcked, now);
        }
    }

    fn closed(&mut self, conn: ConnId, error: Option<String>, now: Instant) {
        self.last_words.remove(&conn);
        if self.link.id() == Some(conn) {
            self.link = Link::Absent;
            self.event(Event::TcpConnectionFails(error), now);
        }
    }

    fn planned(&mut self, plan: Plan) {
        if let Link::Up(connection, export) = &mut self.link {
            export.relocate(&connection.end, &plan.node_addresses);
        }
        self.plan = Some(plan);
    }

    fn received(&mut self, conn: ConnId, octets: &mut BytesMut, now: Instant) {
        while self.link.is_open(conn) {
            let context = self.session.context();
            match frame(octets, context) {
                Ok(None) => return,
                Ok(Some(whole)) => match Message::decode(&whole, context) {
                    Ok(message) => self.message(message, now),
                    Err(error) => self.event(Event::malformed(error.into()), now),
                },
                Err(error) => self.event(Event::malformed(error.into()), now),
            }
        }
        // The connection is no longer ours: whatever else came on it has no reader.
        octets.clear();
    }

    fn message(&mut self, message: Message, now: Instant) {
        *self.status.received.entry(link::name(&message)).or_default() += 1;
        match message {
            Message::Open(open) => self.event(Event::BgpOpen(open), now),
            Message::Update(update) => {
                self.discard(&update);
                self.event(Event::UpdateMsg, now);
            }
            Message::Notification(notification) => {
                self.remember(format!("received {notification}"));
                self.event(Event::notified(notification), now);
            }
            Message::Keepalive => self.event(Event::KeepAliveMsg, now),
            Message::RouteRefresh(request) => {
                self.event(Event::RouteRefreshMsg(request.family), now);
                // Other subtypes are RFC 7313's, which was not offered.
                if let (Link::Up(_, export), 0) = (&mut self.link, request.subtype) {
                    export.refresh(request.family);
                }
            }
        }
    }

    /// Counts what a peer announces. Nothing of it is kept.
    fn discard(&mut self, update: &Update) {
        let offered = update.attributes.iter().map(|attribute| match attribute {
            Attribute::MpReach(reach) => reach.nlri.len(),
            Attribute::Origin(_)
            | Attribute::AsPath(_)
            | Attribute::NextHop(_)
            | Attribute::MultiExitDisc(_)
            | Attribute::LocalPref(_)
            | Attribute::AtomicAggregate
            | Attribute::Aggregator(_)
            | Attribute::Communities(_)
            | Attribute::OriginatorId(_)
            | Attribute::ClusterList(_)
            | Attribute::MpUnreach(_)
            | Attribute::ExtendedCommunities(_)
            | Attribute::As4Path(_)
            | Attribute::As4Aggregator(_)
            | Attribute::Ipv6ExtendedCommunities(_)
            | Attribute::LargeCommunities(_)
            | Attribute::OnlyToCustomer(_)
            | Attribute::Unknown { .. } => 0,
        });
        self.status.discarded += (update.nlri.len() + offered.sum::<usize>()) as u64;
        self.status.faults += update.faults.len() as u64;
    }

    // === the session and what it asks for ===

    fn event(&mut self, event: Event, now: Instant) {
        self.session.handle(event, now);
        self.follow(now);
    }

    /// Does what the session asks for, then brings the link to where the state is.
    fn follow(&mut self, now: Instant) {
        while let Some(output) = self.session.poll_output() {
            match output {
                fsm::Output::Dial => {
                    let id = ConnId(self.connections);
                    self.connections += 1;
                    self.link = Link::Dialing(id);
                    self.outputs.push_back(Output::Connect(id));
                }
                fsm::Output::Send(message) => self.send(&message),
                fsm::Output::Drop(parting) => self.part(parting),
                fsm::Output::Down(down) => self.status.last_down = Some((now, down.to_string())),
            }
        }
        if let State::Established(negotiated, _) = self.session.state() {
            self.link = match std::mem::replace(&mut self.link, Link::Absent) {
                Link::Opening(connection) => {
                    self.status.established_count += 1;
                    let node_addresses = self.plan.as_ref().map_or(&[][..], |plan| &plan.node_addresses);
                    let export = Export::new(&self.settings, negotiated, &connection.end, node_addresses);
                    Link::Up(connection, Box::new(export))
                }
                unchanged @ (Link::Absent | Link::Dialing(_) | Link::Up(..)) => unchanged,
            };
        }
    }

    fn send(&mut self, message: &Message) {
        if let Message::Notification(notification) = message {
            self.remember(format!("sent {notification}"));
        }
        match &mut self.link {
            Link::Absent | Link::Dialing(_) => {}
            Link::Opening(connection) | Link::Up(connection, _) => {
                connection.queue.push(message, self.session.context());
            }
        }
    }

    fn part(&mut self, parting: Parting) {
        let how = match parting {
            Parting::AfterFlush => CloseHow::AfterFlush,
            Parting::Now => CloseHow::Now,
        };
        match std::mem::replace(&mut self.link, Link::Absent) {
            Link::Absent => {}
            Link::Dialing(id) => self.outputs.push_back(Output::Close(id, CloseHow::Now)),
            Link::Opening(connection) | Link::Up(connection, _) => {
                if how == CloseHow::AfterFlush && !connection.queue.is_empty() {
                    self.last_words.insert(connection.id, connection.queue);
                }
                self.outputs.push_back(Output::Close(connection.id, how));
            }
        }
    }

    // === status ===

    fn remember(&mut self, notification: String) {
        let kept = &mut self.status.notifications;
        if kept.len() == NOTIFICATIONS_KEPT {
            kept.remove(0);
        }
        kept.push(notification);
    }

    fn publish(&mut self) {
        let Link::Up(connection, export) = &self.link else {
            self.status.phase = self.phase_below_established();
            self.status.advertised.clear();
            self.status.unannounced.clear();
            self.status.barred.clear();
            return;
        };
        let status = &mut self.status;
        status.advertised.clone_from(export.advertised());
        status.unannounced.clone_from(export.unannounced());
        status.barred = export.barred();
        if let State::Established(negotiated, since) = self.session.state() {
            status.phase = Phase::Established {
                since: *since,
                local: connection.end.local,
                router_id: negotiated.router_id,
                hold_time: negotiated.hold_time,
                families: negotiated.context.families.iter().copied().collect(),
                next_hops: export.next_hops().clone(),
                end_of_rib: export.end_of_rib(),
            };
        }
    }

    fn phase_below_established(&self) -> Phase {
        match self.session.state() {
            State::Idle => Phase::Idle { retry_at: self.poll_timeout() },
            State::Connect => Phase::Connect,
            State::Active => Phase::Active,
            State::OpenSent => Phase::OpenSent,
            // Established has its link, always; see `follow`.
            State::OpenConfirm(_) | State::Established(..) => Phase::OpenConfirm,
        }
    }
}
