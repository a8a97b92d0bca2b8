//! The watch against a server that misbehaves on request.

use crate::fake_api::{ALLOCATIONS, FakeApi, Gone, Mode, NODES, SERVICES, SLICES};
use crate::{accepted, until};
use herald::advertise::{ClusterView, Missing, Observation, ServiceKey, TrafficPolicy};
use herald::condition::{Conditions, Reason};
use herald::k8s::{Contact, Source, WatchHealth, watch};
use serde_json::{Value, json};
use std::sync::Arc;
use tokio::sync::watch::{Receiver, Sender};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

type View = Option<Arc<Observation>>;

/// A running watch and what it says.
pub struct Watch {
    pub view: Receiver<View>,
    pub health: Receiver<WatchHealth>,
    conditions: Receiver<Conditions>,
    stop: CancellationToken,
    task: JoinHandle<anyhow::Result<()>>,
}

impl Watch {
    pub fn start(client: kube::Client) -> Self {
        let (view, health, stop) = (Sender::new(None), Sender::new(WatchHealth::default()), CancellationToken::new());
        let said = Sender::new(Conditions::default());
        let (views, healths, conditions) = (view.subscribe(), health.subscribe(), said.subscribe());
        let task = tokio::spawn(watch::run(client, (view, accepted()), (health, said), stop.clone()));
        Self { view: views, health: healths, conditions, stop, task }
    }

    /// Waits for a view.
    pub async fn sees(&mut self, what: &str, mut wanted: impl FnMut(&ClusterView) -> bool) -> Arc<Observation> {
        let view = until(what, &mut self.view, |view| view.as_ref().is_some_and(|view| wanted(view))).await;
        view.clone().unwrap()
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.task.abort();
    }
}

pub fn key(name: &str) -> ServiceKey {
    ServiceKey { namespace: "default".into(), name: name.into() }
}

pub fn service(name: &str, address: &str) -> Value {
    json!({
        "metadata": {"name": name, "namespace": "default", "managedFields": [{"manager": "x", "fieldsV1": {"f:a": {}}}]},
        "spec": {"type": "LoadBalancer", "ports": [{"port": 80}], "externalTrafficPolicy": "Cluster"},
        "status": {"loadBalancer": {"ingress": [{"ip": address}]}},
    })
}

fn slice(name: &str, of: &str, nodes: &[&str]) -> Value {
    let endpoints: Vec<Value> =
        nodes.iter().map(|node| json!({"addresses": ["10.0.0.1"], "nodeName": node, "conditions": {}})).collect();
    json!({
        "metadata": {"name": name, "namespace": "default", "labels": {"kubernetes.io/service-name": of}},
        "addressType": "IPv4", "endpoints": endpoints,
    })
}

fn node(name: &str) -> Value {
    json!({"metadata": {"name": name, "labels": {"a": "b"}}, "status": {"addresses": [{"type": "InternalIP", "address": "172.30.0.1"}]}})
}

pub fn fill(api: &FakeApi) {
    api.put(SERVICES, service("web", "198.51.100.1"));
    api.put(SERVICES, service("still", "198.51.100.2"));
    api.put(SLICES, slice("web-1", "web", &["n1", "n2"]));
    api.put(NODES, node("n1"));
}

/// Started, filled and synced.
async fn synced() -> (FakeApi, Watch) {
    let (api, client) = FakeApi::start().await;
    fill(&api);
    let mut watch = Watch::start(client);
    watch.sees("the first view", |view| view.services.len() == 2).await;
    (api, watch)
}

#[tokio::test]
async fn nothing_is_published_before_every_kind_was_listed() {
    let (api, client) = FakeApi::start().await;
    fill(&api);
    api.hold(&[NODES]);
    let mut watch = Watch::start(client);
    let complete = |health: &WatchHealth, source| health.sources[&source].listing == herald::k8s::Listing::Complete;
    until("services and slices are listed", &mut watch.health, |health| {
        !health.sources.is_empty() && complete(health, Source::Services) && complete(health, Source::EndpointSlices)
    })
    .await;
    assert!(watch.view.borrow().is_none() && !watch.health.borrow().is_synced());
    api.hold(&[]);
    let view = watch.sees("a view", |_| true).await;
    assert_eq!((view.services.len(), view.endpoints.len(), view.nodes.len()), (2, 1, 1));
    until("synced", &mut watch.health, WatchHealth::is_synced).await;
    let requests = api.requests();
    assert!(requests.iter().any(|r| r.starts_with("services?") && r.contains("fieldSelector=spec.type=LoadBalancer")));
    assert!(requests.iter().any(|r| r.contains("labelSelector=!service.kubernetes.io/headless")));
    assert!(requests.iter().all(|r| r.contains("sendInitialEvents=true")), "{requests:?}");
}

#[tokio::test]
async fn changes_arrive_and_leave_the_rest_in_place() {
    let (api, mut watch) = synced().await;
    let before = watch.view.borrow().clone().unwrap();
    api.put(SLICES, slice("web-2", "web", &["n3"]));
    let view = watch.sees("a second slice", |view| view.endpoints[&key("web")].len() == 3).await;
    assert!(view.services.ptr_eq(&before.services));
    api.delete(SLICES, "web-1");
    watch.sees("one slice left", |view| view.endpoints[&key("web")].len() == 1).await;
    api.delete(SLICES, "web-2");
    watch.sees("no endpoints left", |view| view.endpoints.is_empty()).await;
    api.delete(SERVICES, "web");
    watch.sees("the service is gone", |view| !view.services.contains_key(&key("web"))).await;
}

#[tokio::test]
async fn a_burst_ends_in_its_last_state_and_is_taken_together() {
    let (api, mut watch) = synced().await;
    for n in 0..2000u16 {
        api.put(SLICES, slice("web-1", "web", &[if n % 2 == 0 { "n1" } else { "n2" }]));
        api.put(SERVICES, service("web", &format!("198.51.100.{}", n % 200)));
    }
    watch
        .sees("the last state", |view| {
            let ends = view.services[&key("web")].ingress[0].ip.to_string() == "198.51.100.199";
            let nodes: Vec<_> = view.endpoints[&key("web")].iter().filter_map(|e| e.node.as_deref()).collect();
            ends && nodes == ["n2"] && api.version() >= 4000
        })
        .await;
}

#[tokio::test]
async fn without_streaming_lists_it_lists_in_pages() {
    for code in [400, 422] {
        let (api, client) = FakeApi::start().await;
        api.set_mode(Mode::NoStreamingLists(code));
        fill(&api);
        for n in 0..250 {
            api.put(SERVICES, service(&format!("many-{n}"), "198.51.100.3"));
        }
        let mut watch = Watch::start(client);
        let view = watch.sees("the first view", |_| true).await;
        assert_eq!((view.services.len(), view.nodes.len()), (252, 1));
        let requests = api.requests();
        let pages: Vec<_> = requests.iter().filter(|r| r.starts_with("services?") && r.contains("limit=100")).collect();
        assert_eq!(pages.len(), 3, "{pages:?}");
        assert!(pages[1].contains("continue=100") && pages.iter().all(|r| r.contains("fieldSelector")));
        api.delete(SERVICES, "many-7");
        watch.sees("a change after the list", |view| view.services.len() == 251).await;
        let health = watch.health.borrow().clone();
        assert_eq!(health.sources[&Source::Services].failures, 0, "a refusal of streaming lists is no failure");
    }
}

/// A cut, and changes while nobody watched, after which the history is gone.
async fn expires(form: Gone) {
    let (api, mut watch) = synced().await;
    let before = watch.view.borrow().clone().unwrap();
    api.set_mode(Mode::Away(500));
    api.cut();
    until("every watch fails", &mut watch.health, |health| all(health, is_failing)).await;
    api.delete(SERVICES, "web");
    api.put(SERVICES, service("new", "198.51.100.4"));
    api.compact(form);
    let lists = api.requests().iter().filter(|r| r.contains("sendInitialEvents")).count();
    api.set_mode(Mode::Well);
    let view = watch
        .sees("what changed meanwhile", |v| {
            v.services.contains_key(&key("new")) && !v.services.contains_key(&key("web"))
        })
        .await;
    assert!(Arc::ptr_eq(&view.services[&key("still")], &before.services[&key("still")]));
    assert!(api.requests().iter().filter(|r| r.contains("sendInitialEvents")).count() > lists, "it must list again");
    // It is followed again.
    api.delete(SERVICES, "new");
    watch.sees("a change after that", |view| !view.services.contains_key(&key("new"))).await;
}

#[tokio::test]
async fn history_that_is_gone_is_listed_again_when_the_watch_says_so() {
    expires(Gone::InBand).await;
}

#[tokio::test]
async fn history_that_is_gone_is_listed_again_when_the_request_is_refused() {
    expires(Gone::Http).await;
}

#[tokio::test]
async fn a_cut_connection_resumes_where_it_was() {
    let (api, mut watch) = synced().await;
    for round in 0..3 {
        let cut_at = api.requests().len();
        api.cut();
        let name = format!("round-{round}");
        api.put(SERVICES, service(&name, "198.51.100.5"));
        watch.sees("the change around the cut", |view| view.services.contains_key(&key(&name))).await;
        let after = api.requests().split_off(cut_at);
        assert!(after.iter().any(|r| r.starts_with("services?")), "no new watch: the cut did not bite");
        assert!(after.iter().all(|r| !r.contains("sendInitialEvents")), "listed again: {after:?}");
    }
}

fn allocation(address: &str, holders: &Value) -> Value {
    json!({"apiVersion": "herald.bgp/v1alpha1", "kind": "Allocation", "metadata": {"name": address},
           "spec": {"address": "198.51.100.1", "pool": "edge", "holders": holders}})
}

/// Without an allocator there are no Allocations, nor is the kind known; it may be installed later.
#[tokio::test]
async fn a_cluster_without_an_allocator_is_complete_and_may_get_one() {
    let (api, client) = FakeApi::start().await;
    fill(&api);
    api.know_nothing_of(&[ALLOCATIONS]);
    let mut watch = Watch::start(client);
    watch.sees("a view without grants", |view| view.grants.is_empty()).await;
    until("synced", &mut watch.health, WatchHealth::is_synced).await;
    let ports = json!([{"protocol": "TCP", "port": 80}]);
    let holder = |name: &str, uid: &str| json!({"namespace": "default", "name": name, "uid": uid, "externalTrafficPolicy": "Cluster", "ports": ports});
    api.put(ALLOCATIONS, allocation("v4-198-51-100-1", &json!([holder("web", "u-1"), holder("still", "u-2")])));
    api.know_nothing_of(&[]);
    let address: std::net::IpAddr = "198.51.100.1".parse().unwrap();
    let view = watch.sees("what was given", |view| view.grants.contains_key(&address)).await;
    let held = [(key("web"), "u-1".into()), (key("still"), "u-2".into())].into();
    assert_eq!((&*view.grants[&address].pool, &view.grants[&address].holders), ("edge", &held));
    api.delete(ALLOCATIONS, "v4-198-51-100-1");
    watch.sees("that it was given back", |view| view.grants.is_empty()).await;
}

/// What was given must be known before the first plan: else a speaker that starts anew would take it back from its routers.
#[tokio::test]
async fn nothing_is_published_before_it_is_known_what_was_given() {
    let (api, client) = FakeApi::start().await;
    fill(&api);
    api.hold(&[ALLOCATIONS]);
    let mut watch = Watch::start(client);
    until("the others are listed", &mut watch.health, |health| {
        let pending = |source: &&Source| health.sources[*source].listing == herald::k8s::Listing::Pending;
        health.sources.keys().filter(pending).eq([&Source::Allocations])
    })
    .await;
    assert!(watch.view.borrow().is_none());
    api.hold(&[]);
    watch.sees("a view", |_| true).await;
}

/// An etcd that was put back to an older state: the versions that we have seen lie ahead of it, and a watch from there would be
/// silent until it gets there.
#[tokio::test]
async fn a_server_that_was_put_back_to_an_older_state_is_listed_again() {
    let (api, mut watch) = synced().await;
    let before = api.snapshot();
    for number in 0..20 {
        api.put(SERVICES, service(&format!("lost-{number}"), "198.51.100.77"));
    }
    watch.sees("what will be lost", |view| view.services.contains_key(&key("lost-19"))).await;
    api.put_back(before);
    watch.sees("what was put back", |view| !view.services.keys().any(|key| key.name.starts_with("lost"))).await;
    api.put(SERVICES, service("new", "198.51.100.78"));
    watch.sees("what came after", |view| view.services.contains_key(&key("new"))).await;
}

/// Objects of every kind that nobody can read, on the first list and later: each is named, and stops nothing.
#[tokio::test]
async fn objects_that_cannot_be_read_stop_nothing_and_are_named() {
    let (api, client) = FakeApi::start().await;
    fill(&api);
    let bad = |name: &str| json!({"metadata": {"name": name, "namespace": "default"}, "spec": [], "status": [], "endpoints": 3});
    let resources = [(SERVICES, "bad"), (SLICES, "bad"), (NODES, "bad"), (ALLOCATIONS, "v4-198-51-100-9")];
    resources.iter().for_each(|(resource, name)| api.put(resource, bad(name)));
    let mut watch = Watch::start(client);
    watch.sees("the others", |view| view.services.len() == 2 && view.nodes.len() == 1).await;
    let unreadable = |conditions: &Conditions| conditions.count(Reason::ObjectUnreadable);
    let said = until("each is named", &mut watch.conditions, |c| unreadable(c) == 4).await.lines();
    for subject in
        ["Service default/bad: ", "EndpointSlice default/bad: ", "Node bad: ", "Allocation v4-198-51-100-9: "]
    {
        assert!(said.iter().any(|line| line.starts_with(&format!("ObjectUnreadable {subject}"))), "{said:?}");
    }
    assert!(said.iter().any(|line| line.contains("endpoints: ")), "the field is named: {said:?}");
    // One that was read before stays as it was, across a list too; the others go on.
    let mut spoilt = service("web", "198.51.100.1");
    spoilt["spec"]["type"] = json!(7);
    api.put(SERVICES, spoilt);
    api.put(SERVICES, service("later", "198.51.100.8"));
    watch.sees("what came later", |view| view.services.len() == 3).await;
    until("it is named, too", &mut watch.conditions, |c| c.contains(Reason::ObjectUnreadable, "Service default/web"))
        .await;
    api.compact(Gone::InBand);
    api.put(SERVICES, service("last", "198.51.100.10"));
    api.compact(Gone::InBand);
    api.cut();
    let view = watch.sees("listed again", |view| view.services.len() == 4).await;
    assert_eq!(view.services[&key("web")].ingress[0].ip.to_string(), "198.51.100.1");
    // Deleted or mended, it heals.
    resources.iter().for_each(|(resource, name)| api.delete(resource, name));
    api.put(SERVICES, service("web", "198.51.100.11"));
    until("nothing is wrong any more", &mut watch.conditions, |c| *c == Conditions::default()).await;
    watch.sees("it counts again", |v| v.services[&key("web")].ingress[0].ip.to_string() == "198.51.100.11").await;
}

/// What the API server of today accepts as an Allocation, and jiff or a `u16` does not.
#[tokio::test]
async fn times_that_only_an_api_server_takes_are_read() {
    let (api, client) = FakeApi::start().await;
    fill(&api);
    for (number, at) in
        ["2026-01-01T00:00:00+99:00", "9999-12-31T23:59:59Z", "2026-01-01t00:00:00.1234567890123z"].iter().enumerate()
    {
        let address = format!("198.51.100.{number}");
        let spec =
            json!({"address": address, "pool": "edge", "released": {"at": at, "namespace": "web", "name": "shop"}});
        api.put(ALLOCATIONS, json!({"metadata": {"name": format!("v4-198-51-100-{number}")}, "spec": spec}));
    }
    let mut watch = Watch::start(client);
    watch.sees("a view", |view| view.grants.is_empty()).await;
    assert_eq!(watch.conditions.borrow().lines(), Vec::<String>::new());
}

#[tokio::test]
async fn a_line_without_end_is_given_up_at_its_limit() {
    let (api, mut watch) = synced().await;
    api.set_mode(Mode::EndlessLine);
    api.cut();
    let said = |contact: &Contact| matches!(contact, Contact::Failing { error, .. } if error.contains("16 MiB"));
    until("each watch says so", &mut watch.health, |health| all(health, said)).await;
    api.set_mode(Mode::Well);
    api.put(SERVICES, service("new", "198.51.100.4"));
    watch.sees("it goes on", |view| view.services.contains_key(&key("new"))).await;
    // Four watches, several attempts each; what the sockets hold comes on top.
    let attempts = api.requests().len();
    assert!(api.sent() < attempts * (20 << 20), "{} octets in {attempts} requests", api.sent());
}

/// A list that is newer and has less: what nobody deleted is told apart.
#[tokio::test]
async fn what_a_newer_list_lacks_is_missing_and_not_deleted() {
    let (api, mut watch) = synced().await;
    api.lose(&[SERVICES]);
    let seen = watch.sees("no services", |view| view.services.is_empty()).await;
    let Missing::Objects { kept, names, .. } = &seen.missing else { panic!("{seen:?}") };
    assert_eq!((kept.services.len(), names.len()), (2, 2), "{names:?}");
    fill(&api);
    let seen = watch.sees("they are back", |view| view.services.len() == 2).await;
    assert_eq!(seen.missing, Missing::Nothing);
}

/// One list that lies behind what was seen may come from a server that lags: it is read a second time.
#[tokio::test]
async fn a_list_of_a_lower_version_is_read_twice_before_it_is_believed() {
    let (api, mut watch) = synced().await;
    let full = api.snapshot();
    for number in 0..20 {
        api.put(SERVICES, service(&format!("lost-{number}"), "198.51.100.77"));
    }
    watch.sees("what will be lost", |view| view.services.len() == 22).await;
    let before = api.requests().len();
    api.put_back(full);
    watch.sees("what was put back", |view| view.services.len() == 2).await;
    let lists = api.requests().split_off(before);
    let lists =
        lists.iter().filter(|request| request.starts_with("services?") && request.contains("sendInitialEvents"));
    assert_eq!(lists.count(), 2);
}

fn all(health: &WatchHealth, state: fn(&Contact) -> bool) -> bool {
    !health.sources.is_empty() && health.sources.values().all(|source| state(&source.contact))
}

fn is_failing(contact: &Contact) -> bool {
    matches!(contact, Contact::Failing { .. })
}

#[tokio::test]
async fn the_last_state_stays_while_the_api_is_away() {
    let (api, mut watch) = synced().await;
    let before = watch.view.borrow().clone().unwrap();
    api.set_mode(Mode::Away(403));
    api.cut();
    let refused = |contact: &Contact| matches!(contact, Contact::Failing { error, .. } if error.contains("not today"));
    let health = until("every watch fails, and says why", &mut watch.health, |h| all(h, refused)).await.clone();
    assert!(health.is_synced(), "what was read is still there");
    until("several attempts failed", &mut watch.health, |health| health.sources[&Source::Nodes].failures >= 4).await;
    assert!(Arc::ptr_eq(&before, watch.view.borrow().as_ref().unwrap()));
    api.put(NODES, node("n2"));
    api.set_mode(Mode::Well);
    watch.sees("what changed meanwhile", |view| view.nodes.len() == 2).await;
    until("it answers again", &mut watch.health, |health| all(health, |contact| *contact == Contact::Answering)).await;
}

#[tokio::test]
async fn a_server_that_ends_every_watch_is_not_stormed() {
    let (api, mut watch) = synced().await;
    api.set_mode(Mode::ShortWatches);
    let (before, began) = (api.requests().len(), tokio::time::Instant::now());
    api.cut();
    until("five attempts failed", &mut watch.health, |h| h.sources[&Source::Nodes].failures >= 5).await;
    let requests = api.requests().len() - before;
    // Four kinds, five to seven attempts of two requests each; a loop without delay makes thousands.
    assert!(requests <= 60, "{requests} requests in {:?}", began.elapsed());
    api.set_mode(Mode::Well);
    api.put(NODES, node("n2"));
    watch.sees("it goes on", |view| view.nodes.len() == 2).await;
}

#[tokio::test]
async fn an_object_that_makes_no_sense_keeps_its_last_good_state() {
    let (api, mut watch) = synced().await;
    let mut bad = service("web", "198.51.100.77");
    bad["spec"]["externalTrafficPolicy"] = json!("Sideways");
    api.put(SERVICES, bad.clone());
    let problems = |health: &WatchHealth| health.sources.get(&Source::Services).map_or(0, |s| s.problems.len());
    let health = until("a complaint", &mut watch.health, |health| problems(health) == 1).await.clone();
    let complaint = &health.sources[&Source::Services].problems[0];
    assert!(complaint.contains("Service default/web") && complaint.contains("Sideways"), "{complaint}");
    let kept = watch.view.borrow().clone().unwrap();
    assert_eq!(kept.services[&key("web")].ingress[0].ip.to_string(), "198.51.100.1");
    assert_eq!(kept.services[&key("web")].traffic_policy, TrafficPolicy::Cluster);
    // Also across a list.
    api.compact(Gone::InBand);
    api.put(SERVICES, service("later", "198.51.100.8"));
    api.compact(Gone::InBand);
    api.cut();
    let view = watch.sees("listed again", |view| view.services.contains_key(&key("later"))).await;
    assert_eq!(view.services[&key("web")].ingress[0].ip.to_string(), "198.51.100.1");
    // A bad address is left out, the rest of the object counts.
    let mut half = service("web", "198.51.100.300");
    half["status"]["loadBalancer"]["ingress"].as_array_mut().unwrap().push(json!({"ip": "2001:db8::1"}));
    api.put(SERVICES, half);
    watch
        .sees("the good address", |v| {
            v.services[&key("web")].ingress.iter().map(|i| i.ip.to_string()).eq(["2001:db8::1"])
        })
        .await;
    api.put(SERVICES, service("web", "198.51.100.9"));
    watch.sees("mended", |v| v.services[&key("web")].ingress[0].ip.to_string() == "198.51.100.9").await;
    until("no complaint left", &mut watch.health, |health| problems(health) == 0).await;
}

#[tokio::test]
async fn it_stops_when_told_to() {
    let (_api, mut watch) = synced().await;
    watch.stop.cancel();
    let ended = tokio::time::timeout(std::time::Duration::from_secs(2), &mut watch.task).await;
    ended.expect("it did not stop").unwrap().unwrap();
}
