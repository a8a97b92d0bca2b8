//! The folder of manifests on a real file system.

use crate::{accepted, until};
use herald::advertise::{ClusterView, Observation, ServiceKey};
use herald::k8s::{Source, WatchHealth, manifests};
use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;
use tempfile::TempDir;
use tokio::sync::watch::{Receiver, Sender};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

struct Door {
    dir: TempDir,
    view: Receiver<Option<Arc<Observation>>>,
    health: Receiver<WatchHealth>,
    stop: CancellationToken,
    task: JoinHandle<anyhow::Result<()>>,
}

impl Door {
    fn open(dir: TempDir) -> Self {
        let (view, health, stop) = (Sender::new(None), Sender::new(WatchHealth::default()), CancellationToken::new());
        let (views, healths) = (view.subscribe(), health.subscribe());
        let task = tokio::spawn(manifests::run(dir.path().to_owned(), (view, accepted()), health, stop.clone()));
        Self { dir, view: views, health: healths, stop, task }
    }

    fn write(&self, name: &str, text: &str) {
        fs::write(self.dir.path().join(name), text).unwrap();
    }

    async fn sees(&mut self, what: &str, mut wanted: impl FnMut(&ClusterView) -> bool) -> Arc<Observation> {
        let view = until(what, &mut self.view, |view| view.as_ref().is_some_and(|view| wanted(view))).await;
        view.clone().unwrap()
    }

    async fn complains(&mut self, what: &str, wanted: impl Fn(&[String]) -> bool) -> Vec<String> {
        let health = until(what, &mut self.health, |health| {
            health.sources.get(&Source::Manifests).is_some_and(|source| wanted(&source.problems))
        })
        .await;
        health.sources[&Source::Manifests].problems.clone()
    }
}

fn key(name: &str) -> ServiceKey {
    ServiceKey { namespace: "default".into(), name: name.into() }
}

fn service(name: &str, address: &str) -> String {
    format!(
        "apiVersion: v1\nkind: Service\nmetadata: {{name: {name}}}\nspec: {{type: LoadBalancer}}\n\
         status: {{loadBalancer: {{ingress: [{{ip: {address}}}]}}}}\n---\n"
    )
}

fn address(view: &ClusterView, name: &str) -> Option<String> {
    view.services.get(&key(name)).map(|service| service.ingress[0].ip.to_string())
}

#[tokio::test]
async fn the_example_folder_is_read() {
    let (view, health) = (Sender::new(None), Sender::new(WatchHealth::default()));
    let mut views = view.subscribe();
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("config/manifests-example");
    let stop = CancellationToken::new();
    let task = tokio::spawn(manifests::run(dir, (view, accepted()), health.clone(), stop.clone()));
    let view: Arc<Observation> = until("a view", &mut views, Option::is_some).await.clone().unwrap();
    assert_eq!(view.services.len(), 1);
    assert_eq!(view.nodes.keys().map(|name| name.to_string()).collect::<Vec<_>>(), ["n1", "n2", "n3"]);
    assert_eq!(view.endpoints.values().next().unwrap().len(), 3);
    until("synced", &mut health.subscribe(), WatchHealth::is_synced).await;
    assert_eq!(health.borrow().sources[&Source::Manifests].problems, Vec::<String>::new());
    stop.cancel();
    task.await.unwrap().unwrap();
}

#[tokio::test]
async fn changed_broken_mended_moved_removed() {
    let mut door = Door::open(TempDir::new().unwrap());
    door.sees("an empty folder is a view", |view| view.services.is_empty()).await;
    door.write("a.yaml", &(service("one", "198.51.100.1") + &service("two", "198.51.100.2")));
    door.sees("both services", |view| view.services.len() == 2).await;

    door.write("a.yaml", &(service("one", "198.51.100.9") + &service("two", "198.51.100.2")));
    let before = door.sees("the change", |view| address(view, "one").as_deref() == Some("198.51.100.9")).await;

    door.write("a.yaml", &format!("{}kind: [", service("one", "198.51.100.66")));
    let problems = door.complains("the file is broken", |problems| problems.len() == 1).await;
    assert!(problems[0].starts_with("a.yaml:"), "{problems:?}");
    assert!(Arc::ptr_eq(&before, door.view.borrow().as_ref().unwrap()), "a broken file must change nothing");

    door.write("a.yaml", &service("one", "198.51.100.10"));
    door.sees("mended, one service left", |v| {
        address(v, "one").as_deref() == Some("198.51.100.10") && address(v, "two").is_none()
    })
    .await;
    door.complains("no complaint left", |problems| problems.is_empty()).await;

    // Moved, again and again: in no view is the object missing.
    let names: Vec<_> = (0..6).map(|n| door.dir.path().join(format!("m{n}.yml"))).collect();
    fs::rename(door.dir.path().join("a.yaml"), &names[0]).unwrap();
    for (round, pair) in names.windows(2).enumerate() {
        fs::rename(&pair[0], &pair[1]).unwrap();
        let tick = format!("198.51.100.{}", 20 + round);
        door.write("tick.yaml", &service("tick", &tick));
        door.sees("the tick after the move", |view| {
            assert_eq!(address(view, "one").as_deref(), Some("198.51.100.10"), "missing after move {round}");
            address(view, "tick").as_deref() == Some(&*tick)
        })
        .await;
    }
    fs::remove_file(&names[5]).unwrap();
    door.sees("removed", |view| address(view, "one").is_none()).await;
    door.stop.cancel();
    door.task.await.unwrap().unwrap();
}

#[tokio::test]
async fn a_file_that_never_parsed_is_no_empty_wish() {
    let dir = TempDir::new().unwrap();
    fs::write(dir.path().join("good.yaml"), service("one", "198.51.100.1")).unwrap();
    fs::write(dir.path().join("bad.yaml"), "kind: [").unwrap();
    let mut door = Door::open(dir);
    door.complains("the file is broken", |problems| problems.len() == 1).await;
    assert!(door.view.borrow().is_none() && !door.health.borrow().is_synced(), "half a folder is no view");
    door.write("bad.yaml", &service("two", "198.51.100.2"));
    let first = until("a view", &mut door.view, Option::is_some).await.clone().unwrap();
    assert_eq!(first.services.len(), 2, "the first view is complete");
    door.stop.cancel();
    door.task.await.unwrap().unwrap();
}

#[tokio::test]
async fn one_object_in_two_files() {
    let dir = TempDir::new().unwrap();
    fs::write(
        dir.path().join("b.json"),
        r#"{"apiVersion":"v1","kind":"Service","metadata":{"name":"one"},
        "spec":{"type":"LoadBalancer"},"status":{"loadBalancer":{"ingress":[{"ip":"198.51.100.2"}]}}}"#,
    )
    .unwrap();
    let mut door = Door::open(dir);
    door.sees("b.json alone", |view| address(view, "one").as_deref() == Some("198.51.100.2")).await;
    door.write("a.yaml", &service("one", "198.51.100.1"));
    door.sees("the first by name wins", |view| address(view, "one").as_deref() == Some("198.51.100.1")).await;
    let problems = door.complains("both files are named", |problems| !problems.is_empty()).await;
    assert!(problems[0].contains("a.yaml") && problems[0].contains("b.json"), "{problems:?}");
    assert!(problems[0].contains("Service default/one"), "{problems:?}");
    fs::remove_file(door.dir.path().join("a.yaml")).unwrap();
    door.sees("the other takes over", |view| address(view, "one").as_deref() == Some("198.51.100.2")).await;
    door.complains("no complaint left", |problems| problems.is_empty()).await;
}

#[tokio::test]
async fn a_folder_that_is_not_there_is_an_error_that_names_it() {
    let (view, health) = (Sender::new(None), Sender::new(WatchHealth::default()));
    let error = manifests::run("/nonexistent/folder".into(), (view, accepted()), health, CancellationToken::new())
        .await
        .unwrap_err();
    assert!(format!("{error:#}").contains("/nonexistent/folder"), "{error:#}");
}

/// What a link in the folder leads to rings no bell; and one that hung on a folder that was moved is no bell of the new one.
#[tokio::test]
async fn a_change_that_rings_no_bell_is_seen_too() {
    let outer = TempDir::new().unwrap();
    let dir = TempDir::new_in(outer.path()).unwrap();
    let elsewhere = outer.path().join("elsewhere.yaml");
    fs::write(&elsewhere, service("one", "198.51.100.1")).unwrap();
    std::os::unix::fs::symlink(&elsewhere, dir.path().join("a.yaml")).unwrap();
    let mut door = Door::open(dir);
    door.sees("through the link", |view| address(view, "one").as_deref() == Some("198.51.100.1")).await;
    fs::write(&elsewhere, service("one", "198.51.100.2")).unwrap();
    door.sees("the change behind the link", |view| address(view, "one").as_deref() == Some("198.51.100.2")).await;

    let next = TempDir::new_in(outer.path()).unwrap();
    fs::write(next.path().join("a.yaml"), service("one", "198.51.100.3")).unwrap();
    fs::rename(door.dir.path(), outer.path().join("before")).unwrap();
    fs::rename(next.path(), door.dir.path()).unwrap();
    door.sees("the other folder", |view| address(view, "one").as_deref() == Some("198.51.100.3")).await;
    for last in ["198.51.100.4", "198.51.100.5"] {
        door.write("a.yaml", &service("one", last));
        door.sees("what is written there", |view| address(view, "one").as_deref() == Some(last)).await;
    }
    door.stop.cancel();
    door.task.await.unwrap().unwrap();
}

#[tokio::test]
async fn a_folder_that_goes_away_keeps_the_last_state() {
    let outer = TempDir::new().unwrap();
    let dir = TempDir::new_in(outer.path()).unwrap();
    fs::write(dir.path().join("a.yaml"), service("one", "198.51.100.1")).unwrap();
    let mut door = Door::open(dir);
    let before = door.sees("the service", |view| view.services.len() == 1).await;
    let aside = outer.path().join("aside");
    fs::rename(door.dir.path(), &aside).unwrap();
    until("the folder is missed", &mut door.health, |health| {
        matches!(health.sources[&Source::Manifests].contact, herald::k8s::Contact::Failing { .. })
    })
    .await;
    assert!(Arc::ptr_eq(&before, door.view.borrow().as_ref().unwrap()));
    fs::rename(&aside, door.dir.path()).unwrap();
    door.write("a.yaml", &service("one", "198.51.100.2"));
    door.sees("it is back", |view| address(view, "one").as_deref() == Some("198.51.100.2")).await;
}

/// A list of services as `kubectl get services -o json` prints it.
fn big_list(services: usize) -> String {
    let mut text = r#"{"apiVersion":"v1","items":["#.to_owned();
    for n in 0..services {
        let (high, low) = (n >> 8 & 255, n & 255);
        let comma = if n == 0 { "" } else { "," };
        write!(
            text,
            r#"{comma}{{"apiVersion":"v1","kind":"Service","metadata":{{"annotations":{{"a":"b"}},"creationTimestamp":"2026-01-01T00:00:00Z","labels":{{"app":"x"}},"name":"service-{n}","namespace":"ns-{}","resourceVersion":"1","uid":"0f0e0d0c-0000-4000-8000-000000000000"}},"spec":{{"clusterIP":"10.0.0.1","clusterIPs":["10.0.0.1"],"externalTrafficPolicy":"Cluster","internalTrafficPolicy":"Cluster","ipFamilies":["IPv4"],"ipFamilyPolicy":"SingleStack","ports":[{{"port":80,"protocol":"TCP","targetPort":8080}}],"selector":{{"app":"x"}},"sessionAffinity":"None","type":"LoadBalancer"}},"status":{{"loadBalancer":{{"ingress":[{{"ip":"10.{}.{high}.{low}","ipMode":"VIP"}}]}}}}}}"#,
            n % 50,
            n >> 16,
        )
        .unwrap();
    }
    text.push_str(r#"],"kind":"List","metadata":{"resourceVersion":""}}"#);
    text
}

async fn big_folder(services: usize) {
    let dir = TempDir::new().unwrap();
    let text = big_list(services);
    fs::write(dir.path().join("all.json"), &text).unwrap();
    let began = Instant::now();
    let contents = herald::k8s::documents::decode(text.as_bytes(), herald::k8s::documents::Format::Json).unwrap();
    let decoded = began.elapsed();
    assert_eq!(contents.documents.len(), services);
    drop(contents);
    let began = Instant::now();
    let mut door = Door::open(dir);
    door.sees("all services", |view| view.services.len() == services).await;
    let megabytes = text.len() / 1_000_000;
    println!("{services} services, {megabytes} MB: decoded in {decoded:?}; file to view {:?}", began.elapsed());
}

#[tokio::test]
async fn a_long_list() {
    big_folder(3_000).await;
}

/// Speed belongs to the benches; run in release with `--ignored --nocapture`.
#[tokio::test]
#[ignore = "a measurement, for release builds"]
async fn a_list_of_a_hundred_thousand() {
    tokio::time::timeout(std::time::Duration::from_secs(60), big_folder(100_000)).await.unwrap();
}
