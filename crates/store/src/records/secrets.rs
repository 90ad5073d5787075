//! Secrets and secret keys of apps, sealed.

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use wire::secrets::SecretScope;

/// The secrets of one app. It stays when the last secret is removed: versions only grow.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct AppSecretsRecord {
    /// Grows with each change, and is never smaller than the milliseconds since the epoch
    /// when it was made: it also grows beyond those of a store that was lost.
    pub version: u64,
    /// In order of name and scope, each pair once.
    pub secrets: Vec<SecretRecord>,
}

/// One secret.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SecretRecord {
    /// Name.
    pub name: String,
    /// The machines that it is for; `None` means all of the app.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scope: Option<SecretScope>,
    /// Keyed hash of the value, in hex.
    pub digest: String,
    /// The value, sealed, in base64.
    pub sealed: String,
    /// Bytes of the value.
    pub size: u64,
    /// Milliseconds since the epoch.
    pub created_ms: u64,
    /// Last change of the value, milliseconds since the epoch.
    pub updated_ms: u64,
    /// Version of the app's secrets that the value came with.
    pub version: u64,
}

/// The secret keys of one app.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SecretKeysRecord {
    /// As [`AppSecretsRecord::version`].
    pub version: u64,
    /// By name.
    pub keys: BTreeMap<String, SecretKeyRecord>,
}

/// One secret key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SecretKeyRecord {
    /// Its algorithm, such as `hs256`.
    pub kind: String,
    /// Its public part in base64, if its algorithm has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub public_key: Option<String>,
    /// The key, sealed, in base64.
    pub sealed: String,
    /// Milliseconds since the epoch.
    pub created_ms: u64,
}
