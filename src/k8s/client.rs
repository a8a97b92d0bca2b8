//! The way to the API server: where it is, who is believed to be it, and who we are. All of that stands in files that others
//! replace. The client is built anew when one of them changes, after a 401, and when nothing has answered for 30 s;
//! whoever holds the client notices nothing of it.

use crate::condition::{Conditions, Reason};
use anyhow::anyhow;
use http::{Request, Response, StatusCode};
use hyper_timeout::TimeoutConnector;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use kube::client::{Body, ConfigExt};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};
use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinError;
use tokio::time::Instant;
use tower::{BoxError, ServiceBuilder};

/// How often the files are looked at when nothing fails.
const LOOK: Duration = Duration::from_secs(5);
/// And how often at most when something does, or the client is built anew.
const HURRY: Duration = Duration::from_secs(1);
/// A server that has not been reached for so long is looked for anew.
const PATIENCE: Duration = Duration::from_secs(30);
/// A client that gets 401 is built anew, but not more often than this.
const REFUSED_AGAIN: Duration = Duration::from_secs(10);
/// Files that are not read within this are spoken of.
const READ_LIMIT: Duration = Duration::from_secs(10);
/// Octets of a file.
const FILE_LIMIT: u64 = 4 << 20;

/// A connection that carries nothing is asked after so long whether its other end is there, then at this interval; after so many
/// questions without an answer, or so long without one to what was sent, it is gone: 30 s in all.
const KEEPALIVE: (Duration, Duration, u32) = (Duration::from_secs(15), Duration::from_secs(5), 3);
const UNACKNOWLEDGED: Duration = Duration::from_secs(30);

/// What a pod is given by Kubernetes.
const POD_FILES: [&str; 2] =
    ["/var/run/secrets/kubernetes.io/serviceaccount/token", "/var/run/secrets/kubernetes.io/serviceaccount/ca.crt"];

/// Where it stands how to reach the API server.
#[derive(Debug, Clone)]
pub enum Access {
    /// In KUBECONFIG, else in `~/.kube/config`, else in the files of a pod's ServiceAccount.
    Inferred,
    /// In this kubeconfig.
    Kubeconfig(PathBuf),
}

/// What became of a request.
#[derive(Debug, Clone, Copy)]
enum Sign {
    Answered,
    Unauthorized,
    Failed,
}

/// Keeps a client as its files are.
pub struct Keeper {
    access: Access,
    signs: mpsc::Receiver<Sign>,
    current: watch::Sender<Client>,
    files: Files,
    failing_since: Option<Instant>,
    credentials: Credentials,
    built: Instant,
    looked: Instant,
    look_at: Instant,
}

/// What the server says of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Credentials {
    Accepted,
    Refused,
}

/// A client, and who keeps it as its files are: for as long as [`Keeper::run`] runs.
///
/// # Errors
/// There is no way to an API server, or what is there cannot be used; with what to do.
pub async fn open(access: Access) -> anyhow::Result<(Client, Keeper)> {
    let (config, files) = off_thread({
        let access = access.clone();
        move || load(&access)
    })
    .await?
    .map_err(|why| anyhow!("{why}"))?;
    tracing::info!(server = %config.cluster_url, "watching a cluster");
    let namespace = config.default_namespace.clone();
    let client = connect(&config).map_err(|why| anyhow!("the way to the Kubernetes API cannot be used: {why}"))?;
    let (current, follower) = watch::channel(client);
    let (signs, signs_read) = mpsc::channel(16);
    let client = Client::new(tower::service_fn(move |request| pass(&follower, &signs, request)), namespace);
    let now = Instant::now();
    let (signs, credentials) = (signs_read, Credentials::Accepted);
    let (built, looked, look_at) = (now, now, now + LOOK);
    let keeper = Keeper { access, signs, current, files, failing_since: None, credentials, built, looked, look_at };
    Ok((client, keeper))
}

/// Passes a request on to the client of today, and notes what became of it.
fn pass(
    current: &watch::Receiver<Client>,
    signs: &mpsc::Sender<Sign>,
    request: Request<Body>,
) -> impl Future<Output = kube::Result<Response<Body>>> + Send + use<> {
    let (client, signs) = (current.borrow().clone(), signs.clone());
    async move {
        let answer = client.send(request).await;
        let sign = match &answer {
            Ok(answer) if answer.status() == StatusCode::UNAUTHORIZED => Sign::Unauthorized,
            Ok(_) => Sign::Answered,
            Err(_) => Sign::Failed,
        };
        // Where the queue is full, others say the same.
        let _queued = signs.try_send(sign);
        answer
    }
}

impl Keeper {
    /// Keeps the client, for ever.
    pub async fn run(mut self, conditions: watch::Sender<Conditions>) {
        loop {
            tokio::select! {
                Some(sign) = self.signs.recv() => self.note(sign, Instant::now()),
                () = tokio::time::sleep_until(self.look_at) => {
                    let outcome = self.look(&conditions).await;
                    tell(&conditions, outcome);
                    self.looked = Instant::now();
                    self.look_at = self.looked + LOOK;
                }
            }
        }
    }

    fn note(&mut self, sign: Sign, now: Instant) {
        match sign {
            Sign::Answered => {
                self.failing_since = None;
                return;
            }
            Sign::Unauthorized => self.credentials = Credentials::Refused,
            Sign::Failed => drop(self.failing_since.get_or_insert(now)),
        }
        // Whatever fails, a file may have changed.
        self.look_at = self.look_at.min(self.looked + HURRY);
    }

    /// Looks at the files, and builds the client anew where that is due.
    async fn look(&mut self, conditions: &watch::Sender<Conditions>) -> Result<(), String> {
        let paths: Vec<PathBuf> = self.files.keys().cloned().collect();
        let mut reading = tokio::task::spawn_blocking(move || stamps(paths));
        let files = match tokio::time::timeout(READ_LIMIT, &mut reading).await {
            Ok(read) => read,
            Err(_) => {
                let seconds = READ_LIMIT.as_secs();
                tell(conditions, Err(format!("they are not read within {seconds} s: does a mount hang?")));
                reading.await // one at a time: nothing is gained by asking a second time
            }
        };
        let changed = files.map_err(|error| error.to_string())? != self.files;
        let now = Instant::now();
        let waited = now - self.built;
        let refused = self.credentials == Credentials::Refused && waited >= REFUSED_AGAIN;
        let given_up = self.failing_since.is_some_and(|since| now - since >= PATIENCE) && waited >= PATIENCE;
        if !changed && !refused && !given_up {
            return Ok(());
        }
        self.credentials = Credentials::Accepted;
        self.built = now;
        let access = self.access.clone();
        let (config, files) = off_thread(move || load(&access)).await.map_err(|error| error.to_string())??;
        self.current.send_replace(connect(&config)?);
        self.files = files;
        match changed {
            true => tracing::info!(server = %config.cluster_url, "the files that lead to the API server changed"),
            false => tracing::debug!(server = %config.cluster_url, "looking for the API server anew"),
        }
        Ok(())
    }
}

fn tell(conditions: &watch::Sender<Conditions>, outcome: Result<(), String>) {
    conditions.send_if_modified(|mine| {
        let before = mine.clone();
        match outcome {
            Ok(()) => mine.clear(Reason::ApiCredentialsUnreadable, ""),
            Err(why) => {
                let message =
                    format!("the files that lead to the API server cannot be used, those read before are: {why}");
                mine.set(Reason::ApiCredentialsUnreadable, "", message);
            }
        }
        *mine != before
    });
}

/// Files, each with what tells one state of it from another.
type Files = BTreeMap<PathBuf, Result<u64, io::ErrorKind>>;

fn stamps(paths: Vec<PathBuf>) -> Files {
    let stamp = |path: &Path| {
        let mut hasher = DefaultHasher::new();
        read(path).map_err(|error| error.kind())?.hash(&mut hasher);
        Ok(hasher.finish())
    };
    paths.into_iter().map(|path| (path.clone(), stamp(&path))).collect()
}

/// The content of a regular file of a bounded size: nothing else ends, or ends soon.
fn read(path: &Path) -> io::Result<Vec<u8>> {
    let metadata = std::fs::metadata(path)?;
    if !metadata.is_file() || metadata.len() > FILE_LIMIT {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "it is no regular file of a few megabytes"));
    }
    std::fs::read(path)
}

async fn off_thread<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, JoinError> {
    tokio::task::spawn_blocking(work).await
}

/// Reads all there is to know about the way, and which files said it. Blocks.
fn load(access: &Access) -> Result<(Config, Files), String> {
    let own = match access {
        Access::Inferred => kubeconfigs(),
        Access::Kubeconfig(path) => vec![path.clone()],
    };
    // Before anything else reads them: a FIFO would never end.
    for path in own.iter().filter(|path| path.exists()) {
        read(path).map_err(|error| format!("{}: {error}", path.display()))?;
    }
    let kubeconfig = match access {
        Access::Inferred => Kubeconfig::read(),
        Access::Kubeconfig(path) => Kubeconfig::read_from(path),
    };
    let mut paths = own;
    let mut config = match (kubeconfig, access) {
        (Ok(kubeconfig), _) => {
            let referred = referred(&kubeconfig);
            for path in &referred {
                read(path).map_err(|error| format!("{}: {error}", path.display()))?;
            }
            paths.extend(referred);
            let options = KubeConfigOptions::default();
            let of_it = Config::from_custom_kubeconfig(kubeconfig, &options);
            tokio::runtime::Handle::current().block_on(of_it).map_err(|error| error.to_string())?
        }
        (Err(error), Access::Kubeconfig(_)) => return Err(error.to_string()),
        (Err(error), Access::Inferred) => {
            paths.extend(POD_FILES.map(PathBuf::from));
            Config::incluster().map_err(|in_cluster| {
                format!(
                    "no way to the Kubernetes API: run as a pod with a ServiceAccount, set KUBECONFIG, or use --manifests DIR \
                     (as a pod: {in_cluster}; by kubeconfig: {error})"
                )
            })?
        }
    };
    config.apply_debug_overrides();
    if config.root_cert.as_ref().is_some_and(Vec::is_empty) {
        return Err("the authority's file holds no whole certificate".to_owned());
    }
    // Read here and now, and not again by a clock that may be set back.
    config.root_cert_file = None;
    if let Some(file) = config.auth_info.token_file.take().filter(|_| config.auth_info.token.is_none()) {
        let token = read(Path::new(&file)).map_err(|error| format!("{file}: {error}"))?;
        let token = String::from_utf8(token).map_err(|_| format!("{file} is no token"))?;
        config.auth_info.token = Some(token.trim().to_owned().into());
    }
    Ok((config, stamps(paths)))
}

/// Where kubeconfigs are looked for.
fn kubeconfigs() -> Vec<PathBuf> {
    match std::env::var_os("KUBECONFIG").filter(|paths| !paths.is_empty()) {
        Some(paths) => std::env::split_paths(&paths).filter(|path| !path.as_os_str().is_empty()).collect(),
        None => std::env::home_dir().map(|home| home.join(".kube").join("config")).into_iter().collect(),
    }
}

/// The files that a kubeconfig names.
fn referred(kubeconfig: &Kubeconfig) -> Vec<PathBuf> {
    let clusters = kubeconfig.clusters.iter().filter_map(|named| named.cluster.as_ref());
    let users = kubeconfig.auth_infos.iter().filter_map(|named| named.auth_info.as_ref());
    let of_users = users.flat_map(|user| [&user.client_certificate, &user.client_key, &user.token_file]);
    let all = clusters.map(|cluster| &cluster.certificate_authority).chain(of_users);
    all.flatten().map(PathBuf::from).collect()
}

/// A client. Its connections ask by themselves whether the other end is still there.
fn connect(config: &Config) -> Result<Client, String> {
    if config.proxy_url.is_some() {
        return Client::try_from(config.clone()).map_err(|error| error.to_string());
    }
    let mut http = HttpConnector::new();
    http.enforce_http(false);
    http.set_keepalive(Some(KEEPALIVE.0));
    http.set_keepalive_interval(Some(KEEPALIVE.1));
    http.set_keepalive_retries(Some(KEEPALIVE.2));
    http.set_tcp_user_timeout(Some(UNACKNOWLEDGED));
    let https = config.rustls_https_connector_with_connector(http).map_err(|error| error.to_string())?;
    let mut connector = TimeoutConnector::new(https);
    connector.set_connect_timeout(Some(Duration::from_secs(5)));
    connector.set_write_timeout(Some(Duration::from_secs(15)));
    // Longer than the longest watch may be silent: a bookmark comes every minute, the server ends a watch after 180 s.
    connector.set_read_timeout(Some(Duration::from_secs(210)));
    connector.set_reset_reader_on_write(true);
    let http = hyper_util::client::legacy::Client::builder(TokioExecutor::new()).build(connector);
    let service = ServiceBuilder::new()
        .layer(config.base_uri_layer())
        .option_layer(config.auth_layer().map_err(|error| error.to_string())?)
        .layer(config.extra_headers_layer().map_err(|error| error.to_string())?)
        .map_err(BoxError::from)
        .service(http);
    Ok(Client::new(service, config.default_namespace.clone()))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 9293 §3.8.4: the first question after the idle time, the last one an interval before the end.
    #[test]
    fn a_connection_whose_other_end_is_gone_is_noticed_within_45_seconds() {
        let (idle, interval, retries) = KEEPALIVE;
        assert!(idle + interval * retries <= Duration::from_secs(45));
        assert!(UNACKNOWLEDGED <= Duration::from_secs(45));
    }

    #[test]
    fn what_is_no_regular_file_is_never_opened() {
        let folder = tempfile::tempdir().unwrap();
        let fifo = folder.path().join("config");
        assert!(std::process::Command::new("mkfifo").arg(&fifo).status().unwrap().success());
        let why = load(&Access::Kubeconfig(fifo)).unwrap_err();
        assert!(why.contains("no regular file"), "{why}");
        let (missing, big) = (folder.path().join("none"), folder.path().join("big"));
        std::fs::File::create(&big).unwrap().set_len(FILE_LIMIT + 1).unwrap();
        let stamps = stamps(vec![missing.clone(), big.clone()]);
        assert_eq!((stamps[&missing], stamps[&big]), (Err(io::ErrorKind::NotFound), Err(io::ErrorKind::InvalidInput)));
    }
}
