//! Every metric. What belongs to a peer is read from its status at each scrape, so that its series end with it.

use super::handles::{Handles, Listing, PeerHandles, Standing, WatchState};
use crate::condition::{Conditions, Reason};
use crate::peer::status::Consequence;
use crate::peer::{Limit, Phase, Status};
use crate::wire;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeLabelSet, EncodeMetric};
use prometheus_client::metrics::counter::{ConstCounter, Counter};
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::{ConstGauge, Gauge};
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::Registry;
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// The content type of what [`Metrics::text`] returns.
pub const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// The states of RFC 4271 §8.2.2 as label values.
const STATES: [&str; 6] = ["Idle", "Connect", "Active", "OpenSent", "OpenConfirm", "Established"];

/// What is counted where it happens; a clone counts into the same numbers.
#[derive(Debug, Clone)]
pub struct Metrics {
    registry: Arc<Registry>,
    plan: Histogram,
    reloads: Reloads,
    control_failures: Counter,
}

/// Counts changed configuration files that were read; a clone counts into the same numbers.
#[derive(Debug, Clone, Default)]
pub struct Reloads {
    counts: Family<Reload, Counter>,
    content: Family<Content, Gauge>,
    accepted: Gauge,
    stale: Gauge,
}

/// Whether the configuration in use is what the file says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Freshness {
    /// It is.
    Current,
    /// The file is refused: it is an older one.
    Stale,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Content {
    hash: String,
}

impl Reloads {
    /// Nothing counted yet, registered.
    pub(super) fn register(registry: &mut Registry) -> Self {
        let reloads = Self::default();
        for result in ["success", "failure"] {
            let _zero = reloads.counts.get_or_create(&Reload { result });
        }
        registry.register(
            "config_reloads",
            "Changed configuration files that were read, by result; after a failure the last good one stays in use",
            reloads.counts.clone(),
        );
        let content = "The configuration in use: a hash of what it says, equal on all nodes; passwords do not count";
        registry.register("config_info", content, reloads.content.clone());
        let accepted = "When the configuration in use was accepted first, seconds since 1970";
        registry.register("config_accepted_timestamp_seconds", accepted, reloads.accepted.clone());
        let stale = "1 while the configuration in use is older than the file, which is refused";
        registry.register("config_stale", stale, reloads.stale.clone());
        reloads
    }

    /// A configuration is in use: the hash of what it says, when it was accepted (seconds since 1970), and whether the file
    /// says the same.
    pub fn in_use(&self, hash: &str, accepted: i64, freshness: Freshness) {
        self.content.clear();
        self.content.get_or_create(&Content { hash: hash.to_owned() }).set(1);
        self.accepted.set(accepted);
        self.stale.set(i64::from(freshness == Freshness::Stale));
    }

    /// A changed configuration was taken.
    pub fn succeeded(&self) {
        self.counts.get_or_create(&Reload { result: "success" }).inc();
    }

    /// A changed configuration was refused.
    pub fn failed(&self) {
        self.counts.get_or_create(&Reload { result: "failure" }).inc();
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Reload {
    result: &'static str,
}

/// Log lines that were lost, by the counter of whoever loses them.
pub(super) fn register_lost(registry: &mut Registry, lost: Counter) {
    let help = "Log lines that could not be written, or that nobody took in time";
    registry.register("log_lines_lost", help, lost);
}

impl Metrics {
    /// All metrics, those of peers and watches read through `handles`; `lost` counts log lines that were lost.
    pub fn new(handles: Handles, lost: Counter) -> Self {
        let plan = Histogram::new([50e-6, 100e-6, 250e-6, 500e-6, 1e-3, 2.5e-3, 5e-3, 10e-3, 50e-3, 250e-3, 1.0]);
        let mut registry = Registry::with_prefix("herald");
        registry.register("build", "The running version", Info::new([("version", env!("CARGO_PKG_VERSION"))]));
        registry.register(
            "bgp_plan_duration_seconds",
            "Time from a change of the cluster or the configuration to the routes of every peer",
            plan.clone(),
        );
        register_lost(&mut registry, lost);
        let reloads = Reloads::register(&mut registry);
        let control_failures = Counter::default();
        registry.register(
            "control_failures",
            "Times that the thread which watches and plans failed and was begun anew; sessions went on meanwhile",
            control_failures.clone(),
        );
        registry.register_collector(Box::new(Scrape(handles)));
        Self { registry: Arc::new(registry), plan, reloads, control_failures }
    }

    /// A plan was made.
    pub fn planned(&self, took: Duration) {
        self.plan.observe(took.as_secs_f64());
    }

    /// The thread *control* failed.
    pub fn control_failed(&self) {
        self.control_failures.inc();
    }

    /// Where reloads are counted.
    pub fn reloads(&self) -> Reloads {
        self.reloads.clone()
    }

    /// All metrics as OpenMetrics text.
    pub fn text(&self) -> String {
        text(&self.registry)
    }
}

/// A registry as OpenMetrics text.
pub(super) fn text(registry: &Registry) -> String {
    let mut text = String::new();
    // Writing into a string cannot fail; a collector's own failure shows as a text without its end mark.
    let _incomplete = prometheus_client::encoding::text::encode(&mut text, registry);
    text
}

// === What is read at each scrape ===

#[derive(Debug)]
struct Scrape(Handles);

impl Collector for Scrape {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let speakers = self.0.speakers.borrow().clone();
        let peers: Vec<_> = speakers.peers.values().map(Seen::of).collect();
        sessions(&mut encoder, &peers)?;
        messages(&mut encoder, &peers)?;
        routes(&mut encoder, &peers)?;
        limits(&mut encoder, &peers)?;
        let known = u8::from(matches!(speakers.standing, Standing::Known(_)));
        gauge(
            &mut encoder,
            "bgp_identity_known",
            "Whether AS and router ID of this node are known",
            [(NONE, known.into())],
        )?;
        let shared = u32::try_from(speakers.doubts.len()).unwrap_or(u32::MAX);
        gauge(
            &mut encoder,
            "config_doubts",
            "What is doubtful about the configuration in this cluster: shared router IDs, selectors that match no node",
            [(NONE, shared.into())],
        )?;
        conditions(&mut encoder, &self.0.conditions.borrow().clone())?;
        watches(&mut encoder, &(self.0.watches)())
    }
}

/// What is not as it should be; each kind has its series always, so that an alert can be written before it is needed.
pub(super) fn conditions(encoder: &mut DescriptorEncoder<'_>, conditions: &Conditions) -> fmt::Result {
    let of = |reason: &Reason| {
        let count = u32::try_from(conditions.count(*reason)).unwrap_or(u32::MAX);
        ([("reason", reason.as_str().to_owned())], f64::from(count))
    };
    let help = "What is not as it should be now, by kind; /readyz, /v1/peers and the log say it in words";
    gauge(encoder, "conditions", help, Reason::ALL.iter().map(of))
}

/// The state of watches.
pub(super) fn watches(encoder: &mut DescriptorEncoder<'_>, watches: &[WatchState]) -> fmt::Result {
    let now = tokio::time::Instant::now().into_std();
    let synced = |listing| match listing {
        Listing::Pending => 0.0,
        Listing::Complete => 1.0,
    };
    let label = |name: &str| [("resource", name.to_owned())];
    gauge(
        encoder,
        "watch_synced",
        "Whether a watch was read completely once",
        watches.iter().map(|watch| (label(&watch.name), synced(watch.listing))),
    )?;
    let age = |at: Instant| now.saturating_duration_since(at).as_secs_f64();
    gauge(
        encoder,
        "watch_age_seconds",
        "Time since a watch was last known to be current",
        watches.iter().filter_map(|watch| Some((label(&watch.name), age(watch.last_event?)))),
    )
}

/// A peer at the moment of the scrape.
struct Seen {
    status: Status,
    planned: Option<usize>,
}

impl Seen {
    fn of(peer: &PeerHandles) -> Self {
        let (status, plan) = peer.now();
        Self { status, planned: plan.map(|plan| plan.routes.len()) }
    }

    fn name(&self) -> String {
        self.status.name.to_string()
    }

    fn label(&self) -> [(&'static str, String); 1] {
        [("peer", self.name())]
    }
}

fn sessions(encoder: &mut DescriptorEncoder<'_>, peers: &[Seen]) -> fmt::Result {
    let states = peers.iter().flat_map(|peer| {
        STATES.map(|state| {
            let here = if peer.status.phase.name() == state { 1.0 } else { 0.0 };
            ([("peer", peer.name()), ("state", state.to_owned())], here)
        })
    });
    gauge(encoder, "bgp_session_state", "1 for the state that a session is in, 0 for the others", states)?;
    let up = |peer: &Seen| if matches!(peer.status.phase, Phase::Established { .. }) { 1.0 } else { 0.0 };
    gauge(
        encoder,
        "bgp_session_up",
        "Whether a session is Established",
        peers.iter().map(|peer| (peer.label(), up(peer))),
    )?;
    counter(
        encoder,
        "bgp_session_established",
        "Times a session reached Established",
        peers.iter().map(|peer| (peer.label(), peer.status.established_count)),
    )
}

fn messages(encoder: &mut DescriptorEncoder<'_>, peers: &[Seen]) -> fmt::Result {
    let both = |peer: &Seen| {
        let one = |direction: &'static str, counts: &std::collections::BTreeMap<&'static str, u64>| {
            counts.iter().map(move |(name, count)| (direction, *name, *count)).collect::<Vec<_>>()
        };
        [one("sent", &peer.status.sent), one("received", &peer.status.received)].concat()
    };
    let all = |peer: &Seen| {
        let label = peer.name();
        both(peer).into_iter().map(move |(direction, name, count)| {
            ([("peer", label.clone()), ("direction", direction.to_owned()), ("type", name.to_owned())], count)
        })
    };
    counter(encoder, "bgp_messages", "BGP messages, by direction and type", peers.iter().flat_map(all))?;
    let notifications = |peer: &Seen| {
        let label = peer.name();
        [("sent", &peer.status.sent), ("received", &peer.status.received)].map(move |(direction, counts)| {
            let count = counts.iter().find(|(name, _)| name.eq_ignore_ascii_case("notification"));
            ([("peer", label.clone()), ("direction", direction.to_owned())], count.map_or(0, |(_, count)| *count))
        })
    };
    counter(encoder, "bgp_notifications", "NOTIFICATION messages, by direction", peers.iter().flat_map(notifications))
}

fn routes(encoder: &mut DescriptorEncoder<'_>, peers: &[Seen]) -> fmt::Result {
    let advertised = peers.iter().flat_map(|peer| {
        let label = peer.name();
        peer.status
            .advertised
            .iter()
            .map(move |(family, count)| ([("peer", label.clone()), ("family", family.to_string())], f64_of(*count)))
    });
    gauge(encoder, "bgp_routes_advertised", "Routes that a peer holds from us, by family", advertised)?;
    let planned = peers.iter().filter_map(|peer| Some((peer.label(), f64_of(peer.planned?))));
    gauge(encoder, "bgp_routes_planned", "Routes that a peer should hold; absent before the first plan", planned)?;
    counter(
        encoder,
        "bgp_routes_discarded",
        "Routes that a peer offered, which were parsed and discarded",
        peers.iter().map(|peer| (peer.label(), peer.status.discarded)),
    )?;
    let malformed = peers.iter().flat_map(|peer| {
        let one = |((cause, consequence), count): (&(&'static str, Consequence), &u64)| {
            let consequence = consequence.name().to_owned();
            ([("peer", peer.name()), ("cause", (*cause).to_owned()), ("consequence", consequence)], *count)
        };
        peer.status.malformed.iter().map(one)
    });
    counter(
        encoder,
        "bgp_malformed",
        "What was malformed in what a peer sent, by cause, and what came of it (RFC 7606)",
        malformed,
    )
}

fn limits(encoder: &mut DescriptorEncoder<'_>, peers: &[Seen]) -> fmt::Result {
    let of = |peer: &Seen, value: fn(&Limit) -> f64| {
        let (label, limits) = (peer.name(), peer.status.limits.clone());
        let one = move |(family, limit): (wire::Family, Limit)| {
            ([("peer", label.clone()), ("family", family.to_string())], value(&limit))
        };
        limits.into_iter().map(one)
    };
    gauge(
        encoder,
        "bgp_prefix_limit",
        "Prefixes that a peer accepts, by family, where the configuration says so; at most 90 % are sent",
        peers.iter().flat_map(|peer| of(peer, |limit| limit.accepts.into())),
    )?;
    gauge(
        encoder,
        "bgp_routes_held_back",
        "Routes not sent because a peer would hold more than 90 % of what it accepts, by family",
        peers.iter().flat_map(|peer| of(peer, |limit| f64_of(limit.held_back.len()))),
    )
}

fn f64_of(count: usize) -> f64 {
    f64::from(u32::try_from(count).unwrap_or(u32::MAX))
}

/// The label set of a metric without labels.
pub(super) const NONE: [(&str, String); 0] = [];

pub(super) type Labels<const N: usize> = [(&'static str, String); N];

pub(super) fn gauge<const N: usize>(
    encoder: &mut DescriptorEncoder<'_>,
    name: &str,
    help: &str,
    samples: impl IntoIterator<Item = (Labels<N>, f64)>,
) -> fmt::Result {
    let kind = ConstGauge::new(0.0).metric_type();
    let mut metric = encoder.encode_descriptor(name, help, None, kind)?;
    for (labels, value) in samples {
        ConstGauge::new(value).encode(metric.encode_family(&labels)?)?;
    }
    Ok(())
}

pub(super) fn counter<const N: usize>(
    encoder: &mut DescriptorEncoder<'_>,
    name: &str,
    help: &str,
    samples: impl IntoIterator<Item = (Labels<N>, u64)>,
) -> fmt::Result {
    let kind = ConstCounter::new(0u64).metric_type();
    let mut metric = encoder.encode_descriptor(name, help, None, kind)?;
    for (labels, value) in samples {
        ConstCounter::new(value).encode(metric.encode_family(&labels)?)?;
    }
    Ok(())
}
