//! The desk with an API server of the mind: every write is answered as a test says.

mod missing;

use super::*;
use crate::condition::Conditions;
use crate::ipam::Pool;
use crate::k8s::allocation;
use crate::k8s::errand::{Errand, Outcome};
use crate::k8s::reply::{Identity, Unreadable};
use crate::k8s::request::{FINALIZER, Finalizer};
use crate::k8s::telling::Tone;
use serde_json::{Value, json};

const MANAGER: &str = crate::k8s::request::FIELD_MANAGER;

/// A desk, with what the API server has.
struct Bench {
    desk: Desk,
    now: Moment,
    version: u64,
    services: BTreeMap<String, Value>,
    allocations: BTreeMap<IpAddr, Allocation>,
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

impl Bench {
    /// Two addresses, a cool-down of a minute.
    fn new(classless: Classless) -> Self {
        Self::with_addresses(classless, ip("198.51.100.1"))
    }

    /// Those from 198.51.100.0 to `last`.
    fn with_addresses(classless: Classless, last: IpAddr) -> Self {
        let range = (ip("198.51.100.0"), last);
        let pool = Pool { cool_down: Duration::from_secs(60), ..Pool::new("edge", vec![range]) };
        let allocation = Arc::new(config::Allocation { pools: vec![pool], ..config::Allocation::default() });
        let now = Moment { civil: Timestamp::from_unix_millis(1_000_000), clock: Instant::now() };
        let desk = Desk::new(Rules { allocation, classless, cleanup: Cleanup::Free, guard: Limits::default() });
        Self { desk, now, version: 1, services: BTreeMap::new(), allocations: BTreeMap::new() }
    }

    fn list(&mut self) {
        self.list_with(&[]);
    }

    /// Lists everything, with these Allocations, which cannot be read.
    fn list_with(&mut self, bad: &[Unreadable]) {
        let forms: Vec<ServiceForm> = self.services.values().map(form).collect();
        let spoilt = |address: &IpAddr| bad.iter().any(|bad| bad.identity.name == allocation::name(*address));
        let objects = self.allocations.iter().filter(|(address, _)| !spoilt(address));
        let objects: Vec<Allocation> = objects.map(|(_, object)| object.clone()).collect();
        let now = self.now;
        for news in [Told::Listing].into_iter().chain(forms.into_iter().map(Told::Listed)).chain([Told::Complete]) {
            self.desk.take(News::Service(news), now);
        }
        for news in [Told::Listing]
            .into_iter()
            .chain(objects.into_iter().map(Told::Listed))
            .chain(bad.iter().cloned().map(Told::Unreadable))
            .chain([Told::Complete])
        {
            self.desk.take(News::Allocation(news), now);
        }
        self.desk.take(News::Node(Told::Listing), now);
        self.desk.take(News::Node(Told::Complete), now);
        self.desk.take(News::Namespace(Told::Listing), now);
        self.desk.take(News::Namespace(Told::Complete), now);
    }

    fn begun(classless: Classless) -> Self {
        let mut bench = Self::new(classless);
        bench.list();
        bench
    }

    /// Creates or changes a Service; the watch tells.
    fn put(&mut self, name: &str, change: impl FnOnce(&mut Value)) {
        self.version += 1;
        let fresh = json!({
            "metadata": {"name": name, "namespace": "web", "uid": name, "creationTimestamp": "1970-01-01T00:00:01Z"},
            "spec": {"type": "LoadBalancer", "ipFamilies": ["IPv4"], "ports": [{"port": 80}]}, "status": {},
        });
        let object = self.services.entry(name.to_owned()).or_insert(fresh);
        change(object);
        object["metadata"]["resourceVersion"] = self.version.to_string().into();
        let told = form(object);
        self.desk.take(News::Service(Told::Applied(told)), self.now);
    }

    fn delete(&mut self, name: &str) {
        let object = self.services.remove(name).unwrap();
        let identity = Identity { uid: object["metadata"]["uid"].as_str().unwrap().to_owned(), ..Identity::default() };
        self.desk.take(News::Service(Told::Deleted(identity)), self.now);
    }

    /// What somebody writes into a Service's status.
    fn show(&mut self, name: &str, address: &str, manager: &str) {
        let fields = json!([{"manager": manager, "fieldsV1": {"f:status": {"f:loadBalancer": {"f:ingress": {}}}}}]);
        self.put(name, |object| {
            object["status"] = json!({"loadBalancer": {"ingress": [{"ip": address}]}});
            object["metadata"]["managedFields"] = fields;
        });
    }

    /// Runs errands until there are none, as an API server would; returns what they were.
    fn work(&mut self) -> Vec<String> {
        let mut done = Vec::new();
        while let Some(errand) = self.desk.next_errand() {
            let key = errand.key();
            let (word, outcome) = self.serve(errand);
            done.push(word);
            self.desk.done(key, outcome, self.now);
        }
        done
    }

    fn serve(&mut self, errand: Errand) -> (String, Outcome) {
        self.version += 1;
        let version = self.version.to_string();
        match errand {
            Errand::Put { record, until, version: expected } => {
                let there =
                    self.allocations.get(&record.address).and_then(|object| object.metadata.resource_version.clone());
                let word = format!("put {}", record.address);
                if there != expected {
                    return (format!("{word}: conflict"), Outcome::Conflict);
                }
                let object = allocation::object(&record, until, Some(&version));
                self.allocations.insert(record.address, object.clone());
                (word, Outcome::Allocation(Box::new(object)))
            }
            Errand::Delete { address, version } => {
                self.allocations.remove(&address);
                (format!("delete {address}"), Outcome::NoAllocation(version))
            }
            Errand::Look { address } => {
                (format!("look {address}"), Outcome::Found(self.allocations.get(&address).cloned().map(Box::new)))
            }
            Errand::Tell { service, version: read, shown, telling, .. } => {
                let word = format!("tell {} {:?}", service.name, telling.ingress.clone().unwrap_or_default());
                let Some(object) = self.services.get_mut(&*service.name) else {
                    return (format!("{word}: gone"), Outcome::Conflict);
                };
                if object["metadata"]["resourceVersion"] != read {
                    return (format!("{word}: conflict"), Outcome::Conflict);
                }
                object["metadata"]["resourceVersion"] = version.into();
                if let Some(ingress) = telling.ingress {
                    let entries: Vec<Value> = ingress.iter().map(|ip| json!({"ip": ip.to_string()})).collect();
                    object["status"]["loadBalancer"]["ingress"] = entries.into();
                    object["metadata"]["managedFields"] =
                        json!([{"manager": MANAGER, "fieldsV1": {"f:status": {"f:loadBalancer": {"f:ingress": {}}}}}]);
                }
                if let Some(condition) = telling.condition {
                    object["status"]["conditions"] = json!([{"type": crate::k8s::request::CONDITION, "status": condition.status,
                        "reason": condition.reason, "message": condition.message}]);
                }
                match telling.finalizer {
                    Some(Finalizer::Present) => object["metadata"]["finalizers"] = json!([FINALIZER]),
                    Some(Finalizer::Absent) => object["metadata"]["finalizers"] = json!([]),
                    None => {}
                }
                if let Some(given_from) = telling.given_from {
                    object["metadata"]["annotations"] =
                        json!({crate::k8s::request::GIVEN_FROM: given_from.unwrap_or_default()});
                }
                (word, Outcome::Service { now: Box::new(form(object)), before: shown })
            }
            Errand::Read { service, .. } => {
                let found = self.services.get(&*service.name).map(|object| Box::new(form(object)));
                (format!("read {}", service.name), Outcome::Read(found))
            }
            Errand::Tidy { service, .. } => (format!("tidy {}", service.name), Outcome::Nothing),
        }
    }

    /// A list of these Services and no others, as the API server has them.
    fn list_services(&mut self) {
        let forms: Vec<ServiceForm> = self.services.values().map(form).collect();
        self.list_of(forms);
    }

    fn list_of(&mut self, forms: Vec<ServiceForm>) {
        for news in [Told::Listing].into_iter().chain(forms.into_iter().map(Told::Listed)).chain([Told::Complete]) {
            self.desk.take(News::Service(news), self.now);
        }
    }

    /// What is said of addresses that stay held.
    fn held(&self) -> Option<String> {
        let mut conditions = Conditions::default();
        self.desk.tell(&mut conditions, "/run/a.sock");
        conditions.lines().pop()
    }

    /// An operator confirms what is held, by the number that is said.
    fn confirm(&mut self) {
        let words = self.held().unwrap();
        let number = words.split("herald confirm ").nth(1).unwrap()[..16].to_owned();
        self.desk.consent(&number, self.now);
    }

    fn notices(&mut self) -> Vec<(Tone, &'static str, String)> {
        std::iter::from_fn(|| self.desk.next_notice()).map(|notice| (notice.tone, notice.reason, notice.note)).collect()
    }

    fn later(&mut self, seconds: u64) {
        let pause = Duration::from_secs(seconds);
        self.now = Moment { civil: self.now.civil.after(pause), clock: self.now.clock + pause };
        self.desk.tick(self.now);
    }
}

fn form(object: &Value) -> ServiceForm {
    serde_json::from_value(object.clone()).unwrap()
}

#[tokio::test(start_paused = true)]
async fn the_allocation_is_written_before_the_status_and_an_event_follows() {
    let mut bench = Bench::begun(Classless::Announce);
    bench.put("a", |_| {});
    assert_eq!(bench.work(), ["put 198.51.100.0", "tell a [198.51.100.0]"]);
    assert_eq!(bench.notices(), [(Tone::Normal, "AddressAllocated", "198.51.100.0 from pool edge".to_owned())]);
    // Told again by the watch: nothing to do.
    bench.put("a", |_| {});
    assert!(bench.work().is_empty());
}

#[tokio::test(start_paused = true)]
async fn nothing_is_given_before_everything_was_listed_and_what_is_shown_is_adopted_first() {
    let mut bench = Bench::new(Classless::Announce);
    bench.put("new", |_| {});
    bench.show("old", "198.51.100.0", "somebody");
    assert!(bench.work().is_empty());
    bench.list();
    let done = bench.work();
    assert!(
        done.contains(&"put 198.51.100.0".to_owned()) && done.contains(&"tell new [198.51.100.1]".to_owned()),
        "{done:?}"
    );
    assert!(!done.iter().any(|word| word.starts_with("tell old [1")), "{done:?}");
}

#[tokio::test(start_paused = true)]
async fn a_full_pool_refuses_once_and_serves_after_the_cool_down() {
    let mut bench = Bench::begun(Classless::Announce);
    ["a", "b", "c"].into_iter().for_each(|name| bench.put(name, |_| {}));
    bench.work();
    let refused = (Tone::Warning, "PoolFull", "pool edge is full: 2 of 2 used".to_owned());
    assert_eq!(
        bench.notices().into_iter().filter(|(tone, _, _)| *tone == Tone::Warning).collect::<Vec<_>>(),
        [refused]
    );
    bench.delete("a");
    let done = bench.work();
    assert!(
        done.contains(&"put 198.51.100.0".to_owned()) && !done.iter().any(|word| word.contains("tell c [1")),
        "{done:?}"
    );
    assert!(bench.notices().is_empty());
    bench.later(61);
    assert!(bench.work().contains(&"tell c [198.51.100.0]".to_owned()));
}

#[tokio::test(start_paused = true)]
async fn services_of_others_are_never_written() {
    let mut bench = Bench::begun(Classless::Announce);
    bench.put("other", |object| object["spec"]["loadBalancerClass"] = "example.com/x".into());
    bench.show("cloud", "10.9.9.9", "cloud");
    assert!(bench.work().is_empty());
    let mut bench = Bench::begun(Classless::Ignore);
    bench.put("plain", |_| {});
    assert!(bench.work().is_empty());
    bench.put("ours", |object| object["spec"]["loadBalancerClass"] = "herald.bgp/speaker".into());
    assert_eq!(bench.work().len(), 2);
}

#[tokio::test(start_paused = true)]
async fn who_is_overruled_by_another_controller_yields() {
    let mut bench = Bench::begun(Classless::Announce);
    bench.put("a", |_| {});
    bench.work();
    bench.show("a", "10.9.9.9", "k3s");
    let done = bench.work();
    assert_eq!(done, ["put 198.51.100.0"], "the address rests, and the Service is not written");
    bench.show("b", "198.51.100.1", "kubectl");
    assert_eq!(bench.work()[0], "put 198.51.100.1", "an address of ours that was written by hand is adopted");
}

#[tokio::test(start_paused = true)]
async fn old_news_about_a_service_is_no_news() {
    let mut bench = Bench::begun(Classless::Announce);
    bench.put("a", |_| {});
    let old = form(&bench.services["a"]);
    bench.work();
    // The watch tells of the state before our write, after its answer.
    bench.desk.take(News::Service(Told::Applied(old)), bench.now);
    assert!(bench.work().is_empty());
}

#[tokio::test(start_paused = true)]
async fn an_address_that_another_leader_gave_is_his_to_give() {
    let mut bench = Bench::begun(Classless::Announce);
    bench.put("a", |_| {});
    bench.put("b", |_| {});
    // Another leader gave the lowest address to b, and our watch is behind.
    let errand = bench.desk.next_errand().unwrap();
    let Errand::Put { record, .. } = &errand else { panic!("{errand:?}") };
    assert_eq!(record.address, ip("198.51.100.0"));
    let mut theirs = allocation::object(record, None, Some("900"));
    theirs.spec.holders[0].name = "b".to_owned();
    theirs.spec.holders[0].uid = "b".to_owned();
    bench.allocations.insert(record.address, theirs);
    let (key, (word, outcome)) = (errand.key(), bench.serve(errand));
    assert_eq!(word, "put 198.51.100.0: conflict");
    bench.desk.done(key, outcome, bench.now);
    let mut done = bench.work();
    for _ in 0..5 {
        bench.later(1);
        done.extend(bench.work());
    }
    assert!(done.contains(&"look 198.51.100.0".to_owned()), "{done:?}");
    assert!(done.contains(&"tell b [198.51.100.0]".to_owned()), "{done:?}");
    assert!(!done.contains(&"tell a [198.51.100.0]".to_owned()), "{done:?}");
}

#[tokio::test(start_paused = true)]
async fn a_write_without_an_answer_is_looked_after() {
    let mut bench = Bench::begun(Classless::Announce);
    bench.put("a", |_| {});
    let errand = bench.desk.next_errand().unwrap();
    let key = errand.key();
    // It got through, and nobody said so.
    bench.serve(errand);
    bench.desk.done(key, Outcome::Failed("no answer".to_owned()), bench.now);
    assert!(bench.work().is_empty());
    bench.later(1);
    assert_eq!(bench.work(), ["look 198.51.100.0", "tell a [198.51.100.0]"]);
}

#[tokio::test(start_paused = true)]
async fn a_list_sweeps_holders_who_are_gone() {
    let mut bench = Bench::begun(Classless::Announce);
    bench.put("a", |_| {});
    bench.put("b", |_| {});
    bench.work();
    bench.services.remove("a");
    let mut next = Bench::new(Classless::Announce);
    next.allocations = bench.allocations.clone();
    next.services = bench.services.clone();
    next.version = bench.version;
    next.list();
    assert_eq!(next.work(), ["read a", "put 198.51.100.0"]);
    assert!(next.allocations[&ip("198.51.100.0")].spec.released.is_some());
    next.later(61);
    assert_eq!(next.work(), ["delete 198.51.100.0"]);
}

#[tokio::test(start_paused = true)]
async fn what_cannot_be_read_keeps_what_it_had() {
    let mut bench = Bench::begun(Classless::Announce);
    bench.put("a", |_| {});
    bench.work();
    bench.notices();
    for _ in 0..2 {
        bench.put("a", |object| object["metadata"]["annotations"]["herald.bgp/addresses"] = "nowhere".into());
        assert!(bench.work().iter().all(|word| !word.contains("[]: ") && !word.starts_with("put")));
    }
    let notices = bench.notices();
    assert_eq!(notices.len(), 1, "{notices:?}");
    assert!(notices[0].1 == "InvalidRequest" && notices[0].2.contains("nowhere"));
}

#[tokio::test(start_paused = true)]
async fn a_status_that_is_emptied_again_and_again_is_written_more_and_more_rarely() {
    let mut bench = Bench::begun(Classless::Announce);
    bench.put("a", |_| {});
    bench.work();
    let mut written = 0;
    for _ in 0..60 {
        bench.put("a", |object| {
            object["status"] = json!({});
            object["metadata"]["managedFields"] = json!([]);
        });
        written += bench.work().iter().filter(|word| word.starts_with("tell")).count();
        bench.later(1);
        written += bench.work().iter().filter(|word| word.starts_with("tell")).count();
    }
    assert!((2..10).contains(&written), "written {written} times in a minute");
    assert!(bench.notices().iter().any(|(_, reason, _)| *reason == "StatusContested"));
}

/// Takes the next errand, which is this one, and leaves it on its way.
fn send(bench: &mut Bench, expected: &str) -> Errand {
    let errand = bench.desk.next_errand().unwrap();
    let word = match &errand {
        Errand::Put { record, .. } => format!("put {}", record.address),
        Errand::Delete { address, .. } => format!("delete {address}"),
        Errand::Look { address } => format!("look {address}"),
        Errand::Tell { service, .. } => format!("tell {}", service.name),
        Errand::Read { service, .. } => format!("read {}", service.name),
        Errand::Tidy { service, .. } => format!("tidy {}", service.name),
    };
    assert_eq!(word, expected);
    errand
}

fn answer(bench: &mut Bench, key: Key, outcome: Outcome) {
    bench.desk.done(key, outcome, bench.now);
}

/// A Service that has its `Allocation`, and the write of its status on its way.
fn with_a_letter(classless: Classless) -> (Bench, Errand) {
    let mut bench = Bench::begun(classless);
    bench.put("a", |_| {});
    let errand = send(&mut bench, "put 198.51.100.0");
    let (key, (_, outcome)) = (errand.key(), bench.serve(errand));
    answer(&mut bench, key, outcome);
    let errand = send(&mut bench, "tell a");
    (bench, errand)
}

#[tokio::test(start_paused = true)]
async fn a_status_of_which_nobody_knows_is_read_and_sent_again_only_where_it_did_not_arrive() {
    let (mut bench, letter) = with_a_letter(Classless::Announce);
    answer(&mut bench, letter.key(), Outcome::Failed("no answer".to_owned()));
    bench.later(1);
    assert_eq!(bench.work(), ["read a", "tell a [198.51.100.0]"]);
    let (mut bench, letter) = with_a_letter(Classless::Announce);
    let key = letter.key();
    bench.serve(letter);
    answer(&mut bench, key, Outcome::Failed("no answer".to_owned()));
    bench.later(1);
    assert_eq!(bench.work(), ["read a"]);
}

#[tokio::test(start_paused = true)]
async fn a_service_that_somebody_wrote_in_between_is_read_and_told_at_once() {
    let (mut bench, letter) = with_a_letter(Classless::Announce);
    // The watch has not told of it yet.
    bench.version += 1;
    bench.services.get_mut("a").unwrap()["metadata"]["resourceVersion"] = bench.version.to_string().into();
    let (key, (_, outcome)) = (letter.key(), bench.serve(letter));
    assert!(matches!(outcome, Outcome::Conflict));
    answer(&mut bench, key, outcome);
    assert_eq!(bench.work(), ["read a", "tell a [198.51.100.0]"]);
    let (mut bench, letter) = with_a_letter(Classless::Announce);
    bench.services.clear();
    let (key, (_, outcome)) = (letter.key(), bench.serve(letter));
    answer(&mut bench, key, outcome);
    assert_eq!(bench.work(), ["read a"]);
    bench.desk.take(News::Service(Told::Deleted(Identity { uid: "a".to_owned(), ..Identity::default() })), bench.now);
    assert_eq!(bench.work(), ["put 198.51.100.0"], "gone, and its address rests");
}

#[tokio::test(start_paused = true)]
async fn while_a_status_may_still_arrive_its_address_is_nobody_elses() {
    let (mut bench, letter) = with_a_letter(Classless::Announce);
    // Services without a class are left to others from now on: nothing of that changes the Service itself.
    let rules = Rules { classless: Classless::Ignore, ..bench.desk.rules.clone() };
    bench.desk.configure(rules, bench.now);
    answer(&mut bench, letter.key(), Outcome::Failed("no answer".to_owned()));
    bench.later(1);
    let read = send(&mut bench, "read a");
    let (key, (_, outcome)) = (read.key(), bench.serve(read));
    answer(&mut bench, key, outcome);
    // It has not arrived; it is sent again until it has an answer.
    assert_eq!(bench.allocations[&ip("198.51.100.0")].spec.holders[0].name, "a");
    assert_eq!(bench.work(), ["tell a [198.51.100.0]", "put 198.51.100.0"]);
    let tenure = &bench.allocations[&ip("198.51.100.0")].spec;
    assert!(tenure.released.is_some(), "left to others, and shown by one who is none of ours: {tenure:?}");
    bench.put("b", |object| object["spec"]["loadBalancerClass"] = "herald.bgp/speaker".into());
    assert!(bench.work().contains(&"tell b [198.51.100.1]".to_owned()), "the other one's is not given");
}

#[tokio::test(start_paused = true)]
async fn what_the_server_refuses_is_tried_again_later_and_later() {
    let (mut bench, letter) = with_a_letter(Classless::Announce);
    answer(&mut bench, letter.key(), Outcome::Refused("a policy says no".to_owned()));
    assert!(bench.work().is_empty());
    let mut tries = 0;
    for _ in 0..60 {
        bench.later(1);
        while let Some(errand) = bench.desk.next_errand() {
            assert!(matches!(errand, Errand::Tell { .. }), "{errand:?}");
            tries += 1;
            let key = errand.key();
            answer(&mut bench, key, Outcome::Refused("a policy says no".to_owned()));
        }
    }
    assert!((4..10).contains(&tries), "{tries} tries in a minute");
    // Another request is another matter.
    bench.later(60);
    assert_eq!(bench.work(), ["tell a [198.51.100.0]"]);
}

/// The watch of Services is behind the one of Allocations.
#[tokio::test(start_paused = true)]
async fn a_holder_of_whom_the_watch_knows_nothing_is_read_before_anything_is_swept() {
    for lives in [true, false] {
        let (mut before, letter) = with_a_letter(Classless::Announce);
        before.serve(letter);
        let theirs = before.allocations[&ip("198.51.100.0")].clone();
        let mut bench = Bench::begun(Classless::Announce);
        bench.version = 100;
        bench.allocations = before.allocations.clone();
        if lives {
            bench.services = before.services.clone();
        }
        bench.desk.take(News::Allocation(Told::Applied(theirs)), bench.now);
        let done = bench.work();
        if !lives {
            bench.confirm();
            bench.work();
        }
        let released = bench.allocations[&ip("198.51.100.0")].spec.released.is_some();
        assert_eq!((done[0].as_str(), released), ("read a", !lives), "{done:?}");
        bench.put("b", |_| {});
        assert!(bench.work().contains(&"tell b [198.51.100.1]".to_owned()));
    }
}

#[tokio::test(start_paused = true)]
async fn a_service_that_was_put_back_to_an_older_state_is_believed() {
    let mut bench = Bench::begun(Classless::Announce);
    bench.version = 5_000;
    bench.put("a", |_| {});
    let errand = send(&mut bench, "put 198.51.100.0");
    let (key, (_, outcome)) = (errand.key(), bench.serve(errand));
    answer(&mut bench, key, outcome);
    bench.services.get_mut("a").unwrap()["metadata"]["resourceVersion"] = "400".into();
    bench.version = 400;
    assert_eq!(bench.work(), ["tell a [198.51.100.0]: conflict", "read a", "tell a [198.51.100.0]"]);
}

#[tokio::test(start_paused = true)]
async fn a_finalizer_comes_with_the_address_where_that_is_wished_and_goes_before_the_service() {
    let finalizers = |bench: &Bench| bench.services["a"]["metadata"]["finalizers"].clone();
    let mut bench = Bench::begun(Classless::Announce);
    bench.put("a", |_| {});
    bench.work();
    assert_eq!(finalizers(&bench), Value::Null, "off by default");
    bench.desk.configure(Rules { cleanup: Cleanup::ByFinalizer, ..bench.desk.rules.clone() }, bench.now);
    bench.work();
    assert_eq!(finalizers(&bench), json!([FINALIZER]));
    // Also one that was given while the option was on goes when it is off.
    bench.desk.configure(Rules { cleanup: Cleanup::Free, ..bench.desk.rules.clone() }, bench.now);
    assert!(bench.work().is_empty());
    bench.put("a", |object| object["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z".into());
    bench.work();
    assert_eq!(finalizers(&bench), json!([]));
    bench.put("a", |_| {});
    assert!(bench.work().is_empty());
    // A full pool gives no address, and so no finalizer.
    let mut bench = Bench::begun(Classless::Announce);
    bench.desk.configure(Rules { cleanup: Cleanup::ByFinalizer, ..bench.desk.rules.clone() }, bench.now);
    ["b", "c", "a"].into_iter().for_each(|name| bench.put(name, |_| {}));
    bench.work();
    let with = bench.services.values().filter(|object| object["metadata"]["finalizers"] == json!([FINALIZER]));
    assert_eq!(with.count(), 2);
}

#[tokio::test(start_paused = true)]
async fn pools_that_overlap_the_cluster_are_doubted_and_a_nodes_address_is_never_given() {
    let mut bench = Bench::begun(Classless::Announce);
    assert!(bench.desk.figures().doubts.is_empty());
    let node = |value: Value| News::Node(Told::Applied(serde_json::from_value(value).unwrap()));
    let n1 = json!({"metadata": {"name": "n1"}, "spec": {"podCIDRs": ["198.51.100.0/24", "10.0.0.0/24"]},
                    "status": {"addresses": [{"type": "InternalIP", "address": "198.51.100.0"}]}});
    bench.desk.take(node(n1), bench.now);
    let cidr = json!({"metadata": {"name": "kubernetes"}, "spec": {"cidrs": ["198.51.0.0/16", "fd00::/112"]}});
    let cidr = News::ServiceCidr(Told::Applied(serde_json::from_value(cidr).unwrap()));
    bench.desk.take(cidr, bench.now);
    let doubts = bench.desk.figures().doubts;
    let expected = ["holds 198.51.100.0, which node n1 has", "where the pods of node n1 are", "ServiceCIDR kubernetes"];
    assert_eq!(doubts.len(), 3, "{doubts:?}");
    assert!(doubts.iter().zip(expected).all(|(doubt, words)| doubt.contains(words)), "{doubts:?}");
    ["a", "b"].into_iter().for_each(|name| bench.put(name, |_| {}));
    let done = bench.work();
    assert!(done.contains(&"tell a [198.51.100.1]".to_owned()), "{done:?}");
    assert!(!done.iter().any(|word| word.contains("[198.51.100.0]")), "{done:?}");
    let elsewhere = json!({"metadata": {"name": "n1"}, "status": {"addresses": []}});
    bench.desk.take(node(elsewhere), bench.now);
    assert_eq!(bench.desk.figures().doubts.len(), 1);
}

/// One edit widens the pool and names a router inside it; a Service that waits must not be quicker than the router.
#[tokio::test(start_paused = true)]
async fn a_router_that_is_named_in_the_edit_that_widens_the_pool_keeps_its_address() {
    let mut bench = Bench::begun(Classless::Announce);
    ["a", "b", "c"].into_iter().for_each(|name| bench.put(name, |_| {}));
    bench.work();
    let text = "asn: 64512\npools: [{name: edge, addresses: [198.51.100.0/30]}]\n\
                peers: [{name: tor, address: 198.51.100.2, asn: 64500}]\n";
    let allocation = config::Config::parse("t", text).unwrap_or_else(|found| panic!("{found}")).0.allocation;
    bench.desk.configure(Rules { allocation, ..bench.desk.rules.clone() }, bench.now);
    let done = bench.work();
    assert!(done.contains(&"put 198.51.100.3".to_owned()), "{done:?}");
    assert!(!done.iter().any(|word| word.contains("198.51.100.2")), "{done:?}");
}

fn unreadable(name: &str, uid: &str) -> Unreadable {
    let identity =
        Identity { name: name.to_owned(), uid: uid.to_owned(), version: "7".to_owned(), ..Identity::default() };
    Unreadable { identity, why: "spec.released.at: no time".to_owned() }
}

/// An Allocation that was never read: its address is not given, and nothing is written there, until it is deleted.
#[test]
fn an_allocation_that_cannot_be_read_holds_its_address_and_stops_nothing() {
    let mut bench = Bench::new(Classless::Announce);
    bench.list_with(&[unreadable("v4-198-51-100-0", "x")]);
    bench.put("a", |_| {});
    bench.put("b", |_| {});
    assert!(bench.work().contains(&"put 198.51.100.1".to_owned()));
    assert_eq!(bench.allocations.keys().map(ToString::to_string).collect::<Vec<_>>(), ["198.51.100.1"]);
    let identity = unreadable("v4-198-51-100-0", "x").identity;
    bench.desk.take(News::Allocation(Told::Deleted(identity)), bench.now);
    assert!(bench.work().contains(&"put 198.51.100.0".to_owned()), "it heals when the object is deleted");
}

/// A Service that shows the address keeps it; what was read before stays, also across a list; and a mended object counts.
#[test]
fn an_allocation_that_is_spoilt_later_stays_as_it_was_read() {
    let mut bench = Bench::begun(Classless::Announce);
    bench.put("a", |_| {});
    bench.work();
    let object = bench.allocations[&ip("198.51.100.0")].clone();
    bench.desk.take(News::Allocation(Told::Unreadable(unreadable("v4-198-51-100-0", "x"))), bench.now);
    bench.list_with(&[unreadable("v4-198-51-100-0", "x")]);
    assert_eq!(bench.work(), Vec::<String>::new());
    bench.delete("a");
    assert!(!bench.work().iter().any(|done| done.contains("198.51.100.0")), "nothing is written over it");
    let mut mended = object;
    bench.version += 1;
    mended.metadata.resource_version = Some(bench.version.to_string());
    bench.allocations.insert(ip("198.51.100.0"), mended.clone());
    bench.desk.take(News::Allocation(Told::Applied(mended)), bench.now);
    assert!(bench.work().contains(&"put 198.51.100.0".to_owned()), "now it is released");
    assert!(bench.allocations[&ip("198.51.100.0")].spec.released.is_some());
}

#[test]
fn a_service_that_cannot_be_read_on_a_list_is_not_gone() {
    let mut bench = Bench::begun(Classless::Announce);
    bench.put("a", |_| {});
    bench.work();
    for news in [Told::Listing, Told::Unreadable(unreadable("a", "a")), Told::Complete] {
        bench.desk.take(News::Service(news), bench.now);
    }
    assert_eq!(bench.work(), Vec::<String>::new());
    bench.services.clear();
    bench.list_services();
    assert_eq!(bench.work(), ["read a"], "one that is not there is asked for");
}
