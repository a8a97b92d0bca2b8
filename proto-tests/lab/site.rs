//! A lab with its routers, watchers and speakers running: what most cases begin with.

use crate::manifests::{Manifests, Policy};
use crate::rig::fib::Watch;
use crate::rig::probe::{Tally, connections};
use crate::rig::router::{Kind, Neighbour, Router};
use crate::rig::{Outcome, Rig};
use crate::speaker::{Config, Speaker};
use crate::topology::{FAMILIES, Family, Lab, hops, service_route, service_socket};
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// The hold time of the cases that wait for it.
pub const HOLD: Duration = Duration::from_secs(9);
/// How long a table may take to follow something that is said at once.
pub const SOON: Duration = Duration::from_secs(5);
/// How long a fresh start may take.
pub const START: Duration = Duration::from_secs(20);

/// Everything of one case. Fields end in this order: speakers first, the wiring last.
#[derive(Debug)]
pub struct Site {
    /// n1, n2, n3.
    pub speakers: Vec<Speaker>,
    /// What is known of r1's and r2's tables.
    pub watches: Vec<Watch>,
    /// r1, r2.
    pub routers: Vec<Router>,
    /// What the speakers read.
    pub manifests: Manifests,
    /// What carries the sessions.
    pub transport: Family,
    /// The wiring.
    pub lab: Lab,
}

impl Site {
    /// Two routers of a kind, watched, with three speakers whose sessions run over one family; service 1 is `Cluster` with
    /// endpoints on n1 and n2, service 2 is `Local` there.
    ///
    /// # Errors
    /// Something did not start.
    pub fn start(rig: &Arc<Rig>, kind: Kind, transport: Family) -> Outcome<Self> {
        let lab = Lab::build(rig)?;
        let manifests = Manifests::begin(rig)?;
        manifests.service(1, Policy::Cluster, &[1, 2])?;
        manifests.service(2, Policy::Local, &[1, 2])?;
        let start = |j: usize| Router::start(kind, rig, &lab.routers[j - 1], &lab.plan(j, transport, HOLD));
        let routers = (1..=2).map(start).collect::<Outcome<Vec<_>>>()?;
        let watches = lab.routers.iter().map(Watch::begin).collect::<Outcome<Vec<_>>>()?;
        let mut site = Self { speakers: Vec::new(), watches, routers, manifests, transport, lab };
        site.silent()?;
        for node in 1..=3 {
            let speaker = site.speaker(node)?;
            site.speakers.push(speaker);
        }
        Ok(site)
    }

    /// Starts the speaker of a node, from 1.
    ///
    /// # Errors
    /// It could not be started.
    pub fn speaker(&self, node: usize) -> Outcome<Speaker> {
        let config = Config::of_node(node, self.transport, HOLD);
        Speaker::start(&self.lab.rig, &self.lab.nodes[node - 1], &config, &self.manifests)
    }

    /// Before anything is announced nothing may be reachable, else the cases below would prove nothing.
    fn silent(&mut self) -> Outcome {
        for family in FAMILIES {
            let tally = connections(&self.lab.client, service_socket(1, family), 2)?;
            if tally.answered() > 0 {
                return Err(format!("nothing is announced and yet {tally}"));
            }
        }
        Ok(())
    }

    /// Waits until both routers have exactly these nodes as next hops of a service, in both families; says how long after
    /// `since` the last of the four tables was right.
    ///
    /// # Errors
    /// The time is up, or a speaker has ended; the text holds what was seen.
    pub fn wait_nodes(&mut self, within: Duration, number: u8, nodes: &[usize], since: Instant) -> Outcome<Duration> {
        let mut last = Duration::ZERO;
        for family in FAMILIES {
            for (j, watch) in self.watches.iter_mut().enumerate() {
                let want = hops(nodes, j + 1, family);
                let left = (since + within).saturating_duration_since(Instant::now());
                let at = watch.wait_hops(left, service_route(number, family), &want);
                let at =
                    at.map_err(|what| format!("{what}{}\n{}", ends(&mut self.speakers), self.routers[j].account()))?;
                last = last.max(at.saturating_duration_since(since));
            }
        }
        Ok(last)
    }

    /// Makes connections to a service in both families: all must be answered, and exactly by these nodes.
    ///
    /// # Errors
    /// One was not answered, or a node answered too much or not at all.
    pub fn all_answered(&self, number: u8, count: usize, nodes: &[usize]) -> Outcome {
        let names: Vec<String> = nodes.iter().map(|node| format!("n{node}")).collect();
        let want: BTreeSet<&str> = names.iter().map(String::as_str).collect();
        for family in FAMILIES {
            let tally: Tally = connections(&self.lab.client, service_socket(number, family), count)?;
            println!("  service {number} {family:?}: {tally}");
            if tally.answered() != count || tally.nodes() != want {
                return Err(format!("service {number} {family:?}: {tally}; wanted all of them, from {names:?}"));
            }
        }
        Ok(())
    }

    /// A router's neighbour of a node, both from 1.
    pub fn neighbour(&self, router: usize, node: usize) -> Neighbour {
        self.lab.plan(router, self.transport, HOLD).neighbours.swap_remove(node - 1)
    }
}

/// What the speakers that have ended said last, if any has.
pub fn ends(speakers: &mut [Speaker]) -> String {
    speakers.iter_mut().filter_map(|speaker| speaker.process().alive().err()).map(|what| format!("\n{what}")).collect()
}
