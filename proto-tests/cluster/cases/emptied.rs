//! etcd put back to a copy from before anybody had a Service, under a speaker and an allocator that know better.

use super::{SOON, host, same};
use crate::bed::Bed;
use crate::control_plane::Parts;
use crate::filter::Filter;
use crate::rig::bgp::{Listener, Manner, Seen};
use crate::rig::nft::Silence;
use crate::rig::{Outcome, wait_until};
use crate::yard::Yard;
use std::fmt::Write as _;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

const NODE: Ipv4Addr = Ipv4Addr::new(172, 30, 8, 2);
const SERVICES: usize = 20;
const POOLS: &str = "- {name: edge, addresses: [198.18.0.0/24], coolDown: 1s}\n";

/// The node, and an endpoint for each Service.
fn objects(names: &[String]) -> String {
    let mut text = format!(
        "apiVersion: v1\nkind: Node\nmetadata: {{name: yard}}\nspec: {{podCIDRs: [10.244.9.0/24]}}\n\
         status: {{addresses: [{{type: InternalIP, address: {NODE}}}]}}\n"
    );
    for name in names {
        write!(
            text,
            "---\napiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\n\
             metadata: {{name: {name}-1, namespace: default, labels: {{kubernetes.io/service-name: {name}}}}}\n\
             addressType: IPv4\nports: [{{port: 80}}]\n\
             endpoints: [{{addresses: [10.244.9.9], nodeName: yard, conditions: {{ready: true}}}}]\n"
        )
        .expect("a string takes all");
    }
    text
}

/// Nothing is withdrawn; Services that are created again are announced; and what is then deleted one by one is withdrawn and released
/// at once, though it is everything. (The allocator loses its lease meanwhile, and the copy has no Allocations either: what it does
/// about lists without Services is shown where those stay.)
pub fn nothing_is_withdrawn(bed: &Bed) -> Outcome {
    let mut yard = Yard::start(bed, "emptied", Parts::ApiServer, POOLS)?;
    yard.space().ip(&[format!("address add {NODE}/32 dev lo")])?;
    yard.kubectl().apply(&objects(&[]))?;
    yard.configure(&format!("asn: 64512\nguard: {{hold: 1h}}\npeers: []\npools:\n{POOLS}"))?;
    let allocator = yard.allocator(1)?;
    let router = Manner::Honest { asn: 64601, router_id: yard.address(), hold: 9 };
    let listener = Listener::start(yard.space(), SocketAddr::new(yard.address().into(), 179), router)?;
    let speaker = yard.speaker("yard", NODE, POOLS)?;
    yard.stop()?;
    yard.copy_database()?;
    yard.resume()?;
    let names: Vec<String> = (0..SERVICES).map(|n| format!("s{n}")).collect();
    yard.kubectl().apply(&objects(&names))?;
    yard.create_services(&names)?;
    yard.settled(Duration::from_secs(30), SERVICES)?;
    let log = || format!("{}\n{}", allocator.log_end(), speaker.log_end());
    wait_until(SOON, "all to be announced", || all_routes(&yard)).map_err(|e| format!("{e}\n{}", log()))?;
    listener.drain();

    yard.stop()?;
    yard.put_database_back()?;
    yard.resume()?;
    let yard = &yard;
    let (held, _) = wait_until(Duration::from_secs(60), "the guard to hold", || {
        let said = all_routes(yard)?;
        if said.contains("GuardHolds") { Ok(said) } else { Err(said) }
    })
    .map_err(|e| format!("{e}\n{}", log()))?;
    println!("  {}", held.lines().next().unwrap_or_default());
    let told = listener.drain();
    let withdrawn = |seen: &Seen| matches!(seen, Seen::Update(update) if !update.withdrawn.is_empty());
    if let Some(bad) = told.iter().find(|event| withdrawn(&event.what)) {
        return Err(format!("a router was told {:?}\n{}", bad.what, log()));
    }

    // As whoever keeps his manifests elsewhere does: they come again, as other objects and without a status. Each is without an
    // address until it is given one.
    yard.kubectl().apply(&objects(&names))?;
    yard.create_services(&names)?;
    yard.settled(Duration::from_secs(60), SERVICES).map_err(|e| format!("{e}\n{}", log()))?;
    wait_until(SOON, "nothing to be held", || {
        let said = all_routes(yard)?;
        if said.contains("GuardHolds") { Err(said) } else { Ok(()) }
    })?;
    let mut left: Vec<String> = yard.shown()?.into_values().flatten().collect();
    let begun = Instant::now();
    let all: Vec<&str> = names.iter().map(String::as_str).collect();
    yard.kubectl().run(&[&["delete", "service", "--wait=false"], &all[..]].concat())?;
    listener.next(SOON, "all to be withdrawn", |event| {
        if let Seen::Update(update) = &event.what {
            left.retain(|address| !update.withdrawn.contains(&host(address)));
        }
        left.is_empty()
    })?;
    println!(
        "  {SERVICES} Services deleted one by one: withdrawn {:.1} s after the first",
        begun.elapsed().as_secs_f32()
    );
    yard.settled(Duration::from_secs(30), 0).map(drop)
}

/// A kind at a time and all at once are in no list: whatever is announced or held stays, and is no longer doubted when they are back.
pub fn behind_a_proxy_that_filters(bed: &Bed) -> Outcome {
    let yard = Yard::start(bed, "filter", Parts::ApiServer, POOLS)?;
    yard.space().ip(&[format!("address add {NODE}/32 dev lo")])?;
    let names: Vec<String> = (0..SERVICES).map(|n| format!("s{n}")).collect();
    yard.kubectl().apply(&objects(&names))?;
    yard.configure(&format!("asn: 64512\nguard: {{hold: 3s}}\npeers: []\npools:\n{POOLS}"))?;
    let door = |port| SocketAddr::new(yard.address().into(), port);
    let speakers = Filter::start(yard.space(), door(7443), &yard.speakers_kubeconfig()?)?;
    let allocators = Filter::start(yard.space(), door(7444), &yard.allocators_kubeconfig())?;
    let allocator = yard.allocator_behind_plain(1, door(7444))?;
    let router = Manner::Honest { asn: 64601, router_id: yard.address(), hold: 9 };
    let listener = Listener::start(yard.space(), SocketAddr::new(yard.address().into(), 179), router)?;
    let speaker = yard.speaker_behind_plain("yard", NODE, POOLS, door(7443))?;
    let log = || format!("{}\n{}", allocator.log_end(), speaker.log_end());
    yard.create_services(&names)?;
    yard.settled(Duration::from_secs(30), SERVICES).map_err(|e| format!("{e}\n{}", log()))?;
    wait_until(SOON, "all to be announced", || all_routes(&yard)).map_err(|e| format!("{e}\n{}", log()))?;
    let before = yard.allocations()?;
    listener.drain();
    let all: &'static [&'static str] = &["services", "endpointslices", "nodes", "namespaces", "allocations"];
    let routes_are_held = |hidden: &[&str]| {
        wait_until(Duration::from_secs(20), &format!("the guard to hold what is without {hidden:?}"), || {
            let said = all_routes(&yard)?;
            if said.contains("GuardHolds") { Ok(()) } else { Err(said) }
        })
    };
    let nothing_is_held = || {
        wait_until(Duration::from_secs(20), "nothing to be held", || {
            let said = format!("{}{}", all_routes(&yard)?, yard.pools(1)?);
            if said.contains("GuardHolds") || said.contains("ReleasesHeld") { Err(said) } else { Ok(()) }
        })
    };
    for hidden in [&all[0..1], &all[1..2], &all[2..3], all] {
        speakers.hide(hidden);
        allocators.hide(hidden);
        routes_are_held(hidden).map_err(|e| format!("{e}\n{}", log()))?;
        speakers.hide(&[]);
        allocators.hide(&[]);
        nothing_is_held().map_err(|e| format!("{e}\n{}", log()))?;
    }
    let withdrawn = |seen: &Seen| matches!(seen, Seen::Update(update) if !update.withdrawn.is_empty());
    if let Some(bad) = listener.drain().iter().find(|event| withdrawn(&event.what)) {
        return Err(format!("a router was told {:?}\n{}", bad.what, log()));
    }
    same("what the services hold", yard.allocations()?, before)?;
    yard.settled(Duration::from_secs(10), SERVICES).map(drop)
}

/// What `herald routes` prints, once it has a route for each Service.
fn all_routes(yard: &Yard<'_>) -> Outcome<String> {
    let routes = yard.routes()?;
    let found = routes.lines().filter(|line| line.starts_with("198.18.0.")).count();
    if found == SERVICES { Ok(routes) } else { Err(format!("{found} routes:\n{routes}")) }
}

/// Connections to the API server that carry nothing any more and say nothing: new ones are made, and a Service that is deleted
/// meanwhile is withdrawn.
pub fn connections_that_die_silently(bed: &Bed) -> Outcome {
    let yard = Yard::start(bed, "silence", Parts::ApiServer, POOLS)?;
    yard.space().ip(&[format!("address add {NODE}/32 dev lo")])?;
    let names: Vec<String> = (0..2).map(|n| format!("s{n}")).collect();
    yard.kubectl().apply(&objects(&names))?;
    let allocator = yard.allocator(1)?;
    let router = Manner::Honest { asn: 64601, router_id: yard.address(), hold: 9 };
    let listener = Listener::start(yard.space(), SocketAddr::new(yard.address().into(), 179), router)?;
    let speaker = yard.speaker("yard", NODE, POOLS)?;
    let log = || format!("{}\n{}", allocator.log_end(), speaker.log_end());
    yard.create_services(&names)?;
    yard.settled(Duration::from_secs(30), names.len()).map_err(|e| format!("{e}\n{}", log()))?;
    let goes = yard.shown()?.remove("s0").unwrap_or_default().pop().ok_or("s0 shows nothing")?;
    let route = host(&goes);
    wait_until(SOON, "s0 to be announced", || {
        let routes = yard.routes()?;
        if routes.contains(&route.to_string()) { Ok(()) } else { Err(routes) }
    })
    .map_err(|e| format!("{e}\n{}", log()))?;
    let silence = Silence::of(yard.space(), &yard.connections(speaker.pid(), 6443)?)?;
    listener.drain();
    yard.kubectl().run(&["delete", "service", "s0", "--wait=false"])?;
    let begun = Instant::now();
    listener
        .next(
            Duration::from_secs(60),
            "s0 to be withdrawn",
            |event| matches!(&event.what, Seen::Update(update) if update.withdrawn.contains(&route)),
        )
        .map_err(|e| format!("{e}\n{}", log()))?;
    let took = begun.elapsed();
    println!("  the speaker's connections died silently: a deletion was withdrawn {:.1} s later", took.as_secs_f32());
    drop(silence);
    if took > Duration::from_secs(45) { Err(format!("{took:?} for a deletion\n{}", log())) } else { Ok(()) }
}
