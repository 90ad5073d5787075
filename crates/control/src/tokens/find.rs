//! From the text of a token to its record and what it permits.

use super::scope::rights_of;
use crate::{Error, Grant, Platform, Rights, lookup};
use sha2::{Digest, Sha256};
use std::sync::Arc;
use store::records::{self, Stored, TokenRecord};
use subtle::ConstantTimeEq;

/// A valid token.
#[derive(Clone, Debug)]
pub(crate) struct Found {
    /// Its record.
    pub(crate) record: TokenRecord,
    /// All that restricts it; `None` for an admin token.
    pub(crate) grant: Option<Grant>,
}

impl Found {
    /// What the caller with these tokens may do.
    pub(crate) fn rights(tokens: &[Self]) -> Rights {
        let grants: Option<Vec<Grant>> = tokens.iter().map(|found| found.grant.clone()).collect();
        grants.map_or(Rights::All, |grants| Rights::Grants(Arc::from(grants)))
    }
}

/// Why the text of a token is not accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Invalid {
    /// There is no such token.
    Unknown,
    /// It was one until its time ended.
    Expired,
}

/// The valid token with this text.
///
/// # Errors
/// The store failed.
pub(crate) async fn find(
    platform: &Platform,
    token: &str,
) -> Result<Result<Found, Invalid>, Error> {
    let sha256 = hash(token.as_bytes());
    let key = records::token_key(&sha256);
    let found: Option<Stored<TokenRecord>> = lookup::get(platform, &key).await?;
    let same = |record: &TokenRecord| bool::from(record.sha256.as_bytes().ct_eq(sha256.as_bytes()));
    let Some(record) = found.map(|found| found.record).filter(same) else {
        return Ok(Err(Invalid::Unknown));
    };
    if record.expires_ms.is_some_and(|end| end <= platform.clock().now_ms()) {
        return Ok(Err(Invalid::Expired));
    }
    let grant = rights_of(&record).map(|caveats| Grant { token: record.name.clone(), caveats });
    Ok(Ok(Found { record, grant }))
}

/// Whether there is a valid token with this text.
///
/// # Errors
/// The store failed.
pub async fn is_valid(platform: &Platform, token: &str) -> Result<bool, Error> {
    Ok(find(platform, token).await?.is_ok())
}

/// What is stored of a token: its SHA-256 in hex.
pub(super) fn hash(token: &[u8]) -> String {
    Sha256::digest(token).iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_known_hash() {
        let expected = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(hash(b"abc"), expected);
    }
}
