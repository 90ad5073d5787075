//! What the global store holds, and under which keys.
//!
//! ```text
//! /orgs/<slug>                       OrgRecord
//! /networks/<org>/<name>             NetworkRecord; the number is never used again
//! /counters/<what>                   last number given away
//! /apps/<app>                        AppRecord
//! /idempotency/apps/<key>            name of the app that was made with it
//! /machine-names/<app>/<name>        NameRecord: which machine has the name
//! /machines/<id>                     OwnedRecord: which app the machine is of
//! /tokens/<sha256>                   TokenRecord; the token itself is nowhere
//! ```
//!
//! Invariant: `/machine-names` and `/machines` are written in one transaction
//! before the host is asked to create the machine, so a machine that exists
//! has an owner here. The claim of a machine that its host does not know is
//! removed by a reconciler.

use crate::ports::{KeyRange, Revision, Store, StoreError};
use bytes::Bytes;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

/// An organisation.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct OrgRecord {
    pub(crate) slug: String,
    pub(crate) name: String,
    pub(crate) number: i32,
}

/// A 6PN network.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct NetworkRecord {
    pub(crate) number: u32,
}

/// An app.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct AppRecord {
    pub(crate) name: String,
    pub(crate) number: i32,
    pub(crate) org: String,
    pub(crate) network: String,
    pub(crate) network_number: u32,
    pub(crate) created_ms: u64,
    /// It has had a machine.
    pub(crate) deployed: bool,
    /// It is to be gone: nothing may be added, and a reconciler clears it away.
    pub(crate) deleting: bool,
    #[serde(default)]
    pub(crate) idempotency_key: Option<String>,
}

/// Which machine has a name.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct NameRecord {
    pub(crate) id: String,
}

/// Which app a machine is of.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct OwnedRecord {
    pub(crate) app: String,
    pub(crate) name: String,
    pub(crate) claimed_ms: u64,
}

/// A token.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct TokenRecord {
    pub(crate) name: String,
    pub(crate) kind: String,
    /// SHA-256 in hex, again: it is compared in constant time.
    pub(crate) sha256: String,
}

pub(crate) const APPS: &str = "/apps/";
pub(crate) const MACHINES: &str = "/machines/";
pub(crate) const NAMES: &str = "/machine-names/";
pub(crate) const TOKENS: &str = "/tokens/";

pub(crate) fn org_key(slug: &str) -> String {
    format!("/orgs/{slug}")
}

pub(crate) fn network_key(org: &str, name: &str) -> String {
    format!("/networks/{org}/{name}")
}

pub(crate) fn counter_key(what: &str) -> String {
    format!("/counters/{what}")
}

pub(crate) fn app_key(app: &str) -> String {
    format!("{APPS}{app}")
}

pub(crate) fn idempotency_key(key: &str) -> String {
    format!("/idempotency/apps/{key}")
}

/// Prefix of the names of an app's machines.
pub(crate) fn names_of(app: &str) -> String {
    format!("{NAMES}{app}/")
}

pub(crate) fn name_key(app: &str, name: &str) -> String {
    format!("{NAMES}{app}/{name}")
}

pub(crate) fn machine_key(id: &str) -> String {
    format!("{MACHINES}{id}")
}

pub(crate) fn token_key(sha256: &str) -> String {
    format!("{TOKENS}{sha256}")
}

/// A record with the revision that last wrote it.
#[derive(Clone, Debug)]
pub(crate) struct Stored<T> {
    pub(crate) key: String,
    pub(crate) revision: Revision,
    pub(crate) record: T,
}

pub(crate) fn encode<T: Serialize>(record: &T) -> Bytes {
    serde_json::to_vec(record).expect("records are plain data").into()
}

fn decode<T: DeserializeOwned>(key: &str, value: &[u8]) -> Result<T, StoreError> {
    serde_json::from_slice(value).map_err(|err| {
        let what = std::io::Error::new(std::io::ErrorKind::InvalidData, format!("{key}: {err}"));
        StoreError::Failed(what.into())
    })
}

pub(crate) async fn get<T: DeserializeOwned>(
    store: &dyn Store,
    key: &str,
) -> Result<Option<Stored<T>>, StoreError> {
    let found = store.range(KeyRange::key(key), None, 1).await?.entries.pop();
    let Some(kv) = found else { return Ok(None) };
    let record = decode(&kv.key, &kv.value)?;
    Ok(Some(Stored { key: kv.key, revision: kv.modified, record }))
}

pub(crate) async fn list<T: DeserializeOwned>(
    store: &dyn Store,
    prefix: &str,
) -> Result<Vec<Stored<T>>, StoreError> {
    let all = store.range(KeyRange::prefix(prefix), None, 0).await?.entries;
    let decoded = all.into_iter().map(|kv| {
        let record = decode(&kv.key, &kv.value)?;
        Ok(Stored { key: kv.key, revision: kv.modified, record })
    });
    decoded.collect()
}
