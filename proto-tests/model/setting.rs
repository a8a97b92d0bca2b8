//! What the two peers of a configuration are.

use herald::peer::settings::{Offer, Opening, RestartState};
use herald::peer::{Identity, Neighbor, Peer, Plan, Settings};
use herald::rib::Bounds;
use herald::wire::{Asn, Family, Prefix, RouterId};
use std::net::{IpAddr, Ipv4Addr};
use std::time::{Duration, Instant};

/// Who can restart gracefully.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Graceful {
    Nobody,
    First,
    Both,
}

/// How finely what is under way is taken apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Grain {
    /// By octets: pieces of messages, single messages, all at once; a cut keeps part of what is under way.
    Fine,
    /// All at once, and a cut keeps all or nothing: fewer ways, so that longer ones can be gone.
    Coarse,
}

/// In which order states are looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Search {
    /// The nearest first.
    Broad,
    /// Every way to its end first, so many steps at most.
    Deep(usize),
}

/// One configuration.
#[derive(Debug, Clone, Copy)]
pub struct Setting {
    pub name: &'static str,
    pub asns: [u32; 2],
    pub ids: [u8; 2],
    pub openings: [Opening; 2],
    /// DelayOpenTime of each, in seconds.
    pub delays: [u64; 2],
    pub graceful: Graceful,
    /// Whether plans come while the world turns, or never.
    pub plans: bool,
    /// Processes that may die, of both together.
    pub deaths: u8,
    /// Lines that may be cut.
    pub cuts: u8,
    pub grain: Grain,
    pub search: Search,
    /// Connections at the same time, dying ones included.
    pub wires: usize,
    /// The one moment at which everything happens.
    pub now: Instant,
}

impl Setting {
    pub fn named(name: &'static str, now: Instant) -> Self {
        Self {
            name,
            asns: [64512, 64513],
            ids: [1, 2],
            openings: [Opening::Active; 2],
            delays: [0; 2],
            graceful: Graceful::Nobody,
            plans: false,
            deaths: 0,
            cuts: 1,
            grain: Grain::Fine,
            search: Search::Broad,
            wires: 3,
            now,
        }
    }

    pub fn offers(&self, side: usize) -> bool {
        match self.graceful {
            Graceful::Nobody => false,
            Graceful::First => side == 0,
            Graceful::Both => true,
        }
    }

    pub fn peer(&self, side: usize) -> Peer {
        let address = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 2 - side as u8));
        let settings = Settings {
            identity: Identity {
                asn: Asn(self.asns[side]),
                router_id: RouterId::new(Ipv4Addr::new(10, 0, 0, self.ids[side])).expect("not zero"),
            },
            restart_state: RestartState::default(),
            neighbor: Neighbor {
                families: [Family::IPV4_UNICAST].into(),
                opening: self.openings[side],
                delay_open: Duration::from_secs(self.delays[side]),
                graceful_restart: self.offers(side).then_some(Offer { restart_time: Duration::from_secs(60) }),
                ..Neighbor::new("other".into(), address, Asn(self.asns[1 - side]))
            },
        };
        Peer::new(settings, side as u64, self.now)
    }

    /// One route of each side's own.
    pub fn plan(&self, side: usize) -> Plan {
        let route = Prefix::host(Ipv4Addr::new(198, 51, 100, 1 + side as u8).into());
        Plan {
            routes: [(route, Default::default())].into_iter().collect(),
            bounds: Bounds::everything(),
            ..Plan::default()
        }
    }
}
