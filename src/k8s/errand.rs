//! Writes to the API: one request each, conditional on what was read, never forced.

use super::allocation::{self, Allocation};
use super::due::Key;
use super::lease::Leadership;
use super::request::{CONDITION, FIELD_MANAGER, FINALIZER, Finalizer, GIVEN_FROM, ServiceForm};
use super::telling::{Notice, Telling, Tone, Turn};
use crate::ipam::{Record, ServiceName, Timestamp, Uid};
use k8s_openapi::api::core::v1::ObjectReference;
use k8s_openapi::api::events::v1::Event;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta};
use kube::api::{DeleteParams, ListParams, Patch, PatchParams, PostParams, Preconditions};
use kube::{Api, Client};
use serde_json::{Value, json};
use std::net::IpAddr;
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::Instant;

/// A write that takes longer is given up; whether it got through, the watch will tell.
const LIMIT: Duration = Duration::from_secs(20);

/// One thing to write.
#[derive(Debug, Clone)]
pub enum Errand {
    /// Create the `Allocation`, or replace the version that was read.
    Put {
        /// What it should say.
        record: Record,
        /// When its cool-down ends, for people.
        until: Option<Timestamp>,
        /// The version that was read; none: there is no object.
        version: Option<String>,
    },
    /// Delete the version of the `Allocation` that was read.
    Delete {
        /// Of which address.
        address: IpAddr,
        /// That version.
        version: String,
    },
    /// Read an `Allocation`, because nobody knows what became of a write.
    Look {
        /// Of which address.
        address: IpAddr,
    },
    /// Write a Service's status, if it still is what was read.
    Tell {
        /// Which.
        uid: Uid,
        /// Its name.
        service: ServiceName,
        /// The version that was read.
        version: String,
        /// What it shows in that version.
        shown: Vec<IpAddr>,
        /// What to write.
        telling: Telling,
    },
    /// Read a Service: nobody knows what became of a write of it, or an `Allocation` names it and the watch does not.
    Read {
        /// Which.
        uid: Uid,
        /// Its name.
        service: ServiceName,
    },
    /// Remove from a Service that is no longer of type LoadBalancer what it shows of us.
    Tidy {
        /// Which.
        uid: Uid,
        /// Its name.
        service: ServiceName,
    },
}

/// What became of it.
#[derive(Debug)]
pub enum Outcome {
    /// The `Allocation` is now this.
    Allocation(Box<Allocation>),
    /// The `Allocation` of this version is gone.
    NoAllocation(String),
    /// What was read: the `Allocation`, or that there is none.
    Found(Option<Box<Allocation>>),
    /// The Service is now so.
    Service {
        /// So.
        now: Box<ServiceForm>,
        /// What it showed before.
        before: Vec<IpAddr>,
    },
    /// What was read: the Service of that name, or that there is none.
    Read(Option<Box<ServiceForm>>),
    /// There is nothing (left) to do.
    Nothing,
    /// It was not what was read: somebody else wrote it. It was not written, and never will be.
    Conflict,
    /// The API server refused it, in words. It was not written, and never will be.
    Refused(String),
    /// Nobody knows whether it was written or still will be; in words.
    Failed(String),
}

impl Errand {
    /// What it is about.
    pub fn key(&self) -> Key {
        match self {
            Self::Put { record, .. } => Key::Address(record.address),
            Self::Delete { address, .. } | Self::Look { address } => Key::Address(*address),
            Self::Tell { uid, .. } | Self::Read { uid, .. } => Key::Service(uid.clone()),
            Self::Tidy { uid, .. } => Key::Remains(uid.clone()),
        }
    }

    /// Runs it, if we still lead.
    pub async fn run(self, client: Client, leadership: watch::Receiver<Leadership>) -> (Key, Outcome) {
        let key = self.key();
        if !leadership.borrow().is_ours(Instant::now()) {
            return (key, Outcome::Failed("this allocator does not lead".to_owned()));
        }
        let outcome = match tokio::time::timeout(LIMIT, self.write(client)).await {
            Ok(Ok(outcome)) => outcome,
            Ok(Err(kube::Error::Api(status))) if status.is_conflict() || status.is_already_exists() => {
                Outcome::Conflict
            }
            Ok(Err(kube::Error::Api(status))) if status.code == 404 => Outcome::Conflict,
            Ok(Err(kube::Error::Api(status))) if (400..500).contains(&status.code) => {
                Outcome::Refused(status.to_string())
            }
            Ok(Err(error)) => Outcome::Failed(error.to_string()),
            Err(_) => Outcome::Failed(format!("no answer within {} s", LIMIT.as_secs())),
        };
        (key, outcome)
    }

    async fn write(self, client: Client) -> kube::Result<Outcome> {
        match self {
            Self::Put { record, until, version } => put(client, &record, until, version.as_deref()).await,
            Self::Delete { address, version } => delete(client, address, version).await,
            Self::Look { address } => look(client, address).await,
            Self::Tell { service, version, shown, telling, .. } => {
                let written = patch_status(client, &service, &patch(&version, &telling)).await?;
                Ok(Outcome::Service { now: Box::new(written), before: shown })
            }
            Self::Read { service, .. } => {
                let api: Api<ServiceForm> = Api::namespaced(client, &service.namespace);
                Ok(Outcome::Read(api.get_opt(&service.name).await?.map(Box::new)))
            }
            Self::Tidy { uid, service } => tidy(client, &uid, &service).await,
        }
    }
}

async fn put(
    client: Client,
    record: &Record,
    until: Option<Timestamp>,
    version: Option<&str>,
) -> kube::Result<Outcome> {
    let api: Api<Allocation> = Api::all(client);
    let object = allocation::object(record, until, version);
    let params = PostParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..PostParams::default() };
    let written = match version {
        None => api.create(&params, &object).await?,
        Some(_) => api.replace(&allocation::name(record.address), &params, &object).await?,
    };
    Ok(Outcome::Allocation(Box::new(written)))
}

async fn delete(client: Client, address: IpAddr, version: String) -> kube::Result<Outcome> {
    let api: Api<Allocation> = Api::all(client);
    let preconditions = Preconditions { resource_version: Some(version.clone()), uid: None };
    let params = DeleteParams { preconditions: Some(preconditions), ..DeleteParams::default() };
    match api.delete(&allocation::name(address), &params).await {
        Ok(_) => Ok(Outcome::NoAllocation(version)),
        Err(kube::Error::Api(status)) if status.code == 404 => Ok(Outcome::NoAllocation(version)),
        Err(error) => Err(error),
    }
}

/// As a list of one: no right to more than the watch has is needed. Without a resourceVersion it is the newest state.
async fn look(client: Client, address: IpAddr) -> kube::Result<Outcome> {
    let api: Api<Allocation> = Api::all(client);
    let params = ListParams::default().fields(&format!("metadata.name={}", allocation::name(address)));
    Ok(Outcome::Found(api.list(&params).await?.items.pop().map(Box::new)))
}

/// Patches the subresource, which takes annotations along: no right to write Services themselves is needed.
async fn patch_status(client: Client, service: &ServiceName, patch: &Value) -> kube::Result<ServiceForm> {
    let api: Api<ServiceForm> = Api::namespaced(client, &service.namespace);
    let params = PatchParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..PatchParams::default() };
    api.patch_status(&service.name, &params, &Patch::Strategic(patch)).await
}

/// What a strategic merge patch takes out of the list of finalizers.
const WITHOUT_FINALIZERS: &str = "$deleteFromPrimitiveList/finalizers";

/// The resourceVersion makes it conditional: who writes in between is not overwritten unseen.
fn patch(version: &str, telling: &Telling) -> Value {
    let mut patch = json!({"metadata": {"resourceVersion": version}});
    match telling.finalizer {
        Some(Finalizer::Present) => patch["metadata"]["finalizers"] = json!([FINALIZER]),
        Some(Finalizer::Absent) => patch["metadata"][WITHOUT_FINALIZERS] = json!([FINALIZER]),
        None => {}
    }
    if let Some(given_from) = &telling.given_from {
        patch["metadata"]["annotations"] = json!({GIVEN_FROM: given_from});
    }
    if let Some(ingress) = &telling.ingress {
        let entry = |address: &IpAddr| json!({"ip": address.to_string(), "ipMode": "VIP"});
        let entries: Vec<Value> = ingress.iter().map(entry).collect();
        patch["status"]["loadBalancer"]["ingress"] = if entries.is_empty() { Value::Null } else { entries.into() };
    }
    if let Some(condition) = &telling.condition {
        let (status, reason, message) = (&condition.status, &condition.reason, &condition.message);
        let mut entry = json!({"type": CONDITION, "status": status, "reason": reason, "message": message});
        match telling.turn {
            Turn::Turned => entry["lastTransitionTime"] = seconds(jiff::Timestamp::now()).into(),
            // The entry is merged by its type: the date stays.
            Turn::Same => {}
        }
        patch["status"]["conditions"] = json!([entry]);
    }
    patch
}

async fn tidy(client: Client, uid: &Uid, service: &ServiceName) -> kube::Result<Outcome> {
    let api: Api<ServiceForm> = Api::namespaced(client.clone(), &service.namespace);
    let Some(found) = api.get_opt(&service.name).await? else { return Ok(Outcome::Nothing) };
    let another = found.uid().as_ref() != Some(uid);
    let is_load_balancer = found.is_load_balancer();
    let Some(seen) = found.sighting() else { return Ok(Outcome::Nothing) };
    if another || is_load_balancer || (seen.given_from.is_none() && seen.condition.is_none()) {
        return Ok(Outcome::Nothing);
    }
    let patch = json!({
        "metadata": {
            "resourceVersion": seen.version, "annotations": {GIVEN_FROM: null}, WITHOUT_FINALIZERS: [FINALIZER],
        },
        "status": {"loadBalancer": null, "conditions": [{"$patch": "delete", "type": CONDITION}]},
    });
    patch_status(client, service, &patch).await?;
    Ok(Outcome::Nothing)
}

/// Posts an event.
///
/// # Errors
/// The API server refused it, or did not answer; in words.
pub async fn post(client: Client, notice: Notice, identity: String) -> Result<(), String> {
    let (namespace, name) = (notice.service.namespace.to_string(), notice.service.name.to_string());
    let regarding = ObjectReference {
        api_version: Some("v1".to_owned()),
        kind: Some("Service".to_owned()),
        namespace: Some(namespace.clone()),
        name: Some(name.clone()),
        uid: Some(notice.uid.to_string()),
        ..ObjectReference::default()
    };
    let metadata = ObjectMeta {
        namespace: Some(namespace.clone()),
        name: Some(format!("{name}.{:016x}", fastrand::u64(..))),
        ..ObjectMeta::default()
    };
    let event = Event {
        metadata,
        event_time: Some(MicroTime(jiff::Timestamp::now())),
        type_: Some(match notice.tone {
            Tone::Normal => "Normal".to_owned(),
            Tone::Warning => "Warning".to_owned(),
        }),
        reason: Some(notice.reason.to_owned()),
        note: Some(truncated(&notice.note)),
        action: Some("Allocate".to_owned()),
        regarding: Some(regarding),
        reporting_controller: Some(FIELD_MANAGER.to_owned()),
        reporting_instance: Some(identity),
        ..Event::default()
    };
    let api: Api<Event> = Api::namespaced(client, &namespace);
    match tokio::time::timeout(LIMIT, api.create(&PostParams::default(), &event)).await {
        Ok(Ok(_)) => Ok(()),
        Ok(Err(error)) => Err(error.to_string()),
        Err(_) => Err("no answer".to_owned()),
    }
}

/// The API takes notes of 1024 octets.
fn truncated(note: &str) -> String {
    match note.len() {
        0..=1024 => note.to_owned(),
        _ => format!("{}…", &note[..note.floor_char_boundary(1020)]),
    }
}

/// A time as `metav1.Time` is written: whole seconds.
fn seconds(at: jiff::Timestamp) -> String {
    at.round(jiff::Unit::Second).unwrap_or(at).to_string()
}
