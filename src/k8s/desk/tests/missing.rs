//! What becomes of Services, Allocations and Namespaces that a list no longer has.

use super::*;

/// `count` Services that have their addresses, of 250 there are.
fn served(count: usize) -> Bench {
    let mut bench = Bench::with_addresses(Classless::Announce, ip("198.51.100.249"));
    bench.list();
    (0..count).for_each(|n| bench.put(&name(n), |_| {}));
    bench.work();
    assert_eq!(bench.holders(), count);
    bench
}

fn name(n: usize) -> String {
    format!("s{n:03}")
}

impl Bench {
    /// How many Allocations name a holder.
    fn holders(&self) -> usize {
        self.allocations.values().filter(|object| !object.spec.holders.is_empty()).count()
    }

    /// The Services are there, and a list has only those of them.
    fn list_only(&mut self, listed: impl Fn(&str) -> bool) {
        let forms = self.services.iter().filter(|(name, _)| listed(name)).map(|(_, object)| form(object)).collect();
        self.list_of(forms);
    }

    /// Another one leads: it lists these Services, and all Allocations.
    fn succeeded_by_another(&self, services: BTreeMap<String, Value>) -> Self {
        let mut next = Self::with_addresses(Classless::Announce, ip("198.51.100.249"));
        (next.services, next.allocations) = (services, self.allocations.clone());
        (next.version, next.now) = (self.version, self.now);
        next.list();
        next
    }
}

fn reads(done: &[String]) -> usize {
    done.iter().filter(|word| word.starts_with("read ")).count()
}

/// The list is empty, and the API server has all of them: each is asked for, and nothing comes of it.
#[tokio::test(start_paused = true)]
async fn an_empty_list_releases_nobody_who_is_there() {
    let mut bench = served(70);
    bench.list_only(|_| false);
    let done = bench.work();
    assert_eq!((reads(&done), done.len()), (70, 70), "{done:?}");
    assert_eq!((bench.holders(), bench.held()), (70, None));
    bench.later(600);
    assert!(bench.work().is_empty());
    assert_eq!(bench.holders(), 70);
}

/// The API server has none of them either: all wait, for as long as it takes, until an operator says so.
#[tokio::test(start_paused = true)]
async fn a_list_that_would_release_all_waits_until_it_is_confirmed() {
    let mut bench = served(70);
    bench.services.clear();
    bench.list_services();
    assert_eq!(reads(&bench.work()), 70);
    bench.later(3600);
    assert!(bench.work().is_empty(), "nobody is asked for again, nothing is written");
    let words = bench.held().unwrap();
    assert!(
        words.starts_with("ReleasesHeld: 70 addresses of 70 services (web/s000, web/s001, web/s002 and 67 more)"),
        "{words}"
    );
    assert!(words.contains("--socket /run/a.sock") && words.contains("until that is confirmed"), "{words}");
    bench.desk.consent("0123456789abcdef", bench.now);
    assert!(bench.work().is_empty(), "another number lets nobody go");
    bench.confirm();
    let done = bench.work();
    assert_eq!(done.iter().filter(|word| word.starts_with("put ")).count(), 70, "{done:?}");
    assert_eq!((bench.holders(), bench.held()), (0, None));
}

/// One edit of the configuration does the same; a limit of 100 % is none.
#[tokio::test(start_paused = true)]
async fn the_configuration_confirms_too_and_may_turn_the_guard_off() {
    for off in [false, true] {
        let mut bench = served(10);
        bench.services.clear();
        bench.list_services();
        bench.work();
        let number = bench.held().unwrap().split("herald confirm ").nth(1).unwrap()[..16].to_owned();
        let guard = match off {
            true => Limits { max_withdraw: 100, ..Limits::default() },
            false => Limits { confirmed: Some(number.as_str().into()), ..Limits::default() },
        };
        bench.desk.configure(Rules { guard, ..bench.desk.rules.clone() }, bench.now);
        bench.work();
        assert_eq!((bench.holders(), bench.held()), (0, None));
    }
}

/// A list that lacks forty of eighty: a quarter at once, another each minute, without another list; none without having been asked
/// for; and the number stays the same.
#[tokio::test(start_paused = true)]
async fn the_guards_share_goes_in_each_hold_and_the_rest_later_without_another_list() {
    let mut bench = served(80);
    (0..40).for_each(|n| drop(bench.services.remove(&name(n))));
    bench.list_services();
    let done = bench.work();
    assert_eq!((reads(&done), bench.holders()), (40, 60), "{done:?}");
    let number = |bench: &Bench| bench.held().unwrap().split("herald confirm ").nth(1).unwrap()[..16].to_owned();
    let first = number(&bench);
    bench.later(59);
    assert!(bench.work().is_empty());
    bench.later(1);
    bench.work();
    assert_eq!(bench.holders(), 45, "15 are a quarter of 60");
    assert_eq!(number(&bench), first);
    let deadline = bench.desk.deadline(bench.now).unwrap() - bench.now.clock;
    assert!(deadline <= Duration::from_secs(60), "it wakes by itself: {deadline:?}");
    bench.later(60);
    bench.work();
    assert_eq!((bench.holders(), bench.held()), (40, None));
}

#[tokio::test(start_paused = true)]
async fn who_is_back_is_held_no_longer_and_keeps_his_address() {
    let mut bench = served(20);
    let services = std::mem::take(&mut bench.services);
    bench.list_services();
    bench.work();
    assert!(bench.held().is_some());
    bench.services = services;
    // Put back to an older state: it counts from lower again.
    for (object, version) in bench.services.values_mut().zip(1..) {
        object["metadata"]["resourceVersion"] = format!("{version}").into();
    }
    let told: Vec<ServiceForm> = bench.services.values().map(form).collect();
    told.into_iter().for_each(|form| bench.desk.take(News::Service(Told::Applied(form)), bench.now));
    assert!(bench.work().is_empty());
    assert_eq!((bench.holders(), bench.held()), (20, None));
}

/// Deletions that the watch tells are believed, however many: one by one, or a namespace and all that is in it.
#[tokio::test(start_paused = true)]
async fn deletions_that_are_told_release_all_at_once() {
    let mut bench = served(240);
    for n in 0..240 {
        bench.delete(&name(n));
    }
    let done = bench.work();
    assert_eq!((reads(&done), bench.holders(), bench.held()), (0, 0, None));
    // Also where a list made one doubt before.
    let mut bench = served(20);
    let identities: Vec<Identity> = (0..20).map(|n| Identity { uid: name(n), ..Identity::default() }).collect();
    bench.services.clear();
    bench.list_services();
    bench.work();
    assert_eq!(bench.holders(), 20);
    identities.into_iter().for_each(|gone| bench.desk.take(News::Service(Told::Deleted(gone)), bench.now));
    bench.work();
    assert_eq!((bench.holders(), bench.held()), (0, None));
}

/// An answer of no use is none: it is asked again, later and later.
#[tokio::test(start_paused = true)]
async fn who_cannot_be_asked_for_keeps_what_he_has() {
    let mut bench = served(10);
    bench.services.remove("s000");
    bench.list_services();
    let mut asked = 0;
    for _ in 0..120 {
        while let Some(errand) = bench.desk.next_errand() {
            assert!(matches!(errand, Errand::Read { .. }), "{errand:?}");
            asked += 1;
            answer(&mut bench, errand.key(), Outcome::Refused("services is forbidden".to_owned()));
        }
        bench.later(1);
    }
    assert!((5..15).contains(&asked), "asked {asked} times in two minutes");
    assert_eq!(bench.holders(), 10);
    let words = bench.held().unwrap();
    assert!(words.contains("asking for web/s000 failed: services is forbidden"), "{words}");
    bench.later(60);
    bench.work();
    assert_eq!((bench.holders(), bench.held()), (9, None));
}

/// What says for sure that one is gone needs no guard: another one under its name, or another type.
#[tokio::test(start_paused = true)]
async fn who_was_made_anew_or_is_of_another_type_is_gone_for_sure() {
    let anew = |object: &mut Value| {
        object["metadata"]["uid"] = "another".into();
        object["status"] = json!({});
    };
    // The list has it, the watch tells of it, or only asking for it shows it.
    for by in ["list", "watch", "read"] {
        let mut bench = served(1);
        if by == "watch" {
            let services = std::mem::take(&mut bench.services);
            bench.list_services();
            bench.work();
            assert!(bench.held().is_some());
            bench.services = services;
        }
        anew(bench.services.get_mut("s000").unwrap());
        match by {
            "list" => bench.list_services(),
            "watch" => bench.desk.take(News::Service(Told::Applied(form(&bench.services["s000"]))), bench.now),
            _ => bench.list_only(|_| false),
        }
        assert!(by != "watch" || bench.held().is_none(), "nothing is doubtful any more");
        bench.work();
        let holders = &bench.allocations[&ip("198.51.100.0")].spec.holders;
        assert!(!holders.iter().any(|holder| holder.uid == "s000") && bench.held().is_none(), "{by}: {holders:?}");
    }
    let mut bench = served(1);
    bench.services.get_mut("s000").unwrap()["spec"]["type"] = "ClusterIP".into();
    bench.list_only(|_| false);
    let done = bench.work();
    assert!(done.contains(&"tidy s000".to_owned()), "{done:?}");
    assert_eq!((bench.holders(), bench.held()), (0, None));
}

/// One that begins knows of its holders by their Allocations alone: an empty list is doubted all the same, and what the one before
/// released counts.
#[tokio::test(start_paused = true)]
async fn another_leader_believes_an_empty_list_no_more_and_goes_on_in_the_same_window() {
    let bench = served(40);
    let mut next = bench.succeeded_by_another(BTreeMap::new());
    assert_eq!(reads(&next.work()), 40);
    next.later(600);
    next.work();
    assert_eq!(next.holders(), 40);
    next.confirm();
    next.work();
    assert_eq!(next.holders(), 0);

    let mut bench = served(40);
    (0..20).for_each(|n| drop(bench.services.remove(&name(n))));
    bench.list_services();
    bench.work();
    assert_eq!(bench.holders(), 30);
    bench.later(10);
    let mut next = bench.succeeded_by_another(bench.services.clone());
    next.work();
    assert_eq!(next.holders(), 30, "ten went ten seconds ago");
    next.later(50);
    next.work();
    assert_eq!(next.holders(), 23);
    // They are there after all.
    let mut next = bench.succeeded_by_another(BTreeMap::new());
    next.services = served(40).services;
    assert_eq!(reads(&next.work()), 30);
    assert_eq!((next.holders(), next.held()), (30, None));
}

/// An empty list of Allocations frees no address, also none that cools down or whose Service is in doubt: each is read.
#[tokio::test(start_paused = true)]
async fn an_empty_list_of_allocations_frees_no_address() {
    let mut bench = served(3);
    bench.delete("s000");
    bench.work();
    bench.services.remove("s001");
    bench.list_services();
    bench.work();
    let empty = |bench: &mut Bench| {
        for news in [Told::Listing, Told::Complete] {
            bench.desk.take(News::Allocation(news), bench.now);
        }
    };
    empty(&mut bench);
    bench.put("new", |_| {});
    let done = bench.work();
    assert_eq!(done.iter().filter(|word| word.starts_with("look")).count(), 3, "{done:?}");
    assert!(done.contains(&"tell new [198.51.100.3]".to_owned()), "{done:?}");
    assert!(!done.iter().any(|word| word.contains("conflict")), "nothing is written that is there already: {done:?}");
    // One that is gone is written again for who holds it; the cool-down of another is over.
    bench.allocations.clear();
    empty(&mut bench);
    let done = bench.work();
    assert!(done.contains(&"put 198.51.100.2".to_owned()), "{done:?}");
    assert_eq!(bench.allocations[&ip("198.51.100.2")].spec.holders[0].name, "s002");
}

/// A list that hides an object is no reason to write it over and over.
#[tokio::test(start_paused = true)]
async fn an_allocation_that_a_list_hides_is_tried_later_and_later() {
    let mut bench = served(2);
    for news in [Told::Listing, Told::Complete] {
        bench.desk.take(News::Allocation(news), bench.now);
    }
    let mut puts = 0;
    for _ in 0..60 {
        while let Some(errand) = bench.desk.next_errand() {
            let (key, outcome) = match &errand {
                Errand::Look { .. } => (errand.key(), Outcome::Found(None)),
                Errand::Put { version: None, .. } => (errand.key(), Outcome::Conflict),
                _ => panic!("{errand:?}"),
            };
            puts += usize::from(matches!(errand, Errand::Put { .. }));
            answer(&mut bench, key, outcome);
            assert!(puts < 100, "over and over");
        }
        bench.later(1);
    }
    assert!((8..=30).contains(&puts), "two addresses were tried {puts} times in a minute");
}

/// An empty list of Namespaces changes no answer of a pool that selects by their labels; one of Nodes frees none of their addresses.
#[tokio::test(start_paused = true)]
async fn empty_lists_of_namespaces_and_nodes_change_nobodys_pool() {
    let text = "asn: 64512\npools:\n\
                - {name: a, addresses: [198.51.100.0/28], namespaceSelector: {matchLabels: {tier: web}}}\n\
                - {name: b, addresses: [198.51.100.16/28]}\n";
    let allocation = config::Config::parse("t", text).unwrap_or_else(|found| panic!("{found}")).0.allocation;
    let mut bench = Bench::begun(Classless::Announce);
    bench.desk.configure(Rules { allocation, ..bench.desk.rules.clone() }, bench.now);
    let namespace = json!({"metadata": {"name": "web", "labels": {"tier": "web"}}});
    bench.desk.take(News::Namespace(Told::Applied(serde_json::from_value(namespace).unwrap())), bench.now);
    let node = json!({"metadata": {"name": "n1"}, "status": {"addresses": [{"type": "InternalIP", "address": "198.51.100.1"}]}});
    bench.desk.take(News::Node(Told::Applied(serde_json::from_value(node).unwrap())), bench.now);
    bench.put("first", |_| {});
    bench.work();
    for (of_namespaces, of_nodes) in [(Told::Listing, Told::Listing), (Told::Complete, Told::Complete)] {
        bench.desk.take(News::Namespace(of_namespaces), bench.now);
        bench.desk.take(News::Node(of_nodes), bench.now);
    }
    bench.put("second", |_| {});
    let done = bench.work();
    assert!(done.contains(&"tell second [198.51.100.2]".to_owned()), "{done:?}");
    assert!(bench.desk.figures().irregular.is_empty());
    // What is told is believed.
    let identity = Identity { name: "n1".to_owned(), ..Identity::default() };
    bench.desk.take(News::Node(Told::Deleted(identity)), bench.now);
    bench.put("third", |_| {});
    assert!(bench.work().contains(&"tell third [198.51.100.1]".to_owned()));
}
