//! What an API server answers, read within bounds and object by object: one that cannot be read is told by its name, and the
//! rest of the answer counts.

use futures_util::StreamExt;
use http_body_util::BodyExt;
use kube::api::{ListParams, WatchParams};
use kube::client::Body;
use kube::core::Status;
use kube::{Client, Resource};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use serde_json::value::RawValue;
use std::collections::BTreeMap;
use std::marker::PhantomData;
use std::pin::Pin;
use std::time::Duration;
use tokio_util::codec::{FramedRead, LinesCodec, LinesCodecError};
use tokio_util::io::StreamReader;

/// Octets of a watch's line: etcd takes no object of more than 1.5 MiB, and an event is little more than its object.
const LINE_LIMIT: usize = 16 << 20;

/// Octets of a page of a list.
const PAGE_LIMIT: usize = 64 << 20;

/// Octets of a refusal that are read.
const REFUSAL_LIMIT: usize = 64 << 10;

/// A request that gets no answer for so long is given up.
const LIMIT: Duration = Duration::from_secs(60);

/// Marks the bookmark that ends the first events of a streaming list.
const INITIAL_EVENTS_END: &str = "k8s.io/initial-events-end";

/// Which object, and in which version.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Identity {
    /// Its namespace; empty for a kind that has none.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Its UID.
    pub uid: String,
    /// Its resourceVersion.
    pub version: String,
}

impl Identity {
    /// Of an object that was read.
    pub fn of<K: Resource>(object: &K) -> Self {
        let meta = object.meta();
        let text = |field: &Option<String>| field.clone().unwrap_or_default();
        Self {
            namespace: text(&meta.namespace),
            name: text(&meta.name),
            uid: text(&meta.uid),
            version: text(&meta.resource_version),
        }
    }

    /// What can be made out of an object of any shape.
    fn made_out(object: &str) -> Self {
        #[derive(Deserialize)]
        struct Outline {
            metadata: Value,
        }
        let metadata = serde_json::from_str(object).map_or(Value::Null, |Outline { metadata }| metadata);
        let text = |field: &str| metadata[field].as_str().unwrap_or_default().to_owned();
        Self { namespace: text("namespace"), name: text("name"), uid: text("uid"), version: text("resourceVersion") }
    }

    /// Namespace and name, as people write them.
    pub fn path(&self) -> String {
        match (self.namespace.as_str(), self.name.as_str()) {
            ("", name) => name.to_owned(),
            (namespace, name) => format!("{namespace}/{name}"),
        }
    }
}

/// An object that cannot be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unreadable {
    /// Which.
    pub identity: Identity,
    /// Which field, and what is wrong with it.
    pub why: String,
}

/// Reads an object.
fn read<K: DeserializeOwned>(object: &RawValue) -> Result<K, Unreadable> {
    serde_json::from_str(object.get()).map_err(|_| {
        // Once more, and slower, for the field's name.
        let read = serde_path_to_error::deserialize::<_, K>(&mut serde_json::Deserializer::from_str(object.get()));
        let why = read.err().map_or_else(String::new, |error| {
            let text = error.inner().to_string();
            let text = text.rsplit_once(" at line ").map_or(text.as_str(), |(text, _)| text);
            format!("{}: {text}", error.path())
        });
        Unreadable { identity: Identity::made_out(object.get()), why }
    })
}

/// What a watch says.
#[derive(Debug)]
pub enum Event<K> {
    /// An object is new or changed.
    Present(Result<K, Unreadable>),
    /// An object is gone.
    Deleted(Identity),
    /// Everything up to this version was told.
    Bookmark(Mark),
    /// The server ends the watch for this reason.
    Error(Status),
}

/// A bookmark.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mark {
    /// The version.
    pub version: String,
    /// Whether it is any, or the one that ends a list.
    pub place: Place,
}

/// Where a bookmark stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// Anywhere.
    Within,
    /// After the last object of a list.
    EndOfList,
}

/// Reads a line of a watch; `None` for one of a sort that is not known.
fn event<K: DeserializeOwned>(line: &str) -> serde_json::Result<Option<Event<K>>> {
    #[derive(Deserialize)]
    struct Line<'a> {
        r#type: String,
        #[serde(borrow)]
        object: &'a RawValue,
    }
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Bookmark {
        metadata: BookmarkMeta,
    }
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct BookmarkMeta {
        resource_version: String,
        #[serde(default)]
        annotations: Option<BTreeMap<String, String>>,
    }
    let Line { r#type, object } = serde_json::from_str(line)?;
    Ok(match r#type.as_str() {
        "ADDED" | "MODIFIED" => Some(Event::Present(read(object))),
        "DELETED" => Some(Event::Deleted(Identity::made_out(object.get()))),
        "BOOKMARK" => {
            let Bookmark { metadata } = serde_json::from_str(object.get())?;
            let ends = metadata.annotations.is_some_and(|all| all.contains_key(INITIAL_EVENTS_END));
            let place = if ends { Place::EndOfList } else { Place::Within };
            Some(Event::Bookmark(Mark { version: metadata.resource_version, place }))
        }
        "ERROR" => Some(Event::Error(serde_json::from_str(object.get()).unwrap_or_default())),
        _ => None,
    })
}

/// Why a watch cannot be read on.
#[derive(Debug, thiserror::Error)]
pub enum Broken {
    /// The connection is gone.
    #[error("the connection broke: {0}")]
    Connection(#[from] std::io::Error),
    /// A line has no end.
    #[error("the server sent more than {} MiB in one line of a watch; is it a Kubernetes API server?", LINE_LIMIT >> 20)]
    Endless,
    /// A line is nothing that a watch says.
    #[error("the server sent what is no event of a watch ({0}); is it a Kubernetes API server?")]
    Nonsense(serde_json::Error),
}

type Text = Pin<Box<dyn futures_util::Stream<Item = Result<String, LinesCodecError>> + Send>>;

/// An open watch.
pub struct Events<K> {
    lines: Text,
    of: PhantomData<fn() -> K>,
}

impl<K: DeserializeOwned> Events<K> {
    fn read(body: Body) -> Self {
        let octets = body.into_data_stream().map(|piece| piece.map_err(std::io::Error::other));
        let codec = LinesCodec::new_with_max_length(LINE_LIMIT);
        Self { lines: Box::pin(FramedRead::new(StreamReader::new(octets), codec)), of: PhantomData }
    }

    /// The next event; `None` when the server has ended the watch.
    ///
    /// # Errors
    /// The watch cannot be read on.
    pub async fn next(&mut self) -> Result<Option<Event<K>>, Broken> {
        while let Some(line) = self.lines.next().await {
            let line = line.map_err(|error| match error {
                LinesCodecError::MaxLineLengthExceeded => Broken::Endless,
                LinesCodecError::Io(error) => Broken::Connection(error),
            })?;
            match event(&line) {
                Ok(Some(event)) => return Ok(Some(event)),
                Ok(None) => {}
                // The last line, cut off.
                Err(error) if error.is_eof() => {}
                Err(error) => return Err(Broken::Nonsense(error)),
            }
        }
        Ok(None)
    }
}

/// A page of a list.
#[derive(Debug)]
pub struct Page<K> {
    /// Its objects.
    pub objects: Vec<Result<K, Unreadable>>,
    /// The version of the whole list.
    pub version: String,
    /// How to ask for the next page; none: this was the last.
    pub next: Option<String>,
}

fn page<K: DeserializeOwned>(octets: &[u8]) -> serde_json::Result<Page<K>> {
    #[derive(Deserialize)]
    struct List<'a> {
        #[serde(default)]
        metadata: Meta,
        #[serde(borrow, default)]
        items: Option<Vec<&'a RawValue>>,
    }
    #[derive(Deserialize, Default)]
    #[serde(rename_all = "camelCase")]
    struct Meta {
        #[serde(default)]
        resource_version: String,
        #[serde(default)]
        r#continue: Option<String>,
    }
    let List { metadata, items } = serde_json::from_slice(octets)?;
    Ok(Page {
        objects: items.into_iter().flatten().map(read).collect(),
        version: metadata.resource_version,
        next: metadata.r#continue.filter(|token| !token.is_empty()),
    })
}

/// Asks for a page of a list.
///
/// # Errors
/// It was refused, there was no answer within a minute, or the answer is no list.
pub async fn list<K>(client: &Client, url: &str, params: &ListParams) -> kube::Result<Page<K>>
where
    K: DeserializeOwned,
{
    let request = kube::core::Request::new(url).list(params).map_err(kube::Error::BuildRequest)?;
    answered(async {
        let body = send(client, request).await?;
        page(&bounded(body, PAGE_LIMIT).await?).map_err(kube::Error::SerdeError)
    })
    .await
}

/// Asks how far the server is: the version of a list, of which no object is looked at.
///
/// # Errors
/// As [`list`].
pub async fn version(client: &Client, url: &str) -> kube::Result<String> {
    let params = ListParams::default().limit(1);
    let request = kube::core::Request::new(url).list_metadata(&params).map_err(kube::Error::BuildRequest)?;
    answered(async {
        let body = send(client, request).await?;
        let page: Page<Value> = page(&bounded(body, PAGE_LIMIT).await?).map_err(kube::Error::SerdeError)?;
        Ok(page.version)
    })
    .await
}

/// Opens a watch from a version on.
///
/// # Errors
/// It was refused, or there was no answer within a minute.
pub async fn watch<K>(client: &Client, url: &str, params: &WatchParams, version: &str) -> kube::Result<Events<K>>
where
    K: DeserializeOwned,
{
    let request = kube::core::Request::new(url).watch(params, version).map_err(kube::Error::BuildRequest)?;
    answered(async { Ok(Events::read(send(client, request).await?)) }).await
}

async fn answered<T>(answer: impl Future<Output = kube::Result<T>>) -> kube::Result<T> {
    tokio::time::timeout(LIMIT, answer).await.unwrap_or_else(|_| {
        let text = format!("no answer within {} s", LIMIT.as_secs());
        Err(kube::Error::ReadEvents(std::io::Error::new(std::io::ErrorKind::TimedOut, text)))
    })
}

/// The body of an answer; a refusal is an error.
async fn send(client: &Client, request: http::Request<Vec<u8>>) -> kube::Result<Body> {
    let answer = client.send(request.map(Body::from)).await?;
    let status = answer.status();
    if !status.is_client_error() && !status.is_server_error() {
        return Ok(answer.into_body());
    }
    let text = bounded(answer.into_body(), REFUSAL_LIMIT).await.unwrap_or_default();
    let said = serde_json::from_slice::<Status>(&text).ok().filter(|said| said.code == status.as_u16());
    let bare = || Status::failure(&format!("the server answered {status}"), "").with_code(status.as_u16());
    Err(kube::Error::Api(said.unwrap_or_else(bare).boxed()))
}

async fn bounded(mut body: Body, limit: usize) -> kube::Result<Vec<u8>> {
    let mut octets = Vec::new();
    while let Some(frame) = body.frame().await {
        let Ok(data) = frame?.into_data() else { continue };
        if octets.len() + data.len() > limit {
            let text = format!("the answer is longer than {limit} octets; is it a Kubernetes API server?");
            return Err(kube::Error::ReadEvents(std::io::Error::other(text)));
        }
        octets.extend_from_slice(&data);
    }
    Ok(octets)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::k8s::convert::ServiceObject;

    fn one(line: &str) -> Event<ServiceObject> {
        event(line).unwrap().unwrap()
    }

    #[test]
    fn an_object_that_cannot_be_read_is_named_with_its_field() {
        let line = r#"{"type":"ADDED","object":{"metadata":{"namespace":"web","name":"shop","uid":"u","resourceVersion":"7"},
            "spec":{"type":["LoadBalancer"]}}}"#;
        let Event::Present(Err(bad)) = one(line) else { panic!("it was read") };
        assert_eq!((bad.identity.path(), bad.identity.version.as_str()), ("web/shop".to_owned(), "7"));
        assert!(bad.why.starts_with("spec.type: ") && bad.why.contains("expected a string"), "{}", bad.why);
        let Event::Deleted(gone) = one(&line.replace("ADDED", "DELETED")) else { panic!("not deleted") };
        assert_eq!(gone, bad.identity);
    }

    #[test]
    fn one_bad_item_costs_a_list_nothing_else() {
        let text = br#"{"metadata":{"resourceVersion":"9","continue":""},"items":[
            {"metadata":{"name":"a"}},{"metadata":{"name":7}},{"metadata":{"name":"b"},"spec":[1,2]},5,{"metadata":{"name":"c"}}]}"#;
        let page: Page<ServiceObject> = page(text).unwrap();
        let read: Vec<bool> = page.objects.iter().map(Result::is_ok).collect();
        assert_eq!(read, [true, false, false, false, true]);
        assert_eq!((page.version.as_str(), page.next), ("9", None));
        let none: Page<ServiceObject> = super::page(br#"{"metadata":{},"items":null}"#).unwrap();
        assert!(none.objects.is_empty());
    }

    #[test]
    fn bookmarks_errors_and_what_is_neither() {
        let bookmark = r#"{"type":"BOOKMARK","object":{"kind":"X","metadata":{"resourceVersion":"5"ANNOTATIONS}}}"#;
        let end = r#","annotations":{"k8s.io/initial-events-end":"true"}"#;
        for (annotations, place) in [("", Place::Within), (end, Place::EndOfList)] {
            let Event::Bookmark(mark) = one(&bookmark.replace("ANNOTATIONS", annotations)) else {
                panic!("no bookmark")
            };
            assert_eq!(mark, Mark { version: "5".to_owned(), place });
        }
        let Event::Error(status) = one(r#"{"type":"ERROR","object":{"code":410,"message":"too old"}}"#) else {
            panic!()
        };
        assert_eq!((status.code, status.message.as_str()), (410, "too old"));
        let Event::Error(status) = one(r#"{"type":"ERROR","object":3}"#) else { panic!() };
        assert_eq!(status.code, 0);
        assert!(event::<ServiceObject>(r#"{"type":"LATER","object":{}}"#).unwrap().is_none());
        assert!(event::<ServiceObject>("<html>").is_err_and(|error| !error.is_eof()));
        assert!(event::<ServiceObject>(r#"{"type":"ADDED","object":{"me"#).is_err_and(|error| error.is_eof()));
    }
}
