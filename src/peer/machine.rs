//! The peer as one object: inputs in, outputs out.

use super::collision::{self, End, Verdict};
use super::export::{Export, Written};
use super::intake::Intake;
use super::link::{self, Connection, Link, Queue};
use super::restart::Manner;
use super::seam::{CloseHow, ConnId, Input, LocalEnd, Output, Plan, Stop};
use super::settings::{Opening, RestartState, Settings};
use super::side::{Side, Which};
use super::status::{EndOfRib, FirstTable, Phase, Status};
use crate::fsm::restart::{Graceful, Restart};
use crate::fsm::{self, Down, Event, Origin, Parting, Session, State, Terms};
use crate::planted::{Bug, planted};
use crate::rib::Admission;
use crate::wire::route_refresh::RefreshKind;
use crate::wire::{self, CeaseSubcode, Message, Notification, Open, frame};
use bytes::BytesMut;
use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

/// NOTIFICATIONs remembered in the status.
const NOTIFICATIONS_KEPT: usize = 8;

/// The least time between two attempts that are made without delay.
const HURRY_INTERVAL: Duration = Duration::from_secs(30);

/// Why a session is over that was replaced (RFC 4724 §4.2).
const REPLACED: &str = "the peer restarted gracefully and came back on a new connection";

/// One neighbour.
#[derive(Debug, Clone)]
pub struct Peer {
    settings: Settings,
    pub(super) life: Life,
    pub(super) home: Side,
    /// The connection that the peer opened, while it is not the lasting one.
    pub(super) guest: Option<Side>,
    seed: u64,
    pub(super) restart_state: RestartState,
    /// What connections that were closed after a NOTIFICATION still have to write.
    pub(super) last_words: BTreeMap<ConnId, Queue>,
    /// The newest plan. `None`: not planned yet, which is not an empty plan; nothing is sent until there is one.
    pub(super) plan: Option<Plan>,
    /// Which routes of it are sent, where the peer takes only so many.
    admission: Admission,
    intake: Intake,
    pub(super) outputs: VecDeque<Output>,
    connections: u64,
    /// When an attempt was last made without delay, because the address of the connection before it was gone.
    hurried: Option<Instant>,
    status: Status,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Life {
    /// Made, or running.
    Running,
    /// Stopped for good.
    Stopped,
}

impl Peer {
    /// A peer at rest. `seed` decides the jitter of its timers.
    pub fn new(settings: Settings, seed: u64, now: Instant) -> Self {
        let restart_state = settings.restart_state;
        let mut session = Session::new(terms(&settings), seed);
        session.set_restart_state(restart_state);
        Self {
            status: Status::at_rest(&settings, now),
            home: Side { session, link: Link::Absent },
            restart_state,
            guest: None,
            seed,
            settings,
            life: Life::Running,
            last_words: BTreeMap::new(),
            plan: None,
            admission: Admission::default(),
            intake: Intake::new(now),
            outputs: VecDeque::new(),
            connections: 0,
            hurried: None,
        }
    }

    /// The peer opened a connection to us: its number, or `None` if it is not welcome and should be closed without a word.
    /// A connection that the peer opened before, and that has come to nothing, is given up.
    pub fn accept(&mut self, end: LocalEnd, now: Instant) -> Option<ConnId> {
        if self.life == Life::Stopped || !self.home.session.is_open_to_peer() {
            return None;
        }
        self.dump(Which::Guest, now);
        let id = self.next_connection();
        let mut session = Session::new(terms(&self.settings), self.seed ^ id.0);
        session.set_restart_state(self.restart_state);
        self.guest = Some(Side { session, link: Link::Opening(Connection { id, end, queue: Queue::default() }) });
        self.event(Which::Guest, Event::AutomaticStartPassive, now);
        self.event(Which::Guest, Event::TcpConnectionConfirmed, now);
        self.publish();
        Some(id)
    }

    /// Takes one input. What comes of connections that were given up is ignored, and so is everything after a stop.
    pub fn handle(&mut self, input: Input<'_>, now: Instant) {
        match (input, self.life) {
            (Input::Closed(conn, error), Life::Running | Life::Stopped) => self.closed(conn, error, now),
            (Input::Displaced(conn, why), Life::Stopped) => self.closed(conn, Some(why), now),
            (Input::Displaced(conn, why), Life::Running) => self.displaced(conn, why, now),
            (
                Input::Start
                | Input::Stop(_)
                | Input::Timeout
                | Input::Connected(..)
                | Input::Located(..)
                | Input::ConnectFailed(..)
                | Input::Received(..)
                | Input::Acknowledged(_)
                | Input::Crowded(_)
                | Input::Plan(_),
                Life::Stopped,
            ) => {}
            (Input::Start, Life::Running) => self.start(now),
            (Input::Stop(stop), Life::Running) => self.stop(&stop, now),
            (Input::Timeout, Life::Running) => self.timeout(now),
            (Input::Connected(conn, end), Life::Running) => self.connected(conn, end, now),
            (Input::Located(conn, end), Life::Running) => self.located(conn, end),
            (Input::ConnectFailed(conn, error), Life::Running) => {
                if matches!(self.home.link, Link::Dialing(current) if current == conn) {
                    self.home.link = Link::Absent;
                    self.event(Which::Home, Event::TcpConnectionFails(Some(error)), now);
                }
            }
            (Input::Received(conn, octets), Life::Running) => self.received(conn, octets, now),
            (Input::Acknowledged(conn), Life::Running) => {
                if self.home.link.is_open(conn) {
                    self.home.session.acknowledged(now);
                }
            }
            (Input::Crowded(conn), Life::Running) => {
                if let Some(which) = self.side_of(conn) {
                    let cease = Notification::bare(6, CeaseSubcode::OutOfResources as u8);
                    self.event(which, Event::AutomaticStop(cease), now);
                }
            }
            (Input::Plan(plan), Life::Running) => {
                if planted(Bug::PlanResets) && self.plan.is_some() {
                    self.event(Which::Home, Event::OpenCollisionDump, now);
                }
                self.planned(plan);
            }
        }
        self.publish();
    }

    /// Whether the session is Established over this connection.
    pub fn is_established_on(&self, conn: ConnId) -> bool {
        matches!(self.home.link, Link::Up(..)) && self.home.link.is_open(conn)
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
        let Some(which) = self.side_of(conn) else { return };
        let Self { home, guest, status, plan, admission, restart_state, .. } = self;
        let Some(side) = (match which {
            Which::Home => Some(home),
            Which::Guest => guest.as_mut(),
        }) else {
            return;
        };
        let is_plain = side.session.negotiated().is_some_and(|negotiated| negotiated.restart == Restart::Unannounced);
        match &mut side.link {
            Link::Opening(connection) => connection.queue.write(out, limit, &mut status.sent),
            Link::Up(connection, export) => {
                connection.queue.write(out, limit, &mut status.sent);
                if planted(Bug::EndOfRibBeforePlan) && plan.is_none() {
                    export.write(&Plan::default(), admission, out, limit, now);
                }
                let Some(plan) = plan else { return };
                if planted(Bug::NoTableForPlainPeer) && *restart_state != RestartState::Running && is_plain {
                    return;
                }
                let Written { updates, marks } = export.write(plan, admission, out, limit, now);
                for (name, count) in [(link::UPDATE, updates), (link::ROUTE_REFRESH, marks)] {
                    if count > 0 {
                        *status.sent.entry(name).or_default() += count;
                        side.session.sent_update(now);
                    }
                }
                if matches!(export.end_of_rib(), EndOfRib::Sent(_)) {
                    *restart_state = RestartState::Running;
                    status.first_table = FirstTable::Sent;
                    side.session.set_restart_state(RestartState::Running);
                }
                self.publish();
            }
            Link::Absent | Link::Dialing(_) => {}
        }
    }

    /// When to call again with [`Input::Timeout`].
    pub fn poll_timeout(&self) -> Option<Instant> {
        let sides = [Some(&self.home), self.guest.as_ref()];
        sides.into_iter().flatten().filter_map(|side| side.session.poll_timeout()).map(|(at, _)| at).min()
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

    fn start(&mut self, now: Instant) {
        let event = match self.settings.neighbor.opening {
            Opening::Active => Event::AutomaticStart,
            Opening::Passive => Event::AutomaticStartPassive,
        };
        self.event(Which::Home, event, now);
    }

    fn stop(&mut self, stop: &Stop, now: Instant) {
        let graceful = self.home.session.negotiated().map_or(Graceful::No, |negotiated| negotiated.graceful);
        if matches!(stop, Stop::Deconfigured | Stop::OutOfResources)
            && let Link::Up(connection, export) = &mut self.home.link
        {
            let mut octets = BytesMut::new();
            let messages = export.write_withdrawals(&mut octets);
            connection.queue.push_updates(messages, octets);
        }
        let (cease, manner) = stop.words(graceful);
        match (manner, &self.home.link) {
            (Manner::Silent, Link::Up(..)) => self.part(Which::Home, Parting::Now),
            (Manner::Silent | Manner::Said, _) => {}
        }
        self.event(Which::Guest, Event::ManualStop(cease.clone()), now);
        self.event(Which::Home, Event::ManualStop(cease), now);
        self.life = Life::Stopped;
    }

    fn timeout(&mut self, now: Instant) {
        for which in [Which::Home, Which::Guest] {
            if let Some(side) = self.side_mut(which) {
                side.session.handle_timeout(now);
                self.follow(which, now);
            }
        }
    }

    fn connected(&mut self, conn: ConnId, end: LocalEnd, now: Instant) {
        if matches!(self.home.link, Link::Dialing(current) if current == conn) {
            self.home.link = Link::Opening(Connection { id: conn, end, queue: Queue::default() });
            self.event(Which::Home, Event::TcpCrAcked, now);
        }
    }

    /// Chooses next hops anew where our end's surroundings changed; routes follow at once.
    fn located(&mut self, conn: ConnId, end: LocalEnd) {
        let nothing = Plan::default();
        let plan = self.plan.as_ref().unwrap_or(&nothing);
        let guest = self.guest.as_mut().map(|side| &mut side.link);
        for link in std::iter::once(&mut self.home.link).chain(guest) {
            match link {
                Link::Up(connection, export) if connection.id == conn => {
                    export.relocate(&end, plan);
                    connection.end = end.clone();
                }
                Link::Opening(connection) if connection.id == conn => connection.end = end.clone(),
                Link::Absent | Link::Dialing(_) | Link::Opening(_) | Link::Up(..) => {}
            }
        }
    }

    fn closed(&mut self, conn: ConnId, error: Option<String>, now: Instant) {
        self.last_words.remove(&conn);
        let stale = planted(Bug::StaleEnd).then_some(Which::Home);
        if let Some(which) = self.side_of(conn).or(stale)
            && let Some(side) = self.side_mut(which)
        {
            side.link = Link::Absent;
            if planted(Bug::DeadRival) && which == Which::Guest {
                return;
            }
            self.event(which, Event::TcpConnectionFails(error), now);
        }
    }

    /// Nothing is wrong with the peer: another address may reach it at once. One that goes soon after the last follows the back-off.
    fn displaced(&mut self, conn: ConnId, why: String, now: Instant) {
        let which = self.side_of(conn);
        self.closed(conn, Some(why), now);
        let is_due = self.hurried.is_none_or(|at| now.saturating_duration_since(at) >= HURRY_INTERVAL);
        if which == Some(Which::Home) && is_due {
            self.hurried = Some(now);
            self.home.session.hurry(now);
        }
    }

    fn planned(&mut self, plan: Plan) {
        if let Link::Up(connection, export) = &mut self.home.link {
            export.relocate(&connection.end, &plan);
            export.confine(&plan.bounds);
        }
        self.plan = Some(plan);
    }

    fn received(&mut self, conn: ConnId, octets: &mut BytesMut, now: Instant) {
        // Anew for every message: one of them may have made a guest the lasting one, or closed the connection.
        while let Some((which, side)) = self.side_of(conn).and_then(|which| Some((which, self.side(which)?))) {
            if !side.link.is_open(conn) {
                break;
            }
            let context = side.session.reading();
            let whole = match frame(octets, context) {
                Ok(None) => return,
                Ok(Some(whole)) => whole,
                Err(error) => {
                    self.malformed(which, error, octets, now);
                    continue;
                }
            };
            match Message::decode(&whole, context) {
                Ok(message) => self.message(which, message, &whole, now),
                Err(error) => self.malformed(which, error, &whole, now),
            }
        }
        // The connection is no longer ours: whatever else came on it has no reader.
        octets.clear();
    }

    fn malformed(&mut self, which: Which, error: wire::Error, octets: &[u8], now: Instant) {
        self.intake.error(&error, octets, &mut self.status, now);
        self.event(which, Event::malformed(error.into()), now);
    }

    fn message(&mut self, which: Which, message: Message, octets: &[u8], now: Instant) {
        *self.status.received.entry(link::name(&message)).or_default() += 1;
        match message {
            Message::Open(open) => self.open(which, open, now),
            Message::Update(update) => {
                self.intake.update(&update, octets, &mut self.status, now);
                self.event(which, Event::UpdateMsg, now);
            }
            Message::Notification(notification) => {
                self.remember(format!("received {notification}"));
                self.event(which, Event::notified(notification), now);
            }
            Message::Keepalive => self.event(which, Event::KeepAliveMsg, now),
            Message::RouteRefresh(request) => {
                self.event(which, Event::RouteRefreshMsg(request.family), now);
                // Marks belong to an answer, and we ask for nothing.
                let Link::Up(_, export) = &mut self.home.link else { return };
                match request.kind() {
                    RefreshKind::Request if which == Which::Home => export.refresh(request.family),
                    RefreshKind::Request | RefreshKind::Begin | RefreshKind::End | RefreshKind::Unknown(_) => {}
                }
            }
        }
    }

    /// An OPEN: where there is another connection, one of the two may have to go before anything is answered. A KEEPALIVE
    /// on one that is about to be closed would make the peer take it for the session.
    fn open(&mut self, which: Which, open: Open, now: Instant) {
        let this = self.side(which).filter(|side| side.session.would_accept(&open));
        let rival = this.and(self.side(which.other())).map(|side| side.as_rival(which.other()));
        let verdict = rival.map_or(Verdict::KeepBoth, |rival| {
            let ours = End { router_id: self.settings.identity.router_id, asn: self.settings.identity.asn };
            collision::judge(ours, End { router_id: open.router_id, asn: open.asn() }, rival)
        });
        let which = match verdict {
            Verdict::KeepBoth => which,
            Verdict::CloseThis => return self.dump(which, now),
            Verdict::CloseRival => {
                self.dump(which.other(), now);
                which
            }
            Verdict::ReplaceRival => {
                if planted(Bug::ReplacedAloud) {
                    self.dump(Which::Home, now);
                }
                self.part(Which::Home, Parting::Now);
                self.status.last_down = Some((now, REPLACED.to_owned()));
                self.promote();
                Which::Home
            }
        };
        if let Some(side) = self.side_mut(which) {
            side.session.handle_open(open, now);
            self.follow(which, now);
        }
    }

    // === the sessions and what they ask for ===

    fn side(&self, which: Which) -> Option<&Side> {
        match which {
            Which::Home => Some(&self.home),
            Which::Guest => self.guest.as_ref(),
        }
    }

    fn side_mut(&mut self, which: Which) -> Option<&mut Side> {
        match which {
            Which::Home => Some(&mut self.home),
            Which::Guest => self.guest.as_mut(),
        }
    }

    fn side_of(&self, conn: ConnId) -> Option<Which> {
        let is_on = |which: &Which| self.side(*which).is_some_and(|side| side.link.id() == Some(conn));
        [Which::Home, Which::Guest].into_iter().find(is_on)
    }

    fn next_connection(&mut self) -> ConnId {
        let id = ConnId(self.connections);
        self.connections += 1;
        id
    }

    fn event(&mut self, which: Which, event: Event, now: Instant) {
        if let Some(side) = self.side_mut(which) {
            side.session.handle(event, now);
            self.follow(which, now);
        }
    }

    /// Closes a connection that lost against another one (RFC 4271 §6.8).
    fn dump(&mut self, which: Which, now: Instant) {
        if let Some(side) = self.side_mut(which)
            && matches!(side.link, Link::Opening(_) | Link::Up(..))
        {
            if planted(Bug::LoserUnheard) {
                side.link = Link::Absent;
            }
            self.event(which, Event::OpenCollisionDump, now);
        }
    }

    /// Does what a session asks for, then brings its link to where the state is.
    fn follow(&mut self, which: Which, now: Instant) {
        while let Some(output) = self.side_mut(which).and_then(|side| side.session.poll_output()) {
            match output {
                fsm::Output::Dial => self.dial(which),
                fsm::Output::Send(message) => self.send(which, &message),
                fsm::Output::Drop(parting) => self.part(which, parting),
                fsm::Output::Down(down) => self.down(which, &down, now),
            }
        }
        match self.side(which).map(|side| side.session.state()) {
            Some(State::Established(..)) => self.established(which, now),
            // A guest has no second life: the lasting side is the one that tries again.
            Some(State::Idle | State::Connect | State::Active) if which == Which::Guest => {
                let link = self.side(which).map(|side| &side.link);
                if matches!(link, Some(Link::Absent | Link::Dialing(_))) {
                    self.guest = None;
                }
            }
            Some(_) | None => {}
        }
    }

    /// One connection is Established: it is the lasting one, and any other is given up.
    fn established(&mut self, which: Which, now: Instant) {
        match which {
            Which::Home => {
                if matches!(self.home.link, Link::Up(..)) {
                    return;
                }
                self.dump(Which::Guest, now);
            }
            Which::Guest => {
                let Some(mut guest) = self.guest.take() else { return };
                guest.session.inherit(&self.home.session);
                // Its own dial is cancelled, or told that it lost; either way its failures are not counted.
                match self.home.link {
                    Link::Absent | Link::Dialing(_) => self.part(Which::Home, Parting::Now),
                    Link::Opening(_) | Link::Up(..) => self.dump(Which::Home, now),
                }
                self.home = guest;
            }
        }
        let State::Established(negotiated, _) = self.home.session.state() else { return };
        self.home.link = match std::mem::replace(&mut self.home.link, Link::Absent) {
            Link::Opening(connection) => {
                self.status.established_count += 1;
                let export = Export::new(&self.settings, negotiated, &connection.end, self.plan.as_ref());
                Link::Up(connection, Box::new(export))
            }
            unchanged @ (Link::Absent | Link::Dialing(_) | Link::Up(..)) => unchanged,
        };
    }

    /// The guest takes the place of the lasting side, whose connection is closed already.
    fn promote(&mut self) {
        if let Some(mut guest) = self.guest.take() {
            guest.session.inherit(&self.home.session);
            self.home = guest;
        }
    }

    fn dial(&mut self, which: Which) {
        let id = self.next_connection();
        if let Some(side) = self.side_mut(which) {
            side.link = Link::Dialing(id);
            self.outputs.push_back(Output::Connect(id));
        }
    }

    fn send(&mut self, which: Which, message: &Message) {
        let Some(side) = self.side_mut(which) else { return };
        match &mut side.link {
            Link::Absent | Link::Dialing(_) => return,
            Link::Opening(connection) => connection.queue.push(message, side.session.context()),
            // A NOTIFICATION goes out when the session has left its state, in which it could be a long one (RFC 8654).
            Link::Up(connection, export) => connection.queue.push(message, export.context()),
        }
        if let Message::Notification(notification) = message {
            self.remember(format!("sent {notification}"));
        }
    }

    fn part(&mut self, which: Which, parting: Parting) {
        let how = match parting {
            Parting::AfterFlush => CloseHow::AfterFlush,
            Parting::Now => CloseHow::Now,
        };
        let Some(side) = self.side_mut(which) else { return };
        match std::mem::replace(&mut side.link, Link::Absent) {
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

    /// Remembers why a session or an attempt ended. The end of a guest beside a session is no news about the session.
    fn down(&mut self, which: Which, down: &Down, now: Instant) {
        let beside = which == Which::Guest && matches!(self.home.session.state(), State::Established(..));
        match down {
            Down::Collision => self.status.collisions += 1,
            _ if beside => {}
            down => self.status.last_down = Some((now, down.to_string())),
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
        let Link::Up(connection, export) = &self.home.link else {
            self.status.phase = self.phase_below_established();
            self.status.advertised.clear();
            self.status.unannounced.clear();
            self.status.barred.clear();
            self.status.limits.clear();
            return;
        };
        let status = &mut self.status;
        status.advertised.clone_from(export.advertised());
        status.unannounced.clone_from(export.unannounced());
        status.barred = export.barred();
        status.limits =
            self.plan.as_ref().map(|plan| export.limits(&plan.prefix_limits, &self.admission)).unwrap_or_default();
        if let State::Established(negotiated, since) = self.home.session.state() {
            status.phase = Phase::Established {
                since: *since,
                local: connection.end.local,
                router_id: negotiated.router_id,
                hold_time: negotiated.hold_time,
                graceful: negotiated.graceful,
                families: negotiated.context.families.iter().copied().collect(),
                next_hops: export.next_hops().clone(),
                end_of_rib: export.end_of_rib(),
            };
        }
    }

    /// Of two connections the one that is further.
    fn phase_below_established(&self) -> Phase {
        let guest = self.guest.as_ref().filter(|guest| guest.progress() > self.home.progress());
        match guest.unwrap_or(&self.home).session.state() {
            State::Idle => Phase::Idle { retry_at: self.poll_timeout() },
            State::Connect | State::OpenDelayed(Origin::Dialled) => Phase::Connect,
            State::Active | State::OpenDelayed(Origin::Accepted) => Phase::Active,
            State::OpenSent => Phase::OpenSent,
            // Established has its link, always; see `established`.
            State::OpenConfirm(_) | State::Established(..) => Phase::OpenConfirm,
        }
    }
}

fn terms(settings: &Settings) -> Terms {
    let neighbor = &settings.neighbor;
    Terms {
        asn: settings.identity.asn,
        router_id: settings.identity.router_id,
        peer_asn: neighbor.asn,
        hold_time: neighbor.hold_time,
        families: neighbor.families.clone(),
        opening: neighbor.opening,
        delay_open: neighbor.delay_open,
        send_hold_time: neighbor.send_hold_time,
        graceful_restart: neighbor.graceful_restart,
        message_size: neighbor.message_size,
        role: neighbor.role,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::peer::settings::{Identity, Neighbor};
    use crate::wire::{Asn, Context, RouterId};

    #[test]
    fn a_connection_that_there_is_no_room_for_hears_so() {
        let now = Instant::now();
        let settings = Settings {
            identity: Identity { asn: Asn(64512), router_id: RouterId::new([10, 0, 0, 1].into()).unwrap() },
            neighbor: Neighbor {
                opening: Opening::Passive,
                ..Neighbor::new("r".into(), [192, 0, 2, 1].into(), Asn(2))
            },
            restart_state: RestartState::default(),
        };
        let mut peer = Peer::new(settings, 7, now);
        peer.handle(Input::Start, now);
        let end = LocalEnd {
            local: "192.0.2.2:179".parse().unwrap(),
            remote: "192.0.2.1:1024".parse().unwrap(),
            interface: Vec::new(),
            unfit: Vec::new(),
        };
        let conn = peer.accept(end, now).unwrap();
        assert!(!peer.is_established_on(conn));
        peer.transmit(conn, &mut BytesMut::new(), usize::MAX, now);
        peer.handle(Input::Crowded(conn), now);
        assert_eq!(peer.poll_output(), Some(Output::Close(conn, CloseHow::AfterFlush)));
        let mut said = BytesMut::new();
        peer.transmit(conn, &mut said, usize::MAX, now);
        let told = Message::decode(&said, &Context::before_open()).unwrap();
        let wanted = Notification::bare(6, CeaseSubcode::OutOfResources as u8);
        assert_eq!(told, Message::Notification(wanted));
    }
}
