//! The model router: passive, simple, unforgiving. One value a connection.

use crate::model::{Path, Setting, Table};
use bytes::BytesMut;
use herald::wire::{
    AsWidth, Attribute, Capability, Context, Family, Message, Notification, Open, PeerKind, Prefix, RouteRefresh,
    RouterId, Update, frame,
};
use std::net::{IpAddr, Ipv4Addr};
use std::time::{Duration, Instant};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    AwaitsOpen,
    AwaitsKeepalive,
    Up,
    Closed,
}

pub struct Router {
    setting: Setting,
    pub stage: Stage,
    context: Context,
    stream: BytesMut,
    /// What goes back.
    pub replies: BytesMut,
    pub table: Table,
    /// The table at the moment of the last End-of-RIB that was due.
    pub at_end_of_rib: Option<Table>,
    ended: Vec<Family>,
    /// Refreshes that dropped a part of the table make the snapshot above say nothing.
    pub dropped: u32,
    pub told: Option<Notification>,
    pub updates: u64,
    heard: Instant,
    spoken: Instant,
}

impl Router {
    pub fn new(setting: &Setting, now: Instant) -> Self {
        Self {
            setting: setting.clone(),
            stage: Stage::AwaitsOpen,
            context: Context::before_open(),
            stream: BytesMut::new(),
            replies: BytesMut::new(),
            table: Table::new(),
            at_end_of_rib: None,
            ended: Vec::new(),
            dropped: 0,
            told: None,
            updates: 0,
            heard: now,
            spoken: now,
        }
    }

    fn hold(&self) -> Duration {
        match self.stage {
            Stage::AwaitsOpen => Duration::from_secs(240),
            Stage::AwaitsKeepalive | Stage::Up | Stage::Closed => Duration::from_secs(self.setting.hold().into()),
        }
    }

    pub fn next(&self) -> Option<Instant> {
        match (self.stage, self.hold()) {
            (Stage::Closed, _) | (_, Duration::ZERO) => None,
            (Stage::AwaitsOpen, hold) => Some(self.heard + hold),
            (Stage::AwaitsKeepalive | Stage::Up, hold) => Some((self.heard + hold).min(self.spoken + hold / 3)),
        }
    }

    pub fn tick(&mut self, now: Instant) {
        if self.next().is_none_or(|at| at > now) {
            return;
        }
        if self.heard + self.hold() <= now {
            self.complain(Notification::HOLD_TIMER_EXPIRED);
        } else {
            self.say(&Message::Keepalive);
            self.spoken = now;
        }
    }

    pub fn say(&mut self, message: &Message) {
        message.encode(&self.context, &mut self.replies).unwrap();
    }

    pub fn complain(&mut self, notification: Notification) {
        self.say(&Message::Notification(notification));
        self.stage = Stage::Closed;
    }

    /// Asks again; with `drop` it forgets what it has, so that only a full answer makes it whole.
    pub fn refresh(&mut self, family: Family, drop: Drop) {
        self.say(&Message::RouteRefresh(RouteRefresh { family, subtype: 0 }));
        if drop == Drop::First {
            self.table.retain(|prefix, _| prefix.family() != family);
            self.dropped += 1;
        }
    }

    pub fn receive(&mut self, octets: &[u8], now: Instant) {
        self.stream.extend_from_slice(octets);
        while self.stage != Stage::Closed {
            let Some(whole) = frame(&mut self.stream, &self.context).expect("our framing is right") else { return };
            let message = Message::decode(&whole, &self.context).expect("our messages can be read");
            self.message(message, whole.len(), now);
        }
    }

    fn message(&mut self, message: Message, len: usize, now: Instant) {
        match (message, self.stage) {
            (Message::Open(open), Stage::AwaitsOpen) => self.open(&open, now),
            (Message::Keepalive, Stage::AwaitsKeepalive) => {
                self.stage = Stage::Up;
                self.heard = now;
            }
            (Message::Keepalive, Stage::Up) => self.heard = now,
            (Message::Update(update), Stage::Up) => {
                assert!(len <= 4096);
                self.heard = now;
                self.updates += 1;
                self.update(&update);
            }
            (Message::Notification(notification), _) => {
                self.told = Some(notification);
                self.stage = Stage::Closed;
            }
            (message, stage) => panic!("{message:?} in {stage:?}"),
        }
    }

    fn open(&mut self, open: &Open, now: Instant) {
        assert_eq!(open.asn(), self.setting.our_asn);
        assert_eq!(open.hold_time, self.setting.our_hold);
        let families = self.setting.router_families.iter().map(|family| Capability::Multiprotocol(*family));
        let wide = self.setting.router_is_wide.then_some(Capability::FourOctetAs(self.setting.router_asn));
        let ours = Open {
            my_as: self.setting.router_asn.two_octets(),
            hold_time: self.setting.router_hold,
            router_id: RouterId::new(Ipv4Addr::new(10, 255, 0, 1)).unwrap(),
            capabilities: families.chain([Capability::RouteRefresh]).chain(wide).collect(),
        };
        self.say(&Message::Open(ours));
        self.say(&Message::Keepalive);
        let internal = self.setting.our_asn == self.setting.router_asn;
        self.context = Context {
            as_width: if self.setting.router_is_wide { AsWidth::Four } else { AsWidth::Two },
            peer_kind: if internal { PeerKind::Internal } else { PeerKind::External },
            families: self.setting.families(),
            ..Context::before_open()
        };
        self.stage = Stage::AwaitsKeepalive;
        (self.heard, self.spoken) = (now, now);
    }

    fn update(&mut self, update: &Update) {
        assert!(update.faults.is_empty(), "our UPDATE is malformed: {:?}", update.faults);
        if let Some(family) = update.end_of_rib() {
            assert!(self.setting.families().contains(&family) && !self.ended.contains(&family), "{family} ended twice");
            self.ended.push(family);
            if self.ended.len() == self.setting.families().len() {
                self.at_end_of_rib = Some(self.table.clone());
            }
            return;
        }
        assert_carries_one_kind(update);
        for prefix in update.gone() {
            // A route that was never announced, or is gone, is withdrawn only after the router itself dropped the table.
            assert!(self.table.remove(&prefix).is_some() || self.dropped > 0, "{prefix} withdrawn and never announced");
        }
        let announced: Vec<(Prefix, IpAddr)> = update.announced().collect();
        // Two octets or four: behind AS_TRANS stands AS4_PATH, and both together name our AS alone.
        assert!(update.as_path().is_none_or(|whole| whole.asns().all(|asn| asn == self.setting.our_asn)), "{update:?}");
        for (prefix, next_hop) in announced {
            self.table.insert(prefix, path(update, next_hop));
        }
        for family in self.setting.families() {
            let held = self.table.keys().filter(|prefix| prefix.family() == family).count();
            assert!(held <= self.setting.most(), "{held} of {family} are more than 90 % of what is accepted");
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Drop {
    First,
    Nothing,
}

/// RFC 7606 §5.1: one of four kinds, and an MP attribute first.
fn assert_carries_one_kind(update: &Update) {
    let is_mp = |attribute: &Attribute| matches!(attribute, Attribute::MpReach(_) | Attribute::MpUnreach(_));
    let mps = update.attributes.iter().filter(|attribute| is_mp(attribute)).count();
    let kinds = usize::from(!update.withdrawn.is_empty()) + usize::from(!update.nlri.is_empty()) + mps;
    assert_eq!(kinds, 1, "an UPDATE mixes kinds: {update:?}");
    assert!(mps == 0 || is_mp(&update.attributes[0]), "an MP attribute is not the first: {update:?}");
}

fn path(update: &Update, next_hop: IpAddr) -> Path {
    let mut path = Path {
        next_hop,
        as_path: vec![],
        med: None,
        local_pref: None,
        communities: vec![],
        extended_communities: vec![],
        large_communities: vec![],
    };
    for attribute in &update.attributes {
        match attribute {
            Attribute::AsPath(seen) => path.as_path = seen.segments.iter().flat_map(|s| s.asns.clone()).collect(),
            Attribute::MultiExitDisc(med) => path.med = Some(*med),
            Attribute::LocalPref(preference) => path.local_pref = Some(*preference),
            Attribute::Communities(list) => path.communities.clone_from(list),
            Attribute::ExtendedCommunities(list) => path.extended_communities.clone_from(list),
            Attribute::LargeCommunities(list) => path.large_communities.clone_from(list),
            Attribute::Origin(_) | Attribute::NextHop(_) | Attribute::MpReach(_) | Attribute::MpUnreach(_) => {}
            Attribute::As4Path(_) => {}
            Attribute::AtomicAggregate
            | Attribute::Aggregator(_)
            | Attribute::OriginatorId(_)
            | Attribute::ClusterList(_)
            | Attribute::As4Aggregator(_)
            | Attribute::Ipv6ExtendedCommunities(_)
            | Attribute::OnlyToCustomer(_)
            | Attribute::Unknown { .. } => panic!("we send no such attribute: {attribute:?}"),
        }
    }
    path
}
