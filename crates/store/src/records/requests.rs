//! Records of requests that carry an idempotency key.

use serde::{Deserialize, Serialize};

/// A request with an idempotency key. It is written before the request is carried out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RequestRecord {
    /// SHA-256 in hex of method, path and body.
    pub fingerprint: String,
    /// When it was first made, milliseconds since the epoch.
    pub begun_ms: u64,
    /// Names the party that has made it, without its token: the number of records of one
    /// party is limited.
    #[serde(default)]
    pub caller: String,
    /// The answer; `None` if it is not known how the request ended.
    #[serde(default)]
    pub answer: Option<RecordedAnswer>,
}

/// The answer to a request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RecordedAnswer {
    /// HTTP status.
    pub status: u16,
    /// Names and values of its headers.
    pub headers: Vec<(String, String)>,
    /// Its body.
    pub body: String,
}
