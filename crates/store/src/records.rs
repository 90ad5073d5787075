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

use crate::{KeyRange, Revision, Store, StoreError};
use bytes::Bytes;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

/// An organisation.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct OrgRecord {
    /// Name in paths.
    pub slug: String,
    /// Name.
    pub name: String,
    /// Numeric id that clients show.
    pub number: i32,
}

/// A 6PN network.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct NetworkRecord {
    /// Its number.
    pub number: u32,
}

/// An app.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct AppRecord {
    /// Name.
    pub name: String,
    /// Numeric id that clients show.
    pub number: i32,
    /// Slug of the org.
    pub org: String,
    /// Name of the network.
    pub network: String,
    /// Number of the network.
    pub network_number: u32,
    /// Milliseconds since the epoch.
    pub created_ms: u64,
    /// It has had a machine.
    pub deployed: bool,
    /// It is to be gone: nothing may be added, and a reconciler clears it away.
    pub deleting: bool,
    /// Key that the create carried.
    #[serde(default)]
    pub idempotency_key: Option<String>,
}

/// Which machine has a name.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct NameRecord {
    /// Machine id.
    pub id: String,
}

/// Which app a machine is of.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct OwnedRecord {
    /// App name.
    pub app: String,
    /// Name.
    pub name: String,
    /// When it was claimed, milliseconds since the epoch.
    pub claimed_ms: u64,
}

/// A token.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct TokenRecord {
    /// Name.
    pub name: String,
    /// `admin`.
    pub kind: String,
    /// SHA-256 in hex, again: it is compared in constant time.
    pub sha256: String,
}

/// Prefix of the keys of this kind of record.
pub const APPS: &str = "/apps/";
/// Prefix of the keys of this kind of record.
pub const MACHINES: &str = "/machines/";
/// Prefix of the keys of this kind of record.
pub const NAMES: &str = "/machine-names/";
/// Prefix of the keys of this kind of record.
pub const TOKENS: &str = "/tokens/";

/// Key of the record that `org_key` names.
pub fn org_key(slug: &str) -> String {
    format!("/orgs/{slug}")
}

/// Key of the record that `network_key` names.
pub fn network_key(org: &str, name: &str) -> String {
    format!("/networks/{org}/{name}")
}

/// Key of the record that `counter_key` names.
pub fn counter_key(what: &str) -> String {
    format!("/counters/{what}")
}

/// Key of the record that `app_key` names.
pub fn app_key(app: &str) -> String {
    format!("{APPS}{app}")
}

/// Key of the record that `idempotency_key` names.
pub fn idempotency_key(key: &str) -> String {
    format!("/idempotency/apps/{key}")
}

/// Prefix of the names of an app's machines.
pub fn names_of(app: &str) -> String {
    format!("{NAMES}{app}/")
}

/// Key of the record that `name_key` names.
pub fn name_key(app: &str, name: &str) -> String {
    format!("{NAMES}{app}/{name}")
}

/// Key of the record that `machine_key` names.
pub fn machine_key(id: &str) -> String {
    format!("{MACHINES}{id}")
}

/// Key of the record that `token_key` names.
pub fn token_key(sha256: &str) -> String {
    format!("{TOKENS}{sha256}")
}

/// A record with the revision that last wrote it.
#[derive(Clone, Debug)]
pub struct Stored<T> {
    /// Its key.
    pub key: String,
    /// Revision that last wrote it.
    pub revision: Revision,
    /// The record.
    pub record: T,
}

/// The stored form of a record.
pub fn encode<T: Serialize>(record: &T) -> Bytes {
    serde_json::to_vec(record).expect("records are plain data").into()
}

fn decode<T: DeserializeOwned>(key: &str, value: &[u8]) -> Result<T, StoreError> {
    serde_json::from_slice(value).map_err(|err| {
        let what = std::io::Error::new(std::io::ErrorKind::InvalidData, format!("{key}: {err}"));
        StoreError::Failed(what.into())
    })
}

/// One record, if its key exists.
///
/// # Errors
/// The store's, and a record that does not parse.
pub async fn get<T: DeserializeOwned>(
    store: &dyn Store,
    key: &str,
) -> Result<Option<Stored<T>>, StoreError> {
    let found = store.range(KeyRange::key(key), None, 1).await?.entries.pop();
    let Some(kv) = found else { return Ok(None) };
    let record = decode(&kv.key, &kv.value)?;
    Ok(Some(Stored { key: kv.key, revision: kv.modified, record }))
}

/// All records below a prefix, in order of keys.
///
/// # Errors
/// As [`get`].
pub async fn list<T: DeserializeOwned>(
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
