//! Asking a speaker or an allocator, over its Unix socket.

use anyhow::{Context, bail};
use http_body_util::{BodyExt, Empty};
use hyper::Method;
use hyper::body::Bytes;
use hyper_util::rt::TokioIo;
use std::io;
use std::path::Path;
use std::time::Duration;
use tokio::net::UnixStream;

/// A speaker that lives answers at once.
const TIMEOUT: Duration = Duration::from_secs(5);

/// The body of `path`.
///
/// # Errors
/// No `who` answers there, or it answers with an error; in words, with what to do.
pub fn ask(who: &str, socket: &Path, path: &str) -> anyhow::Result<Bytes> {
    request(who, socket, Method::GET, path)
}

/// Has something done, by a POST to `path`; the body of the answer.
///
/// # Errors
/// As [`ask`].
pub fn tell(who: &str, socket: &Path, path: &str) -> anyhow::Result<Bytes> {
    request(who, socket, Method::POST, path)
}

fn request(who: &str, socket: &Path, method: Method, path: &str) -> anyhow::Result<Bytes> {
    let asked = async {
        match tokio::time::timeout(TIMEOUT, fetch(who, socket, method, path)).await {
            Ok(answer) => answer,
            Err(_) => bail!("the {who} did not answer within {} s: is its process stopped?", TIMEOUT.as_secs()),
        }
    };
    super::runtime()?.block_on(asked)
}

async fn fetch(who: &str, socket: &Path, method: Method, path: &str) -> anyhow::Result<Bytes> {
    let stream = UnixStream::connect(socket).await.map_err(|error| explain(who, socket, error))?;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
        .await
        .with_context(|| format!("this is not a herald {who}"))?;
    let request =
        hyper::Request::builder().method(method).uri(path).header("host", "herald").body(Empty::<Bytes>::new())?;
    // Its failure shows in the answer too.
    let carrying = tokio::spawn(connection);
    let answer = sender.send_request(request).await.with_context(|| format!("the {who} closed the connection"))?;
    let status = answer.status();
    let body = answer.into_body().collect().await.context("the answer broke off")?.to_bytes();
    carrying.abort();
    if !status.is_success() {
        bail!("the {who} answered {status}: {}", String::from_utf8_lossy(&body).trim());
    }
    Ok(body)
}

fn explain(who: &str, socket: &Path, error: io::Error) -> anyhow::Error {
    let path = socket.display();
    let hint = match error.kind() {
        io::ErrorKind::NotFound => format!(
            "there is no {who} at {path}: start one, or name its socket with --socket (in a cluster: kubectl exec into \
             the {who}'s pod)"
        ),
        io::ErrorKind::ConnectionRefused => format!("the {who} that made {path} is gone: start it again"),
        io::ErrorKind::PermissionDenied => {
            format!("{path} belongs to the user that runs the {who}: ask as that user, or as root")
        }
        _ => format!("cannot ask the {who} at {path}"),
    };
    anyhow::Error::new(error).context(hint)
}
