//! API tokens.

use serde::{Deserialize, Serialize};

/// A token.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct TokenRecord {
    /// Name.
    pub name: String,
    /// `admin`.
    pub kind: String,
    /// SHA-256 of the token in hex, as in the key, for the comparison in
    /// constant time.
    pub sha256: String,
}
