//! The client through whatever happens to its files: a server behind TLS, a kubeconfig, a CA and a token that are replaced.

use crate::fake_api::{FakeApi, SERVICES};
use crate::until;
use crate::watch::{Watch, fill, key, service};
use axum::serve::Listener;
use herald::condition::{Conditions, Reason};
use herald::k8s::client::{Access, open};
use herald::k8s::{Contact, Source};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use tempfile::TempDir;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch::{Receiver, Sender};
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::{TlsAcceptor, server::TlsStream};

/// A listener that shows the certificate of today.
struct Tls {
    listener: TcpListener,
    shown: Receiver<Arc<ServerConfig>>,
}

impl Listener for Tls {
    type Io = TlsStream<TcpStream>;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Self::Io, Self::Addr) {
        loop {
            let (stream, from) = self.listener.accept().await.unwrap();
            let acceptor = TlsAcceptor::from(self.shown.borrow().clone());
            // A client that does not like the certificate is no matter of the server.
            if let Ok(stream) = acceptor.accept(stream).await {
                return (stream, from);
            }
        }
    }

    fn local_addr(&self) -> std::io::Result<Self::Addr> {
        self.listener.local_addr()
    }
}

/// An authority, and a server on loopback for which it vouches.
struct Authority {
    certificate: PathBuf,
    server: Arc<ServerConfig>,
}

impl Authority {
    fn make(folder: &Path, name: &str) -> Self {
        let plain = folder.join("openssl.cnf");
        std::fs::write(&plain, "[req]\ndistinguished_name = dn\n[dn]\n").unwrap();
        let make = |what: &str, more: &[&str]| {
            let (certificate, key) = (folder.join(format!("{what}.crt")), folder.join(format!("{what}.key")));
            let mut openssl = Command::new("openssl");
            openssl.args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]);
            openssl.args(["-days", "2", "-subj", &format!("/CN={what}"), "-config"]).arg(&plain).args(more);
            let made =
                openssl.arg("-keyout").arg(&key).arg("-out").arg(&certificate).output().expect("openssl is there");
            assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
            (certificate, key)
        };
        let (certificate, signs) = make(name, &["-addext", "basicConstraints=critical,CA:TRUE"]);
        let vouched = ["-CA", certificate.to_str().unwrap(), "-CAkey", signs.to_str().unwrap()];
        let (shown, key) =
            make(&format!("{name}-server"), &[&vouched[..], &["-addext", "subjectAltName=IP:127.0.0.1"]].concat());
        let chain = CertificateDer::pem_file_iter(&shown).unwrap().collect::<Result<Vec<_>, _>>().unwrap();
        let versions = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()));
        let server = versions.with_safe_default_protocol_versions().unwrap().with_no_client_auth();
        let server = server.with_single_cert(chain, PrivateKeyDer::from_pem_file(&key).unwrap()).unwrap();
        Self { certificate, server: Arc::new(server) }
    }
}

/// A server behind TLS, and a client whose files lie in a folder of their own.
struct Scene {
    folder: TempDir,
    api: FakeApi,
    address: SocketAddr,
    shown: Sender<Arc<ServerConfig>>,
    watch: Watch,
    conditions: Receiver<Conditions>,
}

impl Scene {
    async fn start(token: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let first = Authority::make(folder.path(), "first");
        let shown = Sender::new(first.server.clone());
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let api = FakeApi::serve_on(Tls { listener, shown: shown.subscribe() });
        api.take_only(token);
        fill(&api);
        std::fs::copy(&first.certificate, folder.path().join("ca.crt")).unwrap();
        std::fs::write(folder.path().join("token"), format!("{token}\n")).unwrap();
        let kubeconfig = folder.path().join("config");
        let text = format!(
            "apiVersion: v1\nkind: Config\ncurrent-context: c\ncontexts: [{{name: c, context: {{cluster: c, user: u}}}}]\n\
             clusters: [{{name: c, cluster: {{server: 'https://{address}', certificate-authority: ca.crt}}}}]\n\
             users: [{{name: u, user: {{tokenFile: token}}}}]\n"
        );
        std::fs::write(&kubeconfig, text).unwrap();
        let (client, keeper) = open(Access::Kubeconfig(kubeconfig)).await.unwrap();
        let said = Sender::new(Conditions::default());
        let conditions = said.subscribe();
        tokio::spawn(keeper.run(said));
        let mut watch = Watch::start(client);
        watch.sees("the first view", |view| view.services.len() == 2).await;
        Self { folder, api, address, shown, watch, conditions }
    }

    /// As a ConfigMap's volume does it: another file takes the name.
    fn replace(&self, name: &str, content: &[u8]) {
        let beside = self.folder.path().join("beside");
        std::fs::write(&beside, content).unwrap();
        std::fs::rename(beside, self.folder.path().join(name)).unwrap();
    }

    async fn fails_with(&mut self, words: &str) {
        let fails = |contact: &Contact| matches!(contact, Contact::Failing { error, .. } if error.contains(words));
        until(words, &mut self.watch.health, |health| fails(&health.sources[&Source::Services].contact)).await;
    }

    async fn sees(&mut self, name: &str) {
        self.api.put(SERVICES, service(name, "198.51.100.4"));
        self.watch.sees(name, |view| view.services.contains_key(&key(name))).await;
    }
}

#[tokio::test]
async fn a_replaced_authority_is_taken_without_a_restart() {
    let mut scene = Scene::start("t").await;
    let second = Authority::make(scene.folder.path(), "second");
    scene.shown.send_replace(second.server.clone());
    scene.api.cut();
    scene.fails_with("UnknownIssuer").await;
    // Half a file is no authority: what is there stays, and it is said.
    let whole = std::fs::read(&second.certificate).unwrap();
    scene.replace("ca.crt", &whole[..whole.len() / 2]);
    let unreadable = |said: &Conditions| said.contains(Reason::ApiCredentialsUnreadable, "");
    until("the half file is spoken of", &mut scene.conditions, unreadable).await;
    scene.replace("ca.crt", &whole);
    scene.sees("after").await;
    until("nothing is wrong", &mut scene.conditions, |said| *said == Conditions::default()).await;
}

#[tokio::test]
async fn a_replaced_token_is_taken_without_a_restart() {
    let mut scene = Scene::start("old").await;
    scene.api.take_only("new");
    scene.api.cut();
    scene.fails_with("Unauthorized").await;
    scene.replace("token", b"new");
    scene.sees("after").await;
}

/// A file that would never end, in the place of one that is read: what was read stays, and it is said.
#[tokio::test]
async fn a_fifo_in_the_place_of_the_token_stops_nothing() {
    let mut scene = Scene::start("t").await;
    let fifo = scene.folder.path().join("fifo");
    assert!(Command::new("mkfifo").arg(&fifo).status().unwrap().success());
    std::fs::rename(fifo, scene.folder.path().join("token")).unwrap();
    until("it is said", &mut scene.conditions, |said| said.contains(Reason::ApiCredentialsUnreadable, "")).await;
    scene.sees("meanwhile").await;
    scene.replace("token", b"t");
    until("it is over", &mut scene.conditions, |said| *said == Conditions::default()).await;
}

/// The kernel asks the other end of each connection whether it is there: its timer runs (`tr` 2 in `/proc/net/tcp`).
#[tokio::test]
async fn connections_are_asked_whether_their_other_end_is_there() {
    let scene = Scene::start("t").await;
    let connections = std::fs::read_to_string("/proc/net/tcp").unwrap();
    let server = format!("{:04X}", scene.address.port());
    let timers = connections.lines().skip(1).filter_map(|line| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let (remote, state, timer) = (fields[2], fields[3], fields[5]);
        (remote.ends_with(&server) && state == "01").then(|| timer.to_owned())
    });
    let timers: Vec<String> = timers.collect();
    assert!(timers.len() >= 4, "a connection a watch: {connections}");
    for timer in timers {
        let (kind, jiffies) = timer.split_once(':').unwrap();
        // A hundred a second; the first question is due within the idle time.
        assert!(kind == "02" && u32::from_str_radix(jiffies, 16).unwrap() <= 1_500, "{timer}");
    }
}
