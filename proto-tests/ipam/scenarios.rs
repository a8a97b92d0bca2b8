//! Scenarios by name: those of the best known allocator's own suite, with our rule where it takes or moves a live address, and
//! those of the promises that it does not make.

use crate::rig::*;
use herald::ipam::*;
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

fn edge(count: u8) -> Pool {
    pool("edge", &format!("10.0.0.1-10.0.0.{count}"))
}

fn cooling(pool: Pool, seconds: u64) -> Pool {
    Pool { cool_down: Duration::from_secs(seconds), ..pool }
}

fn world(pools: Vec<Pool>, services: &[&str]) -> World {
    let mut world = World::new(pools);
    services.iter().for_each(|service| world.put(claim(service)));
    world
}

mod freeing {
    use super::*;

    #[test]
    fn a_service_that_changes_its_type_frees_its_address_for_one_that_waits() {
        let mut world = world(vec![edge(1)], &["a", "b"]);
        assert_eq!((world.shown("a"), world.shown("b")), ("10.0.0.1".into(), String::new()));
        assert_eq!(world.refusals("b"), "pool edge is full: 1 of 1 used");
        world.delete("a");
        assert_eq!((world.shown("b"), world.refusals("b")), ("10.0.0.1".into(), String::new()));
    }

    #[test]
    fn after_its_cool_down_and_not_before_also_over_restarts() {
        let mut world = world(vec![cooling(edge(1), 30)], &["a", "b"]);
        world.delete("a");
        assert_eq!(world.refusals("b"), "pool edge is full: 1 of 1 used, 1 cooling down");
        assert_eq!(world.allocator.next_deadline(), Some(world.now.after(Duration::from_secs(30))));
        world.pass(15);
        world.restart();
        world.pass(14);
        assert_eq!(world.shown("b"), "");
        world.put(claim("c").exact("10.0.0.1"));
        assert_eq!(world.refusals("c"), "10.0.0.1 is cooling down until 2023-11-14T22:13:50Z");
        world.pass(1);
        assert_eq!(world.shown("b"), "10.0.0.1");
        assert_eq!(world.refusals("c"), "10.0.0.1 is held by web/b");
    }

    #[test]
    fn its_last_holder_may_ask_for_a_cooling_address_by_name() {
        let mut world = world(vec![cooling(edge(2), 30)], &["a"]);
        world.delete("a");
        let again = Claim { uid: "another".into(), ..claim("a").exact("10.0.0.1") };
        world.put(again);
        assert_eq!(world.services[&"another".into()].shown, ips("10.0.0.1"));
    }

    #[test]
    fn the_oldest_is_served_first_whatever_it_waits_for() {
        let mut world = world(vec![edge(1)], &["a"]);
        world.put(Claim { created: at(3), ..claim("b") });
        world.put(Claim { created: at(2), ..claim("c").exact("10.0.0.1") });
        world.put(Claim { created: at(2), ..claim("d") });
        world.delete("a");
        assert_eq!(["b", "c", "d"].map(|s| world.shown(s)), ["", "10.0.0.1", ""]);
        world.delete("c");
        assert_eq!(["b", "d"].map(|s| world.shown(s)), ["", "10.0.0.1"]);
    }
}

mod restarting {
    use super::*;

    #[test]
    fn five_restarts_leave_two_addresses_with_the_same_two_of_four() {
        let mut world = world(vec![edge(2)], &["c", "d", "a", "b"]);
        for _ in 0..5 {
            assert_eq!(["a", "b", "c", "d"].map(|s| world.shown(s)), ["", "", "10.0.0.1", "10.0.0.2"]);
            let records = world.records.clone();
            world.restart();
            assert_eq!(world.records, records);
        }
    }

    #[test]
    fn existing_addresses_are_adopted_before_anybody_is_given_one() {
        let mut world = World::new(vec![edge(3)]);
        // Given by another allocator before: only the statuses say so. The older Service has none.
        world.services = [claim("a"), claim("b").showing("10.0.0.1"), claim("c").showing("10.0.0.3")]
            .map(|claim| (claim.uid.clone(), claim))
            .into();
        world.restart();
        assert_eq!(["a", "b", "c"].map(|s| world.shown(s)), ["10.0.0.2", "10.0.0.1", "10.0.0.3"]);
        assert_eq!(world.records.len(), 3);
    }

    #[test]
    fn of_two_statuses_that_show_one_address_the_older_service_has_it() {
        let mut world = World::new(vec![edge(3)]);
        let old = Claim { created: at(0), ..claim("z").showing("10.0.0.2") };
        let new = Claim { created: at(1), ..claim("a").showing("10.0.0.2") };
        world.services = [old, new].map(|claim| (claim.uid.clone(), claim)).into();
        world.restart();
        assert_eq!(["z", "a"].map(|s| world.shown(s)), ["10.0.0.2", "10.0.0.1"]);
    }

    /// Its last leader had found b another address when b thought better of it. That address was chosen on terms that share with
    /// nobody: it rests, and a does not join it on the terms that b has now.
    #[test]
    fn what_a_dead_leader_chose_is_not_joined_on_newer_terms() {
        let mut world = world(vec![cooling(edge(4), 10)], &["b"]);
        let mut chosen = world.records[&ip("10.0.0.1")].clone();
        chosen.address = ip("10.0.0.2");
        world.records.insert(chosen.address, chosen);
        let b = claim("b").exact("10.0.0.1").shared("k", &[80]).showing("10.0.0.1");
        world.services = [claim("a").shared("k", &[81]).exact("10.0.0.2"), b].map(|it| (it.uid.clone(), it)).into();
        world.restart();
        assert_eq!(["a", "b"].map(|s| world.shown(s)), ["", "10.0.0.1"]);
        world.pass(10);
        assert_eq!(["a", "b"].map(|s| world.shown(s)), ["10.0.0.2", "10.0.0.1"]);
    }

    #[test]
    fn an_address_in_no_pool_that_nobody_here_gave_is_left_alone() {
        let mut world = World::new(vec![edge(3)]);
        world.services = [claim("a").showing("192.0.2.9")].map(|claim| (claim.uid.clone(), claim)).into();
        world.restart();
        assert_eq!(world.shown("a"), "192.0.2.9");
        assert!(world.refusals("a").starts_with("its status shows 192.0.2.9, which is in no pool"));
        assert!(world.records.is_empty());
        let mut cleared = claim("a");
        world.services.insert(cleared.uid.clone(), cleared.clone());
        cleared.shown = Vec::new();
        world.put(cleared);
        assert_eq!(world.shown("a"), "10.0.0.1");
    }

    #[test]
    fn holders_that_are_gone_are_swept_by_uid() {
        let mut world = world(vec![cooling(edge(1), 10)], &["a"]);
        // Deleted and made again under its name while nobody looked.
        world.services.remove(&claim("a").uid);
        let again = Claim { uid: "again".into(), ..claim("a") };
        world.services.insert(again.uid.clone(), again);
        world.restart();
        assert!(world.allocator.status(&"again".into()).unwrap().ingress.is_empty());
        world.pass(10);
        assert_eq!(world.allocator.status(&"again".into()).unwrap().ingress, ips("10.0.0.1"));
    }

    #[test]
    fn a_shown_address_of_another_tenants_pool_is_not_adopted() {
        let mut vip = pool("vip", "10.9.0.1-10.9.0.4");
        vip.admission.namespaces = ["bank".into()].into();
        let mut world = World::new(vec![edge(1), vip]);
        world.services = [claim("thief").showing("10.9.0.1")].map(|claim| (claim.uid.clone(), claim)).into();
        world.restart();
        assert_eq!(world.shown("thief"), "10.0.0.1");
    }
}

mod sharing {
    use super::*;

    fn two() -> World {
        let mut world = World::new(vec![edge(2)]);
        world.put(claim("a").shared("k", &[80]));
        world.put(claim("b").shared("k", &[443]));
        assert_eq!([world.shown("a"), world.shown("b")], ["10.0.0.1", "10.0.0.1"]);
        world
    }

    #[test]
    fn without_a_key_or_with_a_port_twice_each_has_its_own() {
        let mut world = two();
        world.put(claim("c"));
        assert_eq!(world.shown("c"), "10.0.0.2");
        world.put(claim("d").shared("k", &[80]));
        assert_eq!((world.shown("d"), world.refusals("d")), (String::new(), "pool edge is full: 2 of 2 used".into()));
        world.put(claim("d").shared("k", &[80]).exact("10.0.0.1"));
        assert_eq!(world.refusals("d"), "10.0.0.1 cannot be shared with web/a: both use TCP 80");
        // The one that is in the way goes: the one that waits joins.
        world.delete("a");
        assert_eq!(world.shown("d"), "10.0.0.1");
    }

    #[test]
    fn an_edit_that_breaks_the_rule_is_refused_and_nobody_loses_an_address() {
        let edits = [
            (claim("b").shared("k", &[80]), "10.0.0.1 cannot be shared with web/a: both use TCP 80"),
            (claim("b").shared("j", &[443]), "10.0.0.1 cannot be shared with web/a: their sharing keys differ"),
            (claim("b"), "10.0.0.1 cannot be shared with web/a: sharing needs a key on both"),
            (
                claim("b").shared("k", &[443]).local("app=b"),
                "10.0.0.1 cannot be shared with web/a: their externalTrafficPolicy differs",
            ),
        ];
        for (edit, why) in edits {
            let mut world = two();
            let records = world.records.clone();
            world.put(edit.clone());
            for _ in 0..2 {
                assert_eq!([world.shown("a"), world.shown("b")], ["10.0.0.1", "10.0.0.1"]);
                assert_eq!([world.refusals("a"), world.refusals("b")], ["", why]);
                assert_eq!(world.records, records, "the terms it was granted stay written down");
                world.restart();
            }
            // Nobody joins while that is so.
            world.put(claim("c").shared("k", &[8080]).exact("10.0.0.1"));
            assert!(world.refusals("c").ends_with("it has been edited and may no longer share what it holds"));
            // Taken back, or alone: all is well, and who waited may join.
            world.put(claim("b").shared("k", &[443]));
            assert_eq!([world.refusals("b"), world.shown("c")], ["", "10.0.0.1"]);
            world.delete("c");
            world.put(edit);
            world.delete("a");
            assert_eq!([world.refusals("b"), world.shown("b")], ["", "10.0.0.1"]);
        }
    }

    #[test]
    fn a_sole_holder_changes_its_key_in_place() {
        let mut world = World::new(vec![edge(1)]);
        world.put(claim("a").shared("k", &[80]));
        world.put(claim("b").shared("j", &[81]));
        assert_eq!(world.shown("b"), "");
        world.put(claim("a").shared("j", &[80]));
        assert_eq!([world.shown("a"), world.shown("b"), world.refusals("a")], ["10.0.0.1", "10.0.0.1", ""]);
    }

    #[test]
    fn policy_local_shares_with_the_same_selector_only() {
        let mut world = World::new(vec![edge(2)]);
        world.put(claim("a").shared("k", &[80]).local("app=x"));
        world.put(claim("b").shared("k", &[81]).local("app=x"));
        world.put(claim("c").shared("k", &[82]).local("app=y"));
        assert_eq!(["a", "b", "c"].map(|s| world.shown(s)), ["10.0.0.1", "10.0.0.1", "10.0.0.2"]);
        // A selector that changes breaks it.
        world.put(claim("b").shared("k", &[81]).local("app=y"));
        assert_eq!(world.shown("b"), "10.0.0.1");
        assert!(world.refusals("b").contains("one namespace and one selector"), "{}", world.refusals("b"));
    }

    #[test]
    fn a_key_means_nothing_in_another_namespace_unless_the_pool_says_so() {
        let mut world = World::new(vec![edge(2)]);
        world.put(claim("web/a").shared("k", &[80]));
        world.put(claim("db/a").shared("k", &[81]));
        assert_eq!(world.shown("db/a"), "10.0.0.2");
        let mut world = World::new(vec![Pool { sharing: SharingScope::Cluster, ..edge(2) }]);
        world.put(claim("web/a").shared("k", &[80]));
        world.put(claim("db/a").shared("k", &[81]));
        assert_eq!(world.shown("db/a"), "10.0.0.1");
    }

    #[test]
    fn two_families_are_shared_both() {
        let mut world = World::new(vec![pool("edge", "10.0.0.1-10.0.0.2 2001:db8::1-2001:db8::2")]);
        for (name, port) in [("a", 80), ("b", 81), ("c", 80)] {
            world.put(claim(name).shared("k", &[port]).families(Families::Require(Family::V6)));
        }
        assert_eq!(["a", "b"].map(|s| world.shown(s)), ["2001:db8::1 10.0.0.1"; 2]);
        assert_eq!(world.shown("c"), "2001:db8::2 10.0.0.2");
    }
}

mod pools {
    use super::*;

    #[test]
    fn without_pools_a_live_address_stays_and_nobody_gets_one() {
        let mut world = world(vec![edge(2)], &["a"]);
        world.set_pools(vec![]);
        for _ in 0..2 {
            assert_eq!((world.shown("a"), world.standing("a")), ("10.0.0.1".into(), Standing::OutsidePool));
            assert_eq!(world.pool("a"), "edge");
            world.restart();
        }
        world.put(claim("b"));
        assert_eq!(world.refusals("b"), "there is no pool of addresses; define one");
        world.set_pools(vec![edge(2)]);
        assert_eq!((world.standing("a"), world.shown("b")), (Standing::Regular, "10.0.0.2".into()));
    }

    #[test]
    fn a_pool_that_goes_leaves_its_address_until_renumbering_is_asked_for() {
        let lab = pool("lab", "10.1.0.1-10.1.0.2");
        let mut world = world(vec![edge(1), lab.clone()], &["a"]);
        world.set_pools(vec![lab]);
        assert_eq!((world.shown("a"), world.standing("a")), ("10.0.0.1".into(), Standing::OutsidePool));
        world.put(claim("a").renumbered());
        assert_eq!((world.shown("a"), world.standing("a")), ("10.1.0.1".into(), Standing::Regular));
        assert_eq!(world.records.len(), 1);
        // Nothing is irregular now: it stays.
        world.restart();
        assert_eq!(world.shown("a"), "10.1.0.1");
    }

    #[test]
    fn renumbering_with_nowhere_to_go_keeps_the_address() {
        let mut world = world(vec![edge(1)], &["a"]);
        world.set_pools(vec![]);
        world.put(claim("a").renumbered());
        assert_eq!((world.shown("a"), world.refusals("a").is_empty()), ("10.0.0.1".into(), false));
        world.set_pools(vec![pool("lab", "10.1.0.1")]);
        assert_eq!(world.shown("a"), "10.1.0.1");
    }

    #[test]
    fn a_pool_that_is_renamed_or_split_keeps_its_addresses_under_the_new_name() {
        let mut world = world(vec![edge(4)], &["a", "b", "c"]);
        world.set_pools(vec![pool("low", "10.0.0.1-10.0.0.2"), pool("high", "10.0.0.3-10.0.0.4")]);
        assert_eq!(["a", "b", "c"].map(|s| world.shown(s)), ["10.0.0.1", "10.0.0.2", "10.0.0.3"]);
        assert_eq!(["a", "b", "c"].map(|s| world.pool(s)), ["low", "low", "high"]);
        assert_eq!(world.standing("c"), Standing::Regular);
    }

    #[test]
    fn a_draining_pool_gives_nothing_and_keeps_what_is_given() {
        let draining = Pool { intake: Intake::Draining, ..edge(3) };
        let mut world = world(vec![edge(3)], &["a"]);
        world.set_pools(vec![draining.clone()]);
        world.put(claim("b"));
        world.put(claim("c").exact("10.0.0.3"));
        world.put(claim("d").from("edge"));
        for service in ["b", "c", "d"] {
            assert_eq!(
                (world.shown(service), world.refusals(service)),
                (String::new(), "pool edge is draining".into())
            );
        }
        world.restart();
        assert_eq!((world.shown("a"), world.standing("a")), ("10.0.0.1".into(), Standing::Unfit(Unfit::Draining)));
        world.set_pools(vec![draining, pool("new", "10.1.0.1-10.1.0.9")]);
        assert_eq!(["a", "b", "c"].map(|s| world.shown(s)), ["10.0.0.1", "10.1.0.1", ""]);
        world.put(claim("a").renumbered());
        assert_eq!(world.shown("a"), "10.1.0.2");
    }

    #[test]
    fn edges_and_named_addresses_are_never_given_also_on_request() {
        let mut edge = pool("edge", "10.0.0.254-10.0.1.2");
        edge.edges = Edges::KeptOut;
        edge.kept_out = vec![(ip("10.0.1.1"), ip("10.0.1.1"))];
        let mut world = world(vec![edge], &["a", "b", "c"]);
        assert_eq!(["a", "b", "c"].map(|s| world.shown(s)), ["10.0.0.254", "10.0.1.2", ""]);
        assert_eq!(world.refusals("c"), "pool edge is full: 2 of 2 used");
        for address in ["10.0.0.255", "10.0.1.0", "10.0.1.1"] {
            world.put(claim("c").exact(address));
            assert_eq!(world.refusals("c"), format!("{address} is kept out of pool edge"));
        }
    }

    #[test]
    fn an_address_that_is_kept_out_later_stays() {
        let mut world = world(vec![pool("edge", "10.0.0.0-10.0.0.3")], &["a"]);
        world.set_pools(vec![Pool { edges: Edges::KeptOut, ..pool("edge", "10.0.0.0-10.0.0.3") }]);
        world.restart();
        assert_eq!((world.shown("a"), world.standing("a")), ("10.0.0.0".into(), Standing::KeptOut));
    }

    #[test]
    fn a_pool_without_auto_assign_serves_who_asks_for_it_or_its_address() {
        let lab = Pool { auto_assign: AutoAssign::OnRequest, ..pool("lab", "10.1.0.1-10.1.0.9") };
        let mut world = world(vec![lab], &["a"]);
        assert_eq!(world.refusals("a"), "pool lab serves only on request (autoAssign: false)");
        world.put(claim("b").from("lab"));
        world.put(claim("c").exact("10.1.0.7"));
        assert_eq!(["a", "b", "c"].map(|s| world.shown(s)), ["", "10.1.0.1", "10.1.0.7"]);
        // A request that is dropped takes nothing away.
        world.put(claim("b"));
        world.put(claim("c"));
        assert_eq!(["b", "c"].map(|s| world.shown(s)), ["10.1.0.1", "10.1.0.7"]);
    }

    #[test]
    fn a_pool_larger_than_anything_costs_no_more() {
        let mut world = world(vec![], &[]);
        world.set_pools(vec![pool("v6", "2001:db8::-2001:db8:ffff:ffff:ffff:ffff:ffff:ffff")]);
        for (name, address) in [("a", "2001:db8::"), ("b", "2001:db8::1")] {
            world.put(claim(name).families(Families::Single(Family::V6)));
            assert_eq!(world.shown(name), address);
        }
        assert_eq!(world.allocator.usage()[0].vacant, (1 << 96) - 2);
    }
}

mod choosing {
    use super::*;

    fn with(name: &str, priority: u32, change: impl FnOnce(&mut Admission)) -> Pool {
        let third = priority % 250;
        let mut pool = pool(name, &format!("10.{third}.0.1-10.{third}.0.1"));
        pool.priority = priority;
        change(&mut pool.admission);
        pool
    }

    #[test]
    fn by_priority_then_by_name_and_on_to_the_next_when_full() {
        let mut pools = vec![with("b", 20, |_| {}), with("a", 21, |_| {}), with("c", 9, |_| {})];
        pools[1].priority = 20;
        let world = world(pools, &["1", "2", "3", "4"]);
        assert_eq!(["1", "2", "3", "4"].map(|s| world.shown(s)), ["10.9.0.1", "10.21.0.1", "10.20.0.1", ""]);
        let full = |name| format!("pool {name} is full: 1 of 1 used");
        assert_eq!(
            world.refusals("4"),
            format!("no pool gives an IPv4 address: {}; {}; {}", full("c"), full("a"), full("b"))
        );
    }

    #[test]
    fn by_namespace_name() {
        let mut world =
            World::new(vec![with("a", 1, |rule| rule.namespaces = ["db".into()].into()), with("b", 2, |_| {})]);
        world.put(claim("db/x"));
        world.put(claim("web/x"));
        world.put(claim("db/y"));
        assert_eq!(["db/x", "web/x", "db/y"].map(|s| world.shown(s)), ["10.1.0.1", "10.2.0.1", ""]);
        world.put(claim("web/y").from("a"));
        assert_eq!(world.refusals("web/y"), "pool a is for other namespaces");
        world.put(claim("web/y").exact("10.1.0.1"));
        assert_eq!(world.refusals("web/y"), "pool a is for other namespaces");
    }

    #[test]
    fn by_namespace_label_or_name() {
        let pool = with("a", 1, |rule| {
            rule.namespaces = ["db".into()].into();
            rule.namespace_selectors = vec![selector("tier", "x"), selector("tier", "y")];
        });
        let mut world = World::new(vec![pool]);
        world.put(claim("web/x"));
        assert_eq!(world.shown("web/x"), "");
        world.put(claim("web/x").in_labelled("tier", "y"));
        assert_eq!(world.shown("web/x"), "10.1.0.1");
        // A label that goes takes nothing away.
        world.put(claim("web/x"));
        assert_eq!(world.shown("web/x"), "10.1.0.1");
        assert_eq!(world.standing("web/x"), Standing::Unfit(Unfit::Namespace));
        world.delete("web/x");
        world.put(claim("db/x"));
        assert_eq!(world.shown("db/x"), "10.1.0.1");
    }

    #[test]
    fn by_service_label_and_namespace_together() {
        let pool = with("a", 1, |rule| {
            rule.namespaces = ["db".into()].into();
            rule.service_selectors = vec![selector("kind", "edge")];
        });
        let mut world = World::new(vec![pool]);
        world.put(claim("web/x").labelled("kind", "edge"));
        world.put(claim("db/x"));
        assert_eq!(world.refusals("web/x"), "pool a is for other namespaces");
        assert_eq!(world.refusals("db/x"), "pool a is for services with other labels");
        world.put(claim("db/y").labelled("kind", "edge"));
        assert_eq!(world.shown("db/y"), "10.1.0.1");
    }
}

mod two_families {
    use super::*;

    const PREFER: Families = Families::Prefer(Family::V4);
    const REQUIRE: Families = Families::Require(Family::V4);

    fn v4() -> Pool {
        Pool { priority: 1, ..pool("v4", "10.4.0.1-10.4.0.9") }
    }

    fn v6() -> Pool {
        Pool { priority: 2, ..pool("v6", "2001:db8:6::1-2001:db8:6::9") }
    }

    fn dual() -> Pool {
        Pool { priority: 3, ..pool("dual", "10.46.0.1-10.46.0.2 2001:db8:46::1-2001:db8:46::2") }
    }

    #[test]
    fn a_pool_with_both_goes_before_pools_with_one() {
        for families in [PREFER, REQUIRE] {
            let mut world = World::new(vec![v4(), v6(), dual()]);
            world.put(claim("a").families(families));
            assert_eq!(world.shown("a"), "10.46.0.1 2001:db8:46::1");
        }
    }

    #[test]
    fn else_each_comes_from_a_pool_of_its_own() {
        for families in [PREFER, REQUIRE] {
            let mut world = World::new(vec![v4(), v6()]);
            world.put(claim("a").families(families));
            assert_eq!((world.shown("a"), world.pool("a")), ("10.4.0.1 2001:db8:6::1".into(), "v4 v6".into()));
        }
    }

    #[test]
    fn the_primary_family_is_shown_first() {
        let mut world = World::new(vec![dual()]);
        world.put(claim("a").families(Families::Prefer(Family::V6)));
        assert_eq!(world.shown("a"), "2001:db8:46::1 10.46.0.1");
    }

    #[test]
    fn preferring_takes_one_and_the_second_follows_beside_it() {
        let mut world = World::new(vec![v4()]);
        world.put(claim("a").families(PREFER));
        assert_eq!(world.shown("a"), "10.4.0.1");
        assert_eq!(world.refusals("a"), "served without IPv6 for now: pool v4 has no IPv6 addresses");
        // Its own pool gains the family: it goes before one that is asked earlier.
        let grown = Pool { priority: 5, ..pool("v4", "10.4.0.1-10.4.0.9 2001:db8:4::1") };
        world.set_pools(vec![grown, v6()]);
        assert_eq!((world.shown("a"), world.refusals("a")), ("10.4.0.1 2001:db8:4::1".into(), String::new()));
    }

    #[test]
    fn requiring_takes_both_or_nothing() {
        let mut world = World::new(vec![v4()]);
        world.put(claim("a").families(REQUIRE));
        assert_eq!((world.shown("a"), world.records.len()), (String::new(), 0));
        assert_eq!(
            world.refusals("a"),
            "RequireDualStack needs both families, and IPv6 is not to be had: pool v4 has no IPv6 addresses"
        );
        world.put(claim("b"));
        assert_eq!(world.shown("b"), "10.4.0.1");
        world.set_pools(vec![v4(), v6()]);
        assert_eq!(world.shown("a"), "10.4.0.2 2001:db8:6::1");
    }

    #[test]
    fn changing_the_policy_gives_back_exactly_what_it_must() {
        let mut world = World::new(vec![dual()]);
        world.put(claim("a").families(PREFER));
        world.put(claim("a").families(REQUIRE));
        assert_eq!(world.shown("a"), "10.46.0.1 2001:db8:46::1");
        world.put(claim("a"));
        assert_eq!((world.shown("a"), world.records.len()), ("10.46.0.1".into(), 1));
        world.put(claim("a").families(REQUIRE));
        assert_eq!(world.shown("a"), "10.46.0.1 2001:db8:46::1");
        world.put(claim("a").families(Families::Single(Family::V6)));
        assert_eq!((world.shown("a"), world.records.len()), ("2001:db8:46::1".into(), 1));
    }

    #[test]
    fn requiring_what_is_not_there_keeps_the_one_it_has() {
        let mut world = World::new(vec![v4()]);
        world.put(claim("a"));
        world.put(claim("a").families(REQUIRE));
        for _ in 0..2 {
            assert_eq!(world.shown("a"), "10.4.0.1");
            assert!(world.refusals("a").starts_with("RequireDualStack needs both"));
            world.restart();
        }
        world.set_pools(vec![v4(), v6()]);
        assert_eq!(world.shown("a"), "10.4.0.1 2001:db8:6::1");
    }

    #[test]
    fn a_better_pool_moves_nobody_and_a_pool_that_loses_a_family_neither() {
        let mut world = World::new(vec![dual()]);
        world.put(claim("a").families(PREFER));
        world.set_pools(vec![dual(), v4(), v6(), Pool { priority: 0, ..pool("best", "10.0.0.1 2001:db8::1") }]);
        assert_eq!(world.shown("a"), "10.46.0.1 2001:db8:46::1");
        world.set_pools(vec![pool("dual", "10.46.0.1-10.46.0.2"), v6()]);
        world.restart();
        assert_eq!(world.shown("a"), "10.46.0.1 2001:db8:46::1");
        let status = world.allocator.status(&claim("a").uid).unwrap();
        let standings: Vec<_> = status.assigned.into_iter().map(|assigned| assigned.standing).collect();
        assert_eq!(standings, [Standing::Regular, Standing::OutsidePool]);
    }

    #[test]
    fn one_address_by_name_and_the_other_from_a_pool() {
        let mut world = World::new(vec![dual()]);
        world.put(claim("a").families(REQUIRE).exact("10.46.0.2"));
        assert_eq!(world.shown("a"), "10.46.0.2 2001:db8:46::1");
        world.put(claim("b").families(PREFER).exact("10.46.0.1 2001:db8:46::2"));
        assert_eq!(world.shown("b"), "10.46.0.1 2001:db8:46::2");
        world.put(claim("c").exact("2001:db8:46::2"));
        assert_eq!(world.refusals("c"), "2001:db8:46::2 is IPv6, and the service has no such family");
        world.put(claim("c").exact("10.46.0.1 10.46.0.2"));
        assert_eq!(world.refusals("c"), "it names more than one IPv4 address; one a family is served");
    }
}

mod requests {
    use super::*;

    #[test]
    fn a_changed_request_secures_the_new_address_before_it_lets_the_old_one_go() {
        let mut world = world(vec![edge(3)], &["a"]);
        let uid = claim("a").uid;
        let wish = Claim { shown: ips("10.0.0.1"), ..claim("a").exact("10.0.0.3") };
        world.services.insert(uid.clone(), wish.clone());
        world.allocator.apply(wish, world.now);
        // Chosen, not written: the status stays.
        assert_eq!(world.allocator.status(&uid).unwrap().ingress, ips("10.0.0.1"));
        assert!(matches!(world.allocator.due_write(ip("10.0.0.3")), Write::Put(_)));
        assert_eq!(world.allocator.due_write(ip("10.0.0.1")), Write::Nothing);
        // Written, not shown: the old one is still its own.
        let Write::Put(record) = world.allocator.begin_write(ip("10.0.0.3")) else { panic!("nothing to write") };
        world.records.insert(ip("10.0.0.3"), record.clone());
        world.allocator.confirm(ip("10.0.0.3"), Some(record), world.now);
        assert_eq!(world.allocator.status(&uid).unwrap().ingress, ips("10.0.0.3"));
        assert_eq!(world.allocator.due_write(ip("10.0.0.1")), Write::Nothing);
        // A crash between the two leaves it with what its status shows, or with what it asks for.
        world.restart();
        assert_eq!(world.shown("a"), "10.0.0.3");
        assert_eq!(world.records.keys().copied().collect::<Vec<_>>(), ips("10.0.0.3"));
    }

    #[test]
    fn a_request_that_cannot_be_served_keeps_the_old_address_and_waits() {
        let mut world = world(vec![edge(3)], &["a", "b"]);
        world.put(claim("a").exact("10.0.0.2"));
        assert_eq!((world.shown("a"), world.refusals("a")), ("10.0.0.1".into(), "10.0.0.2 is held by web/b".into()));
        world.put(claim("a").exact("192.0.2.1"));
        assert_eq!((world.shown("a"), world.refusals("a")), ("10.0.0.1".into(), "192.0.2.1 is in no pool".into()));
        world.put(claim("a").from("egde"));
        assert_eq!(world.refusals("a"), "pool egde does not exist; there is edge");
        world.put(claim("a").exact("10.0.0.2"));
        world.delete("b");
        assert_eq!((world.shown("a"), world.refusals("a")), ("10.0.0.2".into(), String::new()));
    }

    #[test]
    fn two_that_want_each_others_addresses_keep_their_own() {
        let mut world = world(vec![edge(2)], &["a", "b"]);
        world.put(claim("a").exact("10.0.0.2"));
        world.put(claim("b").exact("10.0.0.1"));
        assert_eq!([world.shown("a"), world.shown("b")], ["10.0.0.1", "10.0.0.2"]);
    }

    #[test]
    fn a_changed_pool_moves_it_and_a_full_one_does_not() {
        let mut world = world(vec![edge(2), pool("lab", "10.1.0.1")], &["a", "b"]);
        world.put(claim("a").from("lab"));
        world.put(claim("b").from("lab"));
        assert_eq!([world.shown("a"), world.shown("b")], ["10.1.0.1", "10.0.0.2"]);
        assert_eq!(world.refusals("b"), "pool lab is full: 1 of 1 used");
        world.delete("a");
        assert_eq!(world.shown("b"), "10.1.0.1");
    }

    #[test]
    fn an_address_and_a_pool_that_do_not_go_together_change_nothing() {
        let mut world = world(vec![edge(2), pool("lab", "10.1.0.1")], &["a"]);
        world.put(claim("a").from("lab").exact("10.0.0.2"));
        assert_eq!(world.shown("a"), "10.0.0.1");
        assert_eq!(world.refusals("a"), "10.0.0.2 is in pool edge, not in pool lab");
    }

    #[test]
    fn a_quota_counts_addresses_of_a_namespace_and_not_the_one_that_is_replaced() {
        let mut world = World::new(vec![edge(9)]);
        let limit = |limit| Quotas { default: Quota::Addresses(limit), namespaces: BTreeMap::new() };
        world.set_quotas(limit(2));
        world.put(claim("a").shared("k", &[80]));
        world.put(claim("b").shared("k", &[81]));
        world.put(claim("c"));
        world.put(claim("d"));
        assert_eq!(["b", "c", "d"].map(|s| world.shown(s)), ["10.0.0.1", "10.0.0.2", ""]);
        assert_eq!(world.refusals("d"), "namespace web has 2 of the 2 addresses that it may have");
        world.put(claim("db/x"));
        assert_eq!(world.shown("db/x"), "10.0.0.3");
        world.put(claim("c").exact("10.0.0.9"));
        assert_eq!(world.shown("c"), "10.0.0.9");
        world.set_quotas(limit(1));
        world.restart();
        assert_eq!(["b", "c"].map(|s| world.shown(s)), ["10.0.0.1", "10.0.0.9"]);
        let over = Overshoot { namespace: "web".into(), used: 2, limit: 1 };
        assert_eq!(world.allocator.overshoots(), [over]);
        world.set_quotas(limit(2));
        world.delete("c");
        assert_eq!(world.shown("d"), "10.0.0.2");
    }
}

mod neighbours {
    use super::*;

    #[test]
    fn a_service_of_another_class_gets_nothing_and_its_address_is_not_given() {
        let mut world = World::new(vec![edge(3)]);
        world.put_foreign("other", "10.0.0.1");
        world.put(claim("a"));
        world.put(claim("b").exact("10.0.0.1"));
        assert_eq!(world.allocator.status(&claim("other").uid), None);
        assert_eq!([world.shown("a"), world.shown("b")], ["10.0.0.2", ""]);
        assert_eq!(world.refusals("b"), "10.0.0.1 is in use by web/other, which is served by others");
        world.restart();
        world.put_foreign("other", "");
        assert_eq!(world.shown("b"), "10.0.0.1");
    }

    #[test]
    fn a_service_that_changes_its_class_gives_back_what_it_had() {
        let mut world = world(vec![edge(1)], &["a", "b"]);
        // Its status still shows the address: it is blocked until that is over.
        world.put_foreign("a", "10.0.0.1");
        assert_eq!(world.refusals("b"), "pool edge is full: 1 of 1 used, 1 in use by nodes or by others");
        world.put_foreign("a", "");
        assert_eq!(world.shown("b"), "10.0.0.1");
        // And one that becomes ours with what it shows keeps it.
        let mut world = World::new(vec![edge(3)]);
        world.put_foreign("a", "10.0.0.3");
        world.put(claim("a").showing("10.0.0.3"));
        assert_eq!(world.shown("a"), "10.0.0.3");
        assert!(world.records.contains_key(&ip("10.0.0.3")));
    }

    #[test]
    fn a_foreign_status_that_shows_our_address_takes_it_from_nobody() {
        let mut world = world(vec![edge(2)], &["a"]);
        world.put_foreign("other", "10.0.0.1");
        assert_eq!(world.shown("a"), "10.0.0.1");
        assert!(matches!(world.standing("a"), Standing::AlsoForeign(_)));
    }

    #[test]
    fn node_addresses_are_never_given() {
        let mut world = World::new(vec![edge(3)]);
        world.set_nodes("10.0.0.1 10.0.0.3");
        world.put(claim("a"));
        world.put(claim("b"));
        world.put(claim("c").exact("10.0.0.3"));
        assert_eq!(["a", "b", "c"].map(|s| world.shown(s)), ["10.0.0.2", "", ""]);
        assert_eq!(world.refusals("b"), "pool edge is full: 3 of 3 used, 2 in use by nodes or by others");
        assert_eq!(world.refusals("c"), "10.0.0.3 is the address of a node or of a router");
        // A node that comes later takes nothing away; one that goes leaves its address to who waits.
        world.set_nodes("10.0.0.2");
        assert_eq!(["a", "b", "c"].map(|s| world.shown(s)), ["10.0.0.2", "10.0.0.1", "10.0.0.3"]);
        assert_eq!(world.standing("a"), Standing::NodeAddress);
    }
}

mod figures {
    use super::*;

    #[test]
    fn counters_follow_the_services() {
        let mut world = world(vec![cooling(edge(5), 60)], &["a", "b"]);
        world.set_nodes("10.0.0.5");
        world.delete("a");
        let usage =
            || Usage { pool: "edge".into(), family: Family::V4, total: 5, held: 1, cooling: 1, blocked: 1, vacant: 2 };
        assert_eq!(world.allocator.usage(), [usage()]);
        world.restart();
        assert_eq!(world.allocator.usage(), [usage()]);
        world.pass(60);
        assert_eq!(world.allocator.usage(), [Usage { cooling: 0, vacant: 3, ..usage() }]);
    }
}

mod conflicts {
    use super::*;

    fn held(address: &str, service: &str) -> Record {
        let Claim { uid, service, terms, .. } = claim(service);
        Record { address: ip(address), pool: "edge".into(), tenure: Tenure::Held(vec![Holder { service, uid, terms }]) }
    }

    #[test]
    fn a_grant_that_meets_another_leaders_is_rolled_back_and_another_found() {
        let mut world = World::new(vec![edge(3)]);
        world.allocator.apply(claim("a"), world.now);
        assert!(matches!(world.allocator.due_write(ip("10.0.0.1")), Write::Put(_)));
        // AlreadyExists: a former leader gave it to b, of which we hear only then.
        world.allocator.apply(claim("b"), world.now);
        world.allocator.observe(ip("10.0.0.1"), Some(held("10.0.0.1", "b")), world.now);
        assert_eq!(world.allocator.due_write(ip("10.0.0.1")), Write::Nothing);
        let ingress = |name| world.allocator.status(&claim(name).uid).unwrap().ingress;
        assert_eq!(ingress("b"), ips("10.0.0.1"));
        let a = world.allocator.status(&claim("a").uid).unwrap();
        assert_eq!(a.assigned.iter().map(|assigned| assigned.address).collect::<Vec<_>>(), ips("10.0.0.3"));
        // b's own choice is not needed any more.
        assert_eq!(world.allocator.due_write(ip("10.0.0.2")), Write::Nothing);
    }

    #[test]
    fn a_late_grant_to_a_service_that_is_gone_is_swept() {
        let mut world = World::new(vec![cooling(edge(1), 5)]);
        world.allocator.observe(ip("10.0.0.1"), Some(held("10.0.0.1", "ghost")), world.now);
        // Perhaps our watch is behind: nothing happens before somebody has looked.
        assert_eq!(world.allocator.due_write(ip("10.0.0.1")), Write::Nothing);
        let unknown = world.allocator.unknown_holders();
        assert_eq!(unknown.iter().map(|holder| holder.service.to_string()).collect::<Vec<_>>(), ["web/ghost"]);
        world.allocator.remove(&unknown[0].uid, world.now);
        assert!(world.allocator.unknown_holders().is_empty());
        let Write::Put(record) = world.allocator.due_write(ip("10.0.0.1")) else { panic!("nothing to write") };
        assert!(matches!(record.tenure, Tenure::Released { .. }), "{record:?}");
        world.flush();
        world.pass(5);
        assert!(world.records.is_empty());
    }

    #[test]
    fn a_record_that_somebody_deleted_is_written_again() {
        let mut world = world(vec![edge(2)], &["a"]);
        world.records.clear();
        world.allocator.observe(ip("10.0.0.1"), None, world.now);
        world.flush();
        assert_eq!((world.shown("a"), world.records.len()), ("10.0.0.1".into(), 1));
    }

    fn ingress(world: &World, service: &str) -> Vec<IpAddr> {
        world.allocator.status(&claim(service).uid).expect("it is served").ingress
    }

    #[test]
    fn an_address_that_a_status_write_may_still_show_is_not_given_back() {
        let mut world = World::new(vec![edge(1)]);
        let (uid, address) = (claim("a").uid, ip("10.0.0.1"));
        world.allocator.apply(claim("a"), world.now);
        let Write::Put(record) = world.allocator.begin_write(address) else { panic!("nothing to write") };
        world.allocator.confirm(address, Some(record), world.now);
        assert_eq!(world.allocator.begin_status(&uid), Some(vec![address]));
        // The family goes while that write is on its way: nothing is shown, as far as is known, and nothing is to be shown.
        let other = claim("a").families(Families::Single(Family::V6));
        world.allocator.apply(other.clone(), world.now);
        assert_eq!((world.allocator.due_status(&uid), world.allocator.due_write(address)), (None, Write::Nothing));
        world.allocator.end_status(other.clone().showing("10.0.0.1"), world.now);
        assert_eq!(world.allocator.begin_status(&uid), Some(vec![]));
        assert_eq!(world.allocator.due_write(address), Write::Nothing);
        world.allocator.end_status(other, world.now);
        assert_eq!(world.allocator.due_write(address), Write::Delete);
    }

    #[test]
    fn what_a_former_leader_chose_beside_is_given_back_after_the_status_is_written() {
        let mut world = World::new(vec![edge(2)]);
        world.records = ["10.0.0.1", "10.0.0.2"].map(|address| (ip(address), held(address, "a"))).into();
        world.services = [(claim("a").uid, claim("a"))].into();
        world.allocator = Allocator::adopt(world.start(), world.now);
        // The other may be about to be shown; our write of the status shuts that out.
        assert_eq!(world.allocator.due_status(&claim("a").uid), Some(ips("10.0.0.1")));
        assert_eq!(world.allocator.due_write(ip("10.0.0.2")), Write::Nothing);
        world.flush();
        assert_eq!((world.shown("a"), world.records.len()), ("10.0.0.1".into(), 1));
    }

    #[test]
    fn an_address_taken_again_while_its_record_is_being_deleted_is_shown_when_it_is_written_again() {
        let mut world = world(vec![edge(1)], &["a"]);
        let address = ip("10.0.0.1");
        let (v4, v6) = (claim("a"), claim("a").families(Families::Single(Family::V6)));
        world.allocator.apply(v6.clone().showing("10.0.0.1"), world.now);
        world.allocator.apply(v6, world.now);
        assert_eq!(world.allocator.begin_write(address), Write::Delete);
        world.allocator.apply(v4, world.now);
        assert_eq!((ingress(&world, "a"), world.allocator.due_write(address)), (vec![], Write::Nothing));
        world.allocator.confirm(address, None, world.now);
        assert!(ingress(&world, "a").is_empty());
        let Write::Put(record) = world.allocator.begin_write(address) else { panic!("nothing to write") };
        world.allocator.confirm(address, Some(record), world.now);
        assert_eq!(ingress(&world, "a"), [address]);
    }

    #[test]
    fn a_clock_that_ran_ahead_keeps_nothing_cool_for_longer_than_a_cool_down() {
        let mut world = world(vec![cooling(edge(1), 5)], &["a"]);
        world.now = at(1_000_000);
        world.delete("a");
        world.now = at(10);
        world.put(claim("b"));
        world.restart();
        world.pass(5);
        assert_eq!(world.shown("b"), "10.0.0.1");
    }
}
