//! From the text of a token to its record and what it permits.

use super::scope::rights_of;
use crate::{Error, Grant, Platform, Rights, lookup};
use macaroon::{Caveat, LOCATION, Macaroon, Roles};
use sha2::{Digest, Sha256};
use std::sync::Arc;
use std::time::Duration;
use store::records::{self, MemberRecord, Stored, TokenRecord};
use subtle::ConstantTimeEq;

/// Pause before the tokens of a stream are looked up again after a failure of the store.
const RETRY: Duration = Duration::from_secs(1);
/// How often the end of a token is compared with the clock, which may be set at any time.
const LOOK_AT_CLOCK: Duration = Duration::from_secs(1);

/// A valid token.
#[derive(Clone, Debug)]
pub(crate) struct Found {
    /// Its record.
    pub(crate) record: TokenRecord,
    /// All that restricts it; `None` for an admin token.
    pub(crate) grant: Option<Grant>,
    /// SHA-256 in hex of its text: a macaroon that its holder has narrowed is another text with
    /// the same record.
    pub(crate) presented: String,
    /// The part of it that is in the macaroon itself, where its holder may have added some.
    pub(super) narrowed: Vec<Caveat>,
    /// The part of it that is due to the role of the member.
    bound: Vec<Caveat>,
}

impl Found {
    /// The caller with these tokens by name: the member of the first one, else its name.
    pub(crate) fn holder(tokens: &[Self]) -> String {
        let token = tokens.first().map(|found| &found.record);
        let name = token.map(|token| token.member.as_ref().unwrap_or(&token.name));
        name.cloned().unwrap_or_default()
    }

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
    let presented = hash(token.as_bytes());
    let known = match by_hash(platform, &presented).await? {
        Some(record) if !record.macaroon => Some((record, vec![])),
        _ => macaroon(platform, token).await?,
    };
    let Some((record, narrowed)) = known else { return Ok(Err(Invalid::Unknown)) };
    let now = platform.clock().now_ms();
    if record.expires_ms.is_some_and(|end| end <= now) || is_outside(&narrowed, now) {
        return Ok(Err(Invalid::Expired));
    }
    let Some(mut caveats) = rights_of(&record) else {
        return Ok(Ok(Found { record, grant: None, presented, narrowed, bound: vec![] }));
    };
    let Some(bound) = bound_of_member(platform, &record).await? else {
        return Ok(Err(Invalid::Unknown));
    };
    caveats.extend(narrowed.iter().chain(&bound).cloned());
    let grant = Some(Grant { token: record.name.clone(), caveats });
    Ok(Ok(Found { record, grant, presented, narrowed, bound }))
}

/// The end of a token's life, milliseconds since the epoch.
pub(super) fn end_of(found: &Found) -> Option<u64> {
    let windows = found.narrowed.iter().filter_map(|caveat| match caveat {
        Caveat::ValidityWindow { not_after, .. } => {
            Some(u64::try_from(*not_after).unwrap_or(0).saturating_add(1).saturating_mul(1000))
        }
        _ => None,
    });
    windows.chain(found.record.expires_ms).min()
}

/// Returns once one of the tokens has ended or been revoked, or its member has left or has
/// another role. The streams that were opened with it end then.
pub(crate) async fn until_changed(platform: Platform, tokens: Arc<[Found]>) {
    let mut changes = platform.cache().access_changes();
    let end = tokens.iter().filter_map(end_of).min();
    loop {
        changes.mark_unchanged();
        let mut failed = false;
        for token in &*tokens {
            match is_unchanged(&platform, token).await {
                Ok(true) => {}
                Ok(false) => return,
                // A store that fails for a moment ends no stream.
                Err(err) => {
                    tracing::warn!(error = %err, "look a token up again");
                    failed = true;
                }
            }
        }
        let due = async {
            match end {
                _ if failed => tokio::time::sleep(RETRY).await,
                Some(end) => {
                    while platform.clock().now_ms() < end {
                        tokio::time::sleep(LOOK_AT_CLOCK).await;
                    }
                }
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            changed = changes.changed() => if changed.is_err() { return },
            () = due => {}
        }
    }
}

async fn is_unchanged(platform: &Platform, found: &Found) -> Result<bool, Error> {
    if end_of(found).is_some_and(|end| end <= platform.clock().now_ms())
        || by_hash(platform, &found.record.sha256).await?.is_none()
    {
        return Ok(false);
    }
    Ok(bound_of_member(platform, &found.record).await?.as_ref() == Some(&found.bound))
}

async fn by_hash(platform: &Platform, sha256: &str) -> Result<Option<TokenRecord>, Error> {
    let found: Option<Stored<TokenRecord>> =
        lookup::get(platform, &records::token_key(sha256)).await?;
    let same = |record: &TokenRecord| bool::from(record.sha256.as_bytes().ct_eq(sha256.as_bytes()));
    Ok(found.map(|found| found.record).filter(same))
}

/// The record of a macaroon of this platform, and what its holder has narrowed it by.
async fn macaroon(
    platform: &Platform,
    text: &str,
) -> Result<Option<(TokenRecord, Vec<Caveat>)>, Error> {
    if !Macaroon::has_prefix(text) {
        return Ok(None);
    }
    let Ok(token) = Macaroon::parse(text) else { return Ok(None) };
    let key = platform.config().token_secret.key(token.key_id());
    if token.location() != LOCATION || !key.is_some_and(|key| token.verify(&key)) {
        return Ok(None);
    }
    // Without its record it has been revoked.
    let record = by_hash(platform, &hash(token.key_id())).await?.filter(|record| record.macaroon);
    Ok(record.map(|record| (record, token.caveats().to_vec())))
}

/// Whether a time that the holder has set is not now.
fn is_outside(caveats: &[Caveat], now_ms: u64) -> bool {
    let now = i64::try_from(now_ms / 1000).unwrap_or(i64::MAX);
    caveats.iter().any(|caveat| match caveat {
        Caveat::ValidityWindow { not_before, not_after } => {
            !(*not_before..=*not_after).contains(&now)
        }
        _ => false,
    })
}

/// What the role of the member permits; `None` if the member is not there any more.
async fn bound_of_member(
    platform: &Platform,
    record: &TokenRecord,
) -> Result<Option<Vec<Caveat>>, Error> {
    let (Some(email), Some(org)) = (&record.member, record.org) else { return Ok(Some(vec![])) };
    let found: Option<Stored<MemberRecord>> =
        lookup::get(platform, &records::member_key(org, email)).await?;
    // A token of an earlier membership stays invalid when the address is added again.
    let found = found.filter(|member| record.created_ms >= member.record.joined_ms);
    Ok(found.map(|member| match member.record.role.as_str() {
        "admin" => vec![],
        "member" => vec![Caveat::AllowedRoles(Roles::MEMBER)],
        "readonly" => {
            vec![Caveat::AllowedRoles(Roles::MEMBER), Caveat::Action(macaroon::Action::READ)]
        }
        // A role of a newer version.
        _ => vec![Caveat::Action(macaroon::Action::NONE)],
    }))
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
    hex::encode(Sha256::digest(token))
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
