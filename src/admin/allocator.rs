//! What can be seen of the allocator from outside: health, metrics, pools.

use super::handles::{Listing, WatchState};
use super::heartbeat::Liveness;
use super::metrics::{CONTENT_TYPE, NONE, Reloads, conditions, counter, gauge, register_lost, text, watches};
use super::shelf::Shelf;
use super::{readiness, server};
use crate::condition::Conditions;
use crate::ipam::Usage;
use axum::Router;
use axum::extract::State;
use axum::response::IntoResponse;
use axum::routing::get;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::DescriptorEncoder;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::Registry;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;
use tokio::sync::watch;

/// The allocator at one moment.
#[derive(Debug, Clone, Default)]
pub struct Snapshot {
    /// Who it is.
    pub identity: String,
    /// Its part.
    pub part: Part,
    /// Its watches; none while it does not lead.
    pub watches: Vec<WatchState>,
    /// Every pool and family, in the order in which they are asked.
    pub pools: Vec<Usage>,
    /// Services that have all they ask for.
    pub served: usize,
    /// Services that lack something.
    pub waiting: usize,
    /// Addresses that stay although no pool would give them today.
    pub irregular: Vec<Retained>,
    /// What is doubtful about the pools in this cluster, in words.
    pub doubts: Vec<String>,
    /// Writes that wait or are on their way.
    pub writes_due: usize,
    /// What became of writes, by word.
    pub writes: BTreeMap<&'static str, u64>,
    /// What is not as it should be.
    pub conditions: Arc<Conditions>,
}

/// Which part an allocator plays.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Part {
    /// Nobody is known to lead yet.
    #[default]
    Unknown,
    /// It waits; this one leads.
    Following(String),
    /// It leads, and reads what there is.
    Adopting,
    /// It leads and gives addresses.
    Giving,
}

/// How to look at the allocator.
pub type Look = Arc<dyn Fn() -> Snapshot + Send + Sync>;

/// `/v1/pools`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Pools {
    /// Who answers.
    pub identity: String,
    /// Who leads and has the figures, if that is somebody else; absent if it is the one that answers.
    pub leader: Option<String>,
    /// Why there are no figures, where that is so.
    pub waiting: Option<String>,
    /// Services that have all they ask for.
    pub services_served: usize,
    /// Services that lack something.
    pub services_waiting: usize,
    /// In the order in which they are asked.
    pub pools: Vec<Pool>,
    /// Addresses that stay although no pool would give them today, by service.
    pub retained: Vec<Retained>,
    /// What is doubtful about the pools in this cluster.
    pub doubts: Vec<String>,
    /// What is not as it should be, a line each.
    pub conditions: Vec<String>,
}

/// An address that stays although no pool would give it to its service today, until that is renumbered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Retained {
    /// Namespace and name.
    pub service: String,
    /// The address.
    pub address: IpAddr,
    /// The pool that it was given from.
    pub pool: String,
    /// Why it would not be given, in one word: `OutsidePool`, `PoolDraining`, ….
    pub reason: String,
}

/// One family of a pool. Numbers of addresses are text: IPv6 has more than a JSON number can carry.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Pool {
    /// The pool.
    pub name: String,
    /// `IPv4` or `IPv6`.
    pub family: String,
    /// Addresses that it could give.
    pub total: String,
    /// Those that are held.
    pub held: u64,
    /// Those that cool down.
    pub cooling: u64,
    /// Those that nodes have, or services of others.
    pub blocked: u64,
    /// Those that are free.
    pub free: String,
}

impl Pools {
    /// What a snapshot says of the pools.
    pub fn of(snapshot: Snapshot) -> Self {
        let (leader, waiting) = match snapshot.part {
            Part::Unknown => (None, Some("nobody is known to lead yet".to_owned())),
            Part::Following(leader) => {
                let why = format!("{leader} leads and has the figures: ask there");
                (Some(leader), Some(why))
            }
            Part::Adopting => (None, Some("what there is is being read; nothing is given before".to_owned())),
            Part::Giving => (None, None),
        };
        let pool = |usage: Usage| Pool {
            name: usage.pool.to_string(),
            family: usage.family.to_string(),
            total: usage.total.to_string(),
            held: usage.held,
            cooling: usage.cooling,
            blocked: usage.blocked,
            free: usage.vacant.to_string(),
        };
        Self {
            identity: snapshot.identity,
            leader,
            waiting,
            services_served: snapshot.served,
            services_waiting: snapshot.waiting,
            pools: snapshot.pools.into_iter().map(pool).collect(),
            retained: snapshot.irregular,
            doubts: snapshot.doubts,
            conditions: snapshot.conditions.lines(),
        }
    }
}

/// The routes of both doors, and where reloads of the configuration are counted; `lost` counts log lines that were lost.
pub fn router(look: Look, liveness: watch::Receiver<Liveness>, lost: Counter) -> (Router, Reloads) {
    let mut registry = Registry::with_prefix("herald");
    registry.register("build", "The running version", Info::new([("version", env!("CARGO_PKG_VERSION"))]));
    register_lost(&mut registry, lost);
    let reloads = Reloads::register(&mut registry);
    registry.register_collector(Box::new(Scrape(Arc::clone(&look))));
    let registry = Arc::new(registry);
    let (of_pools, shelf) = (Shelf::default(), Shelf::default());
    let router = Router::new()
        .merge(server::healthz(liveness))
        .route("/readyz", get(readyz))
        .route(
            "/v1/pools",
            get(move |State(look): State<Look>| async move {
                of_pools.answer("application/json", || json(&Pools::of(look())))
            }),
        )
        .with_state(look)
        .route(
            "/metrics",
            get(move || {
                let answer = shelf.answer(CONTENT_TYPE, || text(&registry));
                async move { answer }
            }),
        );
    (router, reloads)
}

/// What the Unix socket has beside them: what changes something.
pub fn confirmation(look: Look, confirmed: watch::Sender<Option<Arc<str>>>) -> Router {
    server::confirmation(Arc::new(move || look().conditions), "herald pools", confirmed)
}

/// Plain data, which always is JSON.
fn json(pools: &Pools) -> String {
    serde_json::to_string(pools).expect("names and numbers")
}

/// One that waits for its turn is as ready as one that gives.
async fn readyz(State(look): State<Look>) -> impl IntoResponse {
    let snapshot = look();
    let missing = match snapshot.part {
        Part::Following(_) | Part::Giving => Vec::new(),
        Part::Unknown => vec!["nobody is known to lead yet".to_owned()],
        Part::Adopting => {
            let pending = snapshot.watches.iter().filter(|watch| watch.listing == Listing::Pending);
            let line = |watch: &WatchState| {
                let why = watch.trouble.as_ref().map(|trouble| format!(": {trouble}")).unwrap_or_default();
                format!("{} not read completely yet{why}", watch.name)
            };
            pending.map(line).collect()
        }
    };
    readiness::answer(missing, &snapshot.conditions)
}

struct Scrape(Look);

impl fmt::Debug for Scrape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Scrape").finish_non_exhaustive()
    }
}

impl Collector for Scrape {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let snapshot = (self.0)();
        let leads = match snapshot.part {
            Part::Unknown | Part::Following(_) => 0.0,
            Part::Adopting | Part::Giving => 1.0,
        };
        gauge(&mut encoder, "allocator_leads", "Whether this allocator leads", [(NONE, leads)])?;
        pools(&mut encoder, &snapshot.pools)?;
        let services = [("served", snapshot.served), ("waiting", snapshot.waiting)];
        gauge(
            &mut encoder,
            "allocator_services",
            "Services that have all they ask for, and services that lack something",
            services.map(|(state, count)| ([("state", state.to_owned())], float(count as u128))),
        )?;
        let doubts = float(snapshot.doubts.len() as u128);
        let help = "What is doubtful about the pools in this cluster: overlaps with nodes, pods and ClusterIPs";
        gauge(&mut encoder, "pool_doubts", help, [(NONE, doubts)])?;
        let mut retained: BTreeMap<(String, String), u64> = BTreeMap::new();
        for Retained { pool, reason, .. } in snapshot.irregular {
            *retained.entry((pool, reason)).or_default() += 1;
        }
        let help = "Addresses that stay although no pool would give them today, by their last pool and the reason";
        let label = |((pool, reason), count): ((String, String), u64)| {
            ([("pool", pool), ("reason", reason)], float(count.into()))
        };
        gauge(&mut encoder, "pool_addresses_retained", help, retained.into_iter().map(label))?;
        let due = float(snapshot.writes_due as u128);
        gauge(&mut encoder, "allocator_writes_due", "Writes that wait or are on their way", [(NONE, due)])?;
        counter(
            &mut encoder,
            "allocator_writes",
            "Writes to the API, by result",
            snapshot.writes.iter().map(|(result, count)| ([("result", (*result).to_owned())], *count)),
        )?;
        conditions(&mut encoder, &snapshot.conditions)?;
        watches(&mut encoder, &snapshot.watches)
    }
}

fn pools(encoder: &mut DescriptorEncoder<'_>, pools: &[Usage]) -> fmt::Result {
    let of = |value: fn(&Usage) -> u128| {
        pools.iter().map(move |usage| {
            ([("pool", usage.pool.to_string()), ("family", usage.family.to_string())], float(value(usage)))
        })
    };
    gauge(encoder, "pool_addresses", "Addresses that a pool could give", of(|usage| usage.total))?;
    gauge(encoder, "pool_addresses_held", "Addresses of a pool that are held", of(|usage| usage.held.into()))?;
    gauge(encoder, "pool_addresses_cooling", "Addresses of a pool that cool down", of(|usage| usage.cooling.into()))?;
    let help = "Addresses of a pool that nodes have, or services of others";
    gauge(encoder, "pool_addresses_blocked", help, of(|usage| usage.blocked.into()))?;
    gauge(encoder, "pool_addresses_free", "Addresses of a pool that are free", of(|usage| usage.vacant))
}

/// Metrics are floating point: of 2^64 addresses the last digits do not matter.
#[expect(clippy::cast_precision_loss, reason = "a metric is a floating point number")]
fn float(count: u128) -> f64 {
    count as f64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ipam::Family;

    #[test]
    fn the_largest_pool_can_be_told() {
        let usage = Usage {
            pool: "v6".into(),
            family: Family::V6,
            total: 1 << 125,
            held: 3,
            cooling: 1,
            blocked: 0,
            vacant: 7,
        };
        let snapshot = Snapshot { part: Part::Giving, pools: vec![usage], ..Snapshot::default() };
        let pools = Pools::of(snapshot);
        let text = serde_json::to_string(&pools).unwrap();
        assert!(text.contains("\"42535295865117307932921825928971026432\""), "{text}");
        assert_eq!(serde_json::from_str::<Pools>(&text).unwrap(), pools);
    }

    #[test]
    fn metrics_name_pool_and_family() {
        let usage =
            Usage { pool: "edge".into(), family: Family::V4, total: 32, held: 3, cooling: 1, blocked: 2, vacant: 26 };
        let snapshot = Snapshot { part: Part::Giving, pools: vec![usage], served: 3, ..Snapshot::default() };
        let mut registry = Registry::with_prefix("herald");
        registry.register_collector(Box::new(Scrape(Arc::new(move || snapshot.clone()))));
        let text = text(&registry);
        for line in [
            "herald_allocator_leads{} 1.0",
            "herald_pool_addresses{pool=\"edge\",family=\"IPv4\"} 32.0",
            "herald_pool_addresses_held{pool=\"edge\",family=\"IPv4\"} 3.0",
            "herald_pool_addresses_free{pool=\"edge\",family=\"IPv4\"} 26.0",
            "herald_allocator_services{state=\"served\"} 3.0",
        ] {
            assert!(text.lines().any(|known| known == line), "{line} is not in\n{text}");
        }
        assert!(text.ends_with("# EOF\n"));
    }
}
