//! Real routers around bare speakers: FRR, BIRD and GoBGP in network namespaces, three nodes, a client behind two routers.
//!
//! The judge is the routers' kernel tables, the wire and traffic, never herald's own log. Cases run one after the other,
//! each in a lab of its own.

mod addresses;
mod attributes;
mod cut;
mod gobgp;
mod hostile;
mod ipv6_only;
mod manifests;
mod readme;
#[path = "../rig/mod.rs"]
mod rig;
mod site;
mod speaker;
mod standin;
mod story;
mod stuck;
mod topology;
mod transport;
mod wire;

use libtest_mimic::{Arguments, Failed, Trial};
use rig::router::Kind;
use rig::{Outcome, Rig};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Instant;
use topology::Family;

/// A case: it gets the suite's rig and builds its own lab.
type Case = Box<dyn FnOnce(&Arc<Rig>) -> Outcome + Send>;

fn main() -> ExitCode {
    let mut arguments = Arguments::from_args();
    arguments.test_threads = Some(1);
    if rig::left_out("lab") {
        println!("lab: left out by HERALD_WITHOUT");
        return ExitCode::SUCCESS;
    }
    if arguments.list {
        return libtest_mimic::run(&arguments, trials(None)).exit_code();
    }
    let rig = match Rig::begin("lab", &["bird", "birdc", "vtysh", "/usr/lib/frr/bgpd", "tcpdump"]) {
        Ok(rig) => Arc::new(rig),
        Err(what) => {
            eprintln!("lab: {what}");
            return ExitCode::FAILURE;
        }
    };
    let conclusion = libtest_mimic::run(&arguments, trials(Some(&rig)));
    if conclusion.has_failed() {
        rig.keep_logs();
    }
    conclusion.exit_code()
}

fn cases() -> Vec<(String, Case)> {
    let mut cases: Vec<(String, Case)> = Vec::new();
    for kind in [Kind::Frr, Kind::Bird] {
        let name = kind.name();
        cases.push((format!("{name}_the_lab_itself"), Box::new(move |rig| standin::the_lab_itself(rig, kind))));
        cases.push((format!("{name}_attributes"), Box::new(move |rig| attributes::attributes(rig, kind))));
        for (over, transport) in [("v4", Family::V4), ("v6", Family::V6)] {
            let (story_name, cut_name) =
                (format!("{name}_story_over_{over}"), format!("{name}_silent_cut_over_{over}"));
            cases.push((story_name, Box::new(move |rig| story::story(rig, kind, transport))));
            cases.push((cut_name, Box::new(move |rig| cut::silent_cut(rig, kind, transport))));
        }
    }
    let mut single = |name: &str, case: fn(&Arc<Rig>) -> Outcome| cases.push((name.to_owned(), Box::new(case)));
    single("a_crashed_run_is_cleared_away", standin::a_crashed_run_is_cleared_away);
    single("gobgp_sees_v4_and_v6_on_one_session", gobgp::sees_v4_and_v6_on_one_session);
    single("a_node_with_ipv6_alone", ipv6_only::announces_with_an_id_of_its_name);
    single("readme_router_snippets_work", readme::router_snippets_work);
    single("wire_end_of_rib_follows_the_first_plan", wire::end_of_rib_follows_the_first_plan);
    single(
        "wire_a_removed_peer_hears_withdrawals_then_cease_6_3",
        wire::a_removed_peer_hears_withdrawals_then_cease_6_3,
    );
    single("wire_sigterm_is_cease_6_2_and_an_orderly_close", wire::sigterm_is_cease_6_2_and_an_orderly_close);
    single("frr_a_prefix_limit_saves_the_session", attributes::a_prefix_limit_saves_the_session);
    single("next_hops_follow_the_addresses_of_the_node", addresses::next_hops_follow_the_node);
    single("ipv6_addresses_come_late_pass_and_go", addresses::ipv6_addresses_come_late_pass_and_go);
    single("a_session_whose_address_goes_takes_another", addresses::a_session_whose_address_goes_takes_another);
    single("bad_neighbours_cost_nothing", hostile::bad_neighbours_cost_nothing);
    single("a_stopped_daemon_delays_nobody", stuck::a_stopped_daemon_delays_nobody);
    cases.extend(transport::cases());
    cases
}

fn trials(rig: Option<&Arc<Rig>>) -> Vec<Trial> {
    let wrap = |(name, case): (String, Case)| {
        let rig = rig.cloned();
        Trial::test(name, move || {
            let rig = rig.ok_or("only listed")?;
            let begin = Instant::now();
            let outcome = case(&rig);
            println!("  ({:.1} s)", begin.elapsed().as_secs_f64());
            if outcome.is_err() {
                rig.keep_logs();
            }
            outcome.map_err(Failed::from)
        })
    };
    cases().into_iter().map(wrap).collect()
}
