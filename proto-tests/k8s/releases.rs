//! An allocator as a process, and an API server whose lists of Services are empty.

use crate::fake_api::{ALLOCATIONS, FakeApi, SERVICES};
use serde_json::{Value, json};
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// The process, its folder and its server. Dropping it kills the process.
pub struct Fixture {
    pub api: FakeApi,
    pub folder: TempDir,
    pub child: Child,
    pub port: u16,
}

impl Drop for Fixture {
    fn drop(&mut self) {
        let _gone = self.child.kill();
        let _ended = self.child.wait();
    }
}

pub fn herald() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_herald"));
    command.env_remove("HERALD_LOG").stdin(Stdio::null());
    command
}

pub fn service(name: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Service",
        "metadata": {"name": name, "namespace": "web", "uid": name, "creationTimestamp": "2026-01-01T00:00:00Z"},
        "spec": {"type": "LoadBalancer", "ipFamilies": ["IPv4"], "ports": [{"port": 80}]}, "status": {},
    })
}

impl Fixture {
    /// An allocator with this configuration of its guard, and so many Services that have an address.
    pub async fn serving(guard: &str, count: usize) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let server = listener.local_addr().unwrap();
        let api = FakeApi::serve_on(listener);
        (0..count).for_each(|n| api.put(SERVICES, service(&format!("s{n:02}"))));
        let kubeconfig = format!(
            "apiVersion: v1\nkind: Config\ncurrent-context: c\ncontexts: [{{name: c, context: {{cluster: c, user: u}}}}]\n\
             clusters: [{{name: c, cluster: {{server: \"http://{server}\"}}}}]\nusers: [{{name: u, user: {{}}}}]\n"
        );
        std::fs::write(folder.path().join("kubeconfig"), kubeconfig).unwrap();
        let config =
            format!("asn: 64512\n{guard}pools: [{{name: edge, addresses: [198.51.100.0/24], coolDown: 5m}}]\n");
        std::fs::write(folder.path().join("herald.yaml"), config).unwrap();
        let port = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap().port();
        let child = Self::spawn(&folder, port);
        let fixture = Self { api, folder, child, port };
        fixture.wait("every service to have its address", async |fixture: &Self| fixture.served() == count).await;
        fixture
    }

    pub fn spawn(folder: &TempDir, port: u16) -> Child {
        let log = std::fs::File::options().create(true).append(true).open(folder.path().join("log")).unwrap();
        let mut command = herald();
        command.args(["allocate", "--identity", "one", "--lease-seconds", "3"]);
        command.args(["--metrics", &format!("127.0.0.1:{port}"), "--config"]).arg(folder.path().join("herald.yaml"));
        command.arg("--socket").arg(folder.path().join("a.sock")).env("KUBECONFIG", folder.path().join("kubeconfig"));
        command.env("POD_NAMESPACE", "herald-system").stdout(Stdio::null()).stderr(log).spawn().unwrap()
    }

    fn socket(&self) -> PathBuf {
        self.folder.path().join("a.sock")
    }

    pub fn log(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("log")).unwrap()
    }

    /// Services that show an address.
    pub fn served(&self) -> usize {
        let services = self.api.all(SERVICES);
        services.iter().filter(|object| object["status"]["loadBalancer"]["ingress"][0]["ip"].is_string()).count()
    }

    /// Allocations that somebody holds.
    pub fn held(&self) -> usize {
        let allocations = self.api.all(ALLOCATIONS);
        allocations
            .iter()
            .filter(|object| object["spec"]["holders"].as_array().is_some_and(|all| !all.is_empty()))
            .count()
    }

    /// When Allocations were released, in milliseconds since 1970, ascending.
    fn released(&self) -> Vec<i64> {
        let allocations = self.api.all(ALLOCATIONS);
        let times = allocations.iter().filter_map(|object| object["spec"]["released"]["at"].as_str());
        let mut times: Vec<i64> = times.map(|at| at.parse::<jiff::Timestamp>().unwrap().as_millisecond()).collect();
        times.sort_unstable();
        times
    }

    /// How often Services were asked for by name.
    fn reads(&self) -> usize {
        self.api.requests().iter().filter(|request| request.starts_with("services/")).count()
    }

    pub async fn command(&self, arguments: &[&str]) -> Output {
        let mut command = herald();
        command.args(arguments).arg("--socket").arg(self.socket());
        tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap()
    }

    pub async fn ask(&self, request: &str) -> String {
        let Ok(mut stream) = TcpStream::connect(("127.0.0.1", self.port)).await else { return String::new() };
        let request =
            format!("{request} HTTP/1.1\r\nhost: 127.0.0.1\r\nconnection: close\r\ncontent-length: 0\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        answer
    }

    pub async fn wait(&self, what: &str, so: impl AsyncFn(&Self) -> bool) {
        let waited = tokio::time::timeout(Duration::from_secs(20), async {
            while !so(self).await {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        });
        assert!(waited.await.is_ok(), "this never came: {what}\n{}\n{:?}", self.log(), self.api.requests());
    }

    /// Waits for the condition; its number.
    async fn number(&self) -> String {
        self.wait("the condition", async |f: &Self| f.ask("GET /readyz").await.contains("ReleasesHeld")).await;
        let said = self.ask("GET /readyz").await;
        said.split("herald confirm ").nth(1).unwrap_or_else(|| panic!("{said}"))[..16].to_owned()
    }
}

/// Lists answer `[]` while the server has every Service: each is asked for by name, and all Allocations stay as they are.
#[tokio::test]
async fn a_list_that_hides_all_services_releases_none() {
    let fixture = Fixture::serving("", 70).await;
    let allocations = fixture.api.all(ALLOCATIONS);
    fixture.api.hide(&[SERVICES]);
    fixture.wait("each to be asked for", async |f: &Fixture| f.reads() >= 70).await;
    // Whoever is new is served after whatever came of the list.
    fixture.api.hide(&[]);
    fixture.api.put(SERVICES, service("new"));
    fixture.wait("a new service to be served", async |f: &Fixture| f.served() == 71).await;
    assert_eq!(fixture.held(), 71, "{}", fixture.log());
    let after: Vec<Value> = fixture.api.all(ALLOCATIONS);
    assert!(allocations.iter().all(|object| after.contains(object)), "some were written");
    assert!(!fixture.ask("GET /readyz").await.contains("ReleasesHeld"));
}

/// The server has lost every Service, and tells nobody: all stay held, it is said everywhere, and an operator's word lets go. The
/// same for a process that has just begun.
#[tokio::test]
async fn services_that_are_lost_stay_held_until_it_is_confirmed() {
    let mut fixture = Fixture::serving("guard: {hold: 1s}\n", 70).await;
    (0..70).for_each(|n| fixture.api.vanish(SERVICES, &format!("s{n:02}")));
    fixture.api.cut();
    let number = fixture.number().await;
    fixture.child.kill().unwrap();
    fixture.child.wait().unwrap();
    fixture.child = Fixture::spawn(&fixture.folder, fixture.port);
    assert_eq!(fixture.number().await, number, "the same for whoever leads");
    // Longer than `guard.hold`, by the server's own clock: the lease is renewed every second.
    let renewals = |f: &Fixture| f.api.version();
    let seen = renewals(&fixture);
    fixture.wait("the lease to be renewed", async |f: &Fixture| renewals(f) >= seen + 3).await;
    assert_eq!(fixture.held(), 70, "{}", fixture.log());

    let pools = fixture.command(&["pools"]).await;
    let pools = String::from_utf8(pools.stdout).unwrap();
    assert!(
        pools.contains("! ReleasesHeld: 70 addresses of 70 services (web/s00, web/s01, web/s02 and 67 more)"),
        "{pools}"
    );
    let metrics = fixture.ask("GET /metrics").await;
    assert!(metrics.contains("herald_conditions{reason=\"ReleasesHeld\"} 1"), "{metrics}");
    assert!(fixture.ask("GET /v1/pools").await.contains("ReleasesHeld: 70 addresses"));
    assert!(fixture.log().contains("ReleasesHeld"), "{}", fixture.log());

    let refused = fixture.command(&["confirm", "0123456789abcdef"]).await;
    let words = String::from_utf8(refused.stderr).unwrap();
    assert!(!refused.status.success() && words.contains("'herald pools' shows what is held"), "{words}");
    let by_port = fixture.ask(&format!("POST /v1/confirm?number={number}")).await;
    assert!(by_port.contains("404"), "the port changes nothing: {by_port}");
    assert_eq!(fixture.held(), 70);
    let confirmed = fixture.command(&["confirm", &number]).await;
    assert!(confirmed.status.success(), "{confirmed:?}");
    fixture.wait("all to be released", async |f: &Fixture| f.held() == 0).await;
    fixture
        .wait("the condition to be over", async |f: &Fixture| !f.ask("GET /readyz").await.contains("ReleasesHeld"))
        .await;
}

/// Half of them are lost: the share goes at once, the rest in later windows, and no list is needed for it.
#[tokio::test]
async fn of_those_that_are_lost_the_share_goes_in_each_window() {
    let fixture = Fixture::serving("guard: {hold: 2s}\n", 40).await;
    (0..20).for_each(|n| fixture.api.vanish(SERVICES, &format!("s{n:02}")));
    fixture.api.cut();
    fixture.number().await;
    let lists = |f: &Fixture| f.api.requests().iter().filter(|request| request.starts_with("services?")).count();
    let before = lists(&fixture);
    fixture.wait("the last of them to be released", async |f: &Fixture| f.held() == 20).await;
    assert_eq!(lists(&fixture), before, "a list was needed");
    let is_held = async |f: &Fixture| f.ask("GET /readyz").await.contains("ReleasesHeld");
    fixture.wait("the condition to be over", async |f: &Fixture| !is_held(f).await).await;
    // By what the Allocations say: a quarter of 40, of 30, and the last three.
    let released = fixture.released();
    let steps: Vec<&[i64]> = released.chunk_by(|before, after| after - before < 500).collect();
    assert_eq!(steps.iter().map(|step| step.len()).collect::<Vec<_>>(), [10, 7, 3], "{released:?}");
    assert!(steps.windows(2).all(|two| two[1][0] - two[0][0] >= 1_990), "{released:?}");
}

/// What is told is believed: 100 Services deleted one by one go within a `guard.hold` of 60 s.
#[tokio::test]
async fn deletions_that_are_told_release_all_at_once() {
    let fixture = Fixture::serving("", 100).await;
    (0..100).for_each(|n| fixture.api.delete(SERVICES, &format!("s{n:02}")));
    fixture.wait("all to be released", async |f: &Fixture| f.held() == 0).await;
    assert!(!fixture.ask("GET /readyz").await.contains("ReleasesHeld"));
}
