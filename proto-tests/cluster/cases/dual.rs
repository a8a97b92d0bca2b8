//! The story over IPv6 and over both families, with herald's own allocator: nobody writes an address by hand.

use super::story::outside;
use super::{SOON, host, same, wait_both};
use crate::app::{Answer, App, HTTP, curl};
use crate::bed::Bed;
use crate::rig::fib::Watch;
use crate::rig::{Outcome, wait_until};
use crate::topology::{CLIENT, CLIENT6, FAMILIES, Family};
use crate::yard::ingress;
use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::Duration;

const DUAL: &str = r#""ipFamilyPolicy":"RequireDualStack""#;
const SIXTH: &str = r#""ipFamilyPolicy":"SingleStack","ipFamilies":["IPv6"]"#;

/// `kubectl expose … --type LoadBalancer` with RequireDualStack: an address of each family within a second, three next hops for
/// each in both routers, 200 of 200 over each.
pub fn exposed_over_both_families(bed: &Bed) -> Outcome {
    bed.herald()?;
    let app = App::start(bed, "dual", 3)?;
    let mut watches = bed.watch()?;
    let addresses = expose(bed, "dual", DUAL, &FAMILIES)?;
    announced_everywhere(bed, &mut watches, &addresses)?;
    let shown = bed.kubectl().run(&["get", "services", "-n", "dual", "shop"])?;
    println!("  {}", shown.trim().replace('\n', "\n  "));
    ends_with_its_service(&app, &mut watches, &addresses)
}

/// The same over IPv6 alone.
pub fn exposed_over_ipv6(bed: &Bed) -> Outcome {
    bed.herald()?;
    let app = App::start(bed, "sixth", 3)?;
    let mut watches = bed.watch()?;
    let addresses = expose(bed, "sixth", SIXTH, &[Family::V6])?;
    announced_everywhere(bed, &mut watches, &addresses)?;
    ends_with_its_service(&app, &mut watches, &addresses)
}

/// `Local` over both families with pods on two of three nodes: their next hops and no other, in both; the pods see the client's
/// own address of either family; a pod moves and both follow.
pub fn local_over_both_families(bed: &Bed) -> Outcome {
    bed.herald()?;
    let app = App::start(bed, "dual-local", 2)?;
    let mut watches = bed.watch()?;
    let local = format!(r#"{DUAL},"externalTrafficPolicy":"Local""#);
    let addresses = expose(bed, "dual-local", &local, &FAMILIES)?;
    let before = served_by_its_nodes(bed, &app, &mut watches, &addresses)?;
    app.move_a_pod()?;
    let after = served_by_its_nodes(bed, &app, &mut watches, &addresses)?;
    if before == after {
        return Err(format!("no pod moved: {after:?}"));
    }
    ends_with_its_service(&app, &mut watches, &addresses)
}

/// Exposes the application as `shop` with these lines in its spec, and waits at most a second for an address of each family.
fn expose(bed: &Bed, namespace: &str, spec: &str, families: &[Family]) -> Outcome<Vec<IpAddr>> {
    let port = HTTP.to_string();
    let overrides = format!(r#"{{"spec":{{{spec}}}}}"#);
    let expose = ["-n", namespace, "expose", "deployment", "backend-app", "--type", "LoadBalancer", "--name", "shop"];
    bed.kubectl().run(&[&expose[..], &["--port", &port, "--overrides", &overrides]].concat())?;
    let (addresses, took) = wait_until(SOON, "an EXTERNAL-IP of each family", || {
        let service = bed.kubectl().json(&["-n", namespace, "get", "service", "shop"])?;
        let found: Vec<IpAddr> = ingress(&service).iter().filter_map(|address| address.parse().ok()).collect();
        let of: Vec<Family> = found.iter().map(|address| Family::of(*address)).collect();
        if of == families { Ok(found) } else { Err(service["status"].to_string()) }
    })?;
    println!("  {addresses:?} {} ms after kubectl expose", took.as_millis());
    match took > Duration::from_secs(1) {
        true => Err(format!("the addresses came after {took:?}, and a second is allowed")),
        false => Ok(addresses),
    }
}

fn announced_everywhere(bed: &Bed, watches: &mut [Watch; 2], addresses: &[IpAddr]) -> Outcome {
    for address in addresses {
        wait_both(watches, SOON, (*address).into(), &bed.all_hops_of(Family::of(*address)))?;
    }
    addresses.iter().try_for_each(|address| outside(bed, &address.to_string()))
}

fn ends_with_its_service(app: &App<'_>, watches: &mut [Watch; 2], addresses: &[IpAddr]) -> Outcome {
    app.delete_service("shop")?;
    for address in addresses {
        wait_both(watches, SOON, host(&address.to_string()), &BTreeSet::new())?;
    }
    Ok(())
}

/// The next hops of each address are the nodes that have a pod, and these answer everything; returns them.
fn served_by_its_nodes(
    bed: &Bed,
    app: &App<'_>,
    watches: &mut [Watch; 2],
    addresses: &[IpAddr],
) -> Outcome<BTreeSet<String>> {
    let nodes: BTreeSet<String> = app.pods()?.into_iter().map(|pod| pod.node).collect();
    for address in addresses {
        let family = Family::of(*address);
        let hops = bed.hops_of(family, nodes.iter().map(String::as_str))?;
        wait_both(watches, SOON, (*address).into(), &hops)?;
        let client: IpAddr = match family {
            Family::V4 => CLIENT.into(),
            Family::V6 => CLIENT6.into(),
        };
        let to = address.to_string();
        wait_until(SOON, "kube-proxy to know the pods", || {
            same("answers", curl(bed.client(), &to, HTTP, 20)?.len(), 20)
        })?;
        let answers = curl(bed.client(), &to, HTTP, 60)?;
        same(&format!("answers of {to}"), answers.len(), 60)?;
        same("nodes that answered", &names(&answers, |answer| &answer.node), &nodes)?;
        same("clients that the pods saw", names(&answers, |answer| &answer.client), [client.to_string()].into())?;
    }
    println!("  Local: {addresses:?} are served by {nodes:?} alone");
    Ok(nodes)
}

fn names(answers: &[Answer], of: impl Fn(&Answer) -> &String) -> BTreeSet<String> {
    answers.iter().map(|answer| of(answer).clone()).collect()
}
