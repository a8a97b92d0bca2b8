//! The story: what happens, and what a router must then hold. Only what arrived at the router counts.

use super::router::{Paths, Table};
use super::stage::{NODES, Node, service};
use crate::wire::{Family, Prefix};
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::{Instant, timeout, timeout_at};

/// How long a step may take.
pub const PATIENCE: Duration = Duration::from_secs(5);

/// How long the table must then stay as it should be: a late withdrawal is a failure and no success.
const CALM: Duration = Duration::from_millis(200);

/// One thing to do to the stage.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Act {
    /// Start a node's speaker.
    Start(Node),
    /// Write a manifest.
    Put(&'static str, String),
    /// Remove a manifest.
    Remove(&'static str),
    /// Kill a node's speaker without a word of farewell.
    Kill(Node),
}

/// What the router must hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Expected {
    /// From where sessions are Established and have sent their End-of-RIB for both families.
    pub sessions: BTreeSet<IpAddr>,
    /// Exactly these routes by exactly these next hops.
    pub paths: Paths,
}

/// A step of the story.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    /// What happens, for people.
    pub title: &'static str,
    /// What is done.
    pub acts: Vec<Act>,
    /// What follows.
    pub expected: Expected,
    /// What follows, for people.
    pub moral: &'static str,
}

impl Expected {
    /// What is wrong with the table, or `None` if nothing is.
    pub fn unmet(&self, table: &Table) -> Option<String> {
        let mut wrong = String::new();
        let complete = [Family::IPV4_UNICAST, Family::IPV6_UNICAST];
        let sessions: BTreeSet<IpAddr> = table
            .neighbors
            .iter()
            .filter(|(_, neighbor)| complete.iter().all(|family| neighbor.complete.contains(family)))
            .map(|(from, _)| from.ip())
            .collect();
        if sessions != self.sessions {
            let (wanted, got) = (list(&self.sessions), list(&sessions));
            wrong += &format!("sessions with End-of-RIB: expected {wanted}; there are {got}\n");
        }
        let paths = table.paths();
        let prefixes: BTreeSet<&Prefix> = self.paths.keys().chain(paths.keys()).collect();
        for prefix in prefixes {
            let (wanted, got) = (self.paths.get(prefix), paths.get(prefix));
            if wanted != got {
                let list = |paths: Option<&BTreeMap<IpAddr, IpAddr>>| {
                    paths.map_or("no path".to_owned(), |paths| list(paths.values()))
                };
                wrong += &format!("{prefix}: expected {}; the router has {}\n", list(wanted), list(got));
            }
        }
        (!wrong.is_empty()).then_some(wrong)
    }
}

fn list<'a>(addresses: impl IntoIterator<Item = &'a IpAddr>) -> String {
    let texts: Vec<_> = addresses.into_iter().map(ToString::to_string).collect();
    if texts.is_empty() { "none".to_owned() } else { texts.join(", ") }
}

/// Waits until the table is as expected and stays so. `seen` is shown every table on the way.
/// Returns how long it took, from now.
///
/// # Errors
/// What was still wrong when the patience was over.
pub async fn reached(
    table: &mut watch::Receiver<Table>,
    expected: &Expected,
    mut seen: impl FnMut(&Table, Duration),
) -> Result<Duration, String> {
    let began = Instant::now();
    loop {
        let wrong = {
            let table = table.borrow_and_update();
            seen(&table, began.elapsed());
            expected.unmet(&table)
        };
        match wrong {
            None => {
                let took = began.elapsed();
                match timeout(CALM, table.changed()).await {
                    Err(_) => return Ok(took),
                    Ok(Ok(())) => {}
                    Ok(Err(_)) => return Err("the router is gone".to_owned()),
                }
            }
            Some(wrong) => match timeout_at(began + PATIENCE, table.changed()).await {
                Ok(Ok(())) => {}
                Ok(Err(_)) => return Err("the router is gone".to_owned()),
                Err(_) => return Err(format!("after {} s:\n{wrong}", PATIENCE.as_secs())),
            },
        }
        if began.elapsed() > 2 * PATIENCE {
            return Err("the table does not come to rest".to_owned());
        }
    }
}

/// The service of the second step: every node forwards to its pods.
pub fn web() -> Act {
    Act::Put("web.yaml", service("web", "Cluster", &web_addresses(), &NODES[..2]))
}

fn web_addresses() -> [IpAddr; 2] {
    ["198.51.100.10", "2001:db8:5::10"].map(|text| text.parse().expect("an address"))
}

fn api_address() -> IpAddr {
    "198.51.100.20".parse().expect("an address")
}

/// The whole story.
pub fn steps() -> Vec<Step> {
    let [a, b, c] = NODES;
    let expected = |nodes: &[Node], routes: &[(IpAddr, &[Node])]| Expected {
        sessions: nodes.iter().map(Node::address).collect(),
        paths: routes.iter().map(|(address, nodes)| (Prefix::host(*address), paths(*address, nodes))).collect(),
    };
    let [web4, web6] = web_addresses();
    let api = api_address();
    vec![
        Step {
            title: "Three speakers dial the router",
            acts: NODES.map(Act::Start).into(),
            expected: expected(&NODES, &[]),
            moral: "three sessions, each complete up to End-of-RIB; nothing is announced",
        },
        Step {
            title: "A service appears: shop/web, policy Cluster, pods on node-a and node-b",
            acts: vec![web()],
            expected: expected(&NODES, &[(web4, &NODES), (web6, &NODES)]),
            moral: "three paths: every node forwards to the pods",
        },
        Step {
            title: "Another one: shop/api, policy Local, pods on node-a and node-b",
            acts: vec![Act::Put("api.yaml", service("api", "Local", &[api], &[a, b]))],
            expected: expected(&NODES, &[(web4, &NODES), (web6, &NODES), (api, &[a, b])]),
            moral: "two paths: only nodes that have a pod themselves",
        },
        Step {
            title: "node-b dies",
            acts: vec![Act::Kill(b)],
            expected: expected(&[a, c], &[(web4, &[a, c]), (web6, &[a, c]), (api, &[a])]),
            moral: "its paths are gone, the others stay",
        },
        Step {
            title: "The services go",
            acts: vec![Act::Remove("web.yaml"), Act::Remove("api.yaml")],
            expected: expected(&[a, c], &[]),
            moral: "nothing is left",
        },
    ]
}

fn paths(address: IpAddr, nodes: &[Node]) -> BTreeMap<IpAddr, IpAddr> {
    let next_hop = |node: &Node| if address.is_ipv4() { node.address() } else { node.address_v6() };
    nodes.iter().map(|node| (node.address(), next_hop(node))).collect()
}

#[cfg(test)]
mod tests {
    use super::super::router::Neighbor;
    use super::*;
    use crate::wire::RouterId;

    /// A table in which exactly `expected` holds.
    fn table(expected: &Expected) -> Table {
        let mut table = Table::default();
        for (number, session) in (1..).zip(&expected.sessions) {
            let routes = expected
                .paths
                .iter()
                .filter_map(|(prefix, paths)| paths.get(session).map(|next_hop| (*prefix, *next_hop)))
                .collect();
            let neighbor = Neighbor {
                router_id: RouterId::new([10, 0, 0, number].into()).unwrap(),
                routes,
                complete: BTreeSet::from([Family::IPV4_UNICAST, Family::IPV6_UNICAST]),
            };
            table.neighbors.insert((*session, 1000).into(), neighbor);
        }
        table
    }

    #[test]
    fn the_story_tells_what_was_ordered() {
        let counts: Vec<Vec<usize>> =
            steps().iter().map(|step| step.expected.paths.values().map(BTreeMap::len).collect()).collect();
        assert_eq!(counts, [vec![], vec![3, 3], vec![3, 2, 3], vec![2, 1, 2], vec![]]);
    }

    #[test]
    fn each_step_is_met_by_its_own_table_and_by_no_other() {
        let steps = steps();
        for (i, step) in steps.iter().enumerate() {
            for (j, other) in steps.iter().enumerate() {
                let unmet = step.expected.unmet(&table(&other.expected));
                assert_eq!(unmet.is_none(), i == j, "step {i}, table of step {j}: {unmet:?}");
            }
        }
    }

    #[test]
    fn a_path_too_many_or_by_the_wrong_next_hop_is_named() {
        let step = &steps()[2];
        let mut wrong = table(&step.expected);
        let api = Prefix::host(api_address());
        let next_hop = NODES[2].address();
        let neighbor = wrong.neighbors.get_mut(&(next_hop, 1000).into()).unwrap();
        neighbor.routes.insert(api, next_hop);
        let told = step.expected.unmet(&wrong).unwrap();
        assert_eq!(
            told,
            "198.51.100.20/32: expected 127.0.0.11, 127.0.0.12; the router has 127.0.0.11, 127.0.0.12, 127.0.0.13\n"
        );
        neighbor_of(&mut wrong, next_hop).routes.remove(&api);
        neighbor_of(&mut wrong, NODES[0].address()).routes.insert(api, next_hop);
        assert!(step.expected.unmet(&wrong).unwrap().contains("the router has 127.0.0.13, 127.0.0.12"));
    }

    fn neighbor_of(table: &mut Table, address: IpAddr) -> &mut Neighbor {
        table.neighbors.get_mut(&(address, 1000).into()).unwrap()
    }

    #[test]
    fn a_session_without_end_of_rib_does_not_count() {
        let step = &steps()[0];
        let mut early = table(&step.expected);
        neighbor_of(&mut early, NODES[1].address()).complete.remove(&Family::IPV6_UNICAST);
        assert!(step.expected.unmet(&early).unwrap().contains("there are 127.0.0.11, 127.0.0.13"));
    }

    #[tokio::test(start_paused = true)]
    async fn a_broken_story_fails_with_what_was_seen() {
        let steps = steps();
        let (publish, mut receiver) = watch::channel(table(&steps[1].expected));
        let told = reached(&mut receiver, &steps[2].expected, |_, _| ()).await.unwrap_err();
        assert!(
            told.starts_with("after 5 s:\n198.51.100.20/32: expected 127.0.0.11, 127.0.0.12; the router has no path"),
            "{told}"
        );
        drop(publish);
    }

    #[tokio::test(start_paused = true)]
    async fn a_table_that_was_right_for_a_moment_only_is_not_enough() {
        let steps = steps();
        let (publish, mut receiver) = watch::channel(table(&steps[1].expected));
        let spoil = async {
            tokio::time::sleep(CALM / 2).await;
            publish.send_replace(table(&steps[4].expected));
        };
        let (result, ()) = tokio::join!(reached(&mut receiver, &steps[1].expected, |_, _| ()), spoil);
        assert!(result.unwrap_err().contains("no path"));
    }

    #[tokio::test(start_paused = true)]
    async fn a_step_that_comes_true_is_timed() {
        let steps = steps();
        let (publish, mut receiver) = watch::channel(Table::default());
        let mend = async {
            tokio::time::sleep(Duration::from_millis(700)).await;
            publish.send_replace(table(&steps[0].expected));
        };
        let (result, ()) = tokio::join!(reached(&mut receiver, &steps[0].expected, |_, _| ()), mend);
        assert_eq!(result.unwrap().as_millis(), 700);
    }
}
