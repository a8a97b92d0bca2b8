//! The cases, in the order in which they run.

mod addresses;
mod allocation;
mod bare;
mod beside;
mod dual;
mod emptied;
mod failures;
mod kept;
mod local;
mod older;
mod rights;
mod rollout;
mod rules;
mod schema;
mod stopped;
mod story;
mod upstream;
mod walk;

use crate::bed::Bed;
use crate::rig::Outcome;
use crate::rig::fib::Watch;
use ipnetwork::IpNetwork;
use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

/// A case's body.
pub type Case = fn(&Bed) -> Outcome;

/// Name and body of each case.
pub const ALL: &[(&str, Case)] = &[
    ("a0_the_cluster_serves_without_herald", bare::serves_without_herald),
    ("a1_story_curl_200_of_200", story::curl_200_of_200),
    ("a1_a_service_without_node_ports", story::without_node_ports),
    ("a2_local_two_next_hops_follow_the_pods", local::two_next_hops_follow_the_pods),
    ("a3_silent_cut_and_return", failures::silent_cut_and_return),
    ("a3_pod_deleted_daemonset_restores", failures::pod_deleted_daemonset_restores),
    ("a3_stopped_by_a_label_and_by_a_condition", stopped::by_a_label_and_by_a_condition),
    ("a4_a_rollout_with_which_no_router_speaks", rollout::stops_at_the_first_node),
    ("a5_an_edit_walks_one_node_at_a_time", walk::one_node_at_a_time_and_a_wrong_one_on_none_but_the_first),
    ("a5_new_pods_while_the_file_is_refused", kept::new_pods_run_on_what_was_accepted_last),
    ("a6_tables_by_kubectl_exec", stopped::tables_by_exec),
    ("b1_expose_gets_an_address_and_curl_works", allocation::expose_and_curl),
    ("b1_dual_stack_exposed", dual::exposed_over_both_families),
    ("b1_ipv6_alone_exposed", dual::exposed_over_ipv6),
    ("b1_dual_stack_local", dual::local_over_both_families),
    ("b2_a_thousand_services_at_once", allocation::a_thousand_at_once),
    ("b3_allocator_killed_in_churn", allocation::killed_in_churn),
    ("b4_leader_freezes_and_thaws", allocation::leader_freezes_and_thaws),
    ("b5_beside_a_foreign_controller", allocation::beside_a_foreign_controller),
    ("b5_beside_metallb", beside::never_fights_metallb),
    ("b6_what_a_user_sees", allocation::seen_by_a_user),
    ("b7_retained_until_renumbered", addresses::retained_until_renumbered),
    ("b7_etcd_is_put_back", addresses::etcd_put_back),
    ("b7_etcd_is_put_back_empty", emptied::nothing_is_withdrawn),
    ("b7_a_proxy_that_filters_lists", emptied::behind_a_proxy_that_filters),
    ("b7_connections_that_die_silently", emptied::connections_that_die_silently),
    ("b7_fifty_services_through_slow_answers", addresses::through_slow_answers),
    ("b7_a_finalizer_where_it_is_wished", addresses::finalizer_where_wished),
    ("a7_rights_are_exactly_the_reviewed_list", rights::exactly_the_reviewed_list),
    ("a7_every_right_is_needed_and_none_is_missing", rights::used_and_none_missed),
    ("b8_each_rule_is_needed", rules::each_is_needed),
    ("b8_policies_refuse_what_they_should", rules::policies_refuse_what_they_should),
    ("b8_the_schema_takes_what_can_be_read", schema::takes_what_can_be_read),
    ("a7_the_speaker_runs_without_privileges", rights::without_privileges),
    ("e2e_quick", upstream::quick),
];

/// Cases that take long: only where they are asked for with `--ignored`.
pub const LONG: &[(&str, Case)] = &[
    ("e2e_all", upstream::all),
    ("b3_allocator_killed_200_times", addresses::killed_two_hundred_times),
    ("b2_ten_thousand_services", addresses::ten_thousand),
];

/// How long an announcement may take from the API server to both kernels.
const SOON: Duration = Duration::from_secs(10);

/// The host route of a service address.
fn host(address: &str) -> IpNetwork {
    let address: IpAddr = address.parse().expect("a constant of a case");
    address.into()
}

/// A port of a service address.
fn at(address: &str, port: u16) -> SocketAddr {
    SocketAddr::new(address.parse().expect("a constant of a case"), port)
}

/// Waits until both routers have exactly these next hops; since when the later one has.
fn wait_both(
    watches: &mut [Watch; 2],
    within: Duration,
    prefix: IpNetwork,
    hops: &BTreeSet<IpAddr>,
) -> Outcome<Instant> {
    let [first, second] = watches;
    Ok(first.wait_hops(within, prefix, hops)?.max(second.wait_hops(within, prefix, hops)?))
}

/// Fails unless `found` is what was `wanted`.
fn same<T: PartialEq + std::fmt::Debug>(what: &str, found: T, wanted: T) -> Outcome {
    if found == wanted { Ok(()) } else { Err(format!("{what}: {found:?}, and it should be {wanted:?}")) }
}
