//! The lease of a machine: one holder at a time may change it.
//!
//! Invariant: at any moment at most one nonce passes [`check`] of a machine that is
//! leased. A lease ends by its own time; nothing has to end it.
//!
//! See <https://fly.io/docs/machines/api/machines-resource/#create-a-machine-lease>.

use std::time::Duration;

/// Time of a lease if none is asked for.
pub const DEFAULT_TTL: Duration = Duration::from_secs(60);
/// Longest time of a lease.
pub const MAX_TTL: Duration = Duration::from_secs(30 * 24 * 3600);
/// Most bytes of a lease's description.
pub const MAX_DESCRIPTION: usize = 1024;

/// A lease that has been granted. It may have expired since.
#[derive(Clone, PartialEq, Eq)]
pub struct Lease {
    /// Known to the holder; changes of the machine carry it.
    pub nonce: String,
    /// The holder, for people.
    pub owner: String,
    /// What the holder does, in the holder's words.
    pub description: String,
    /// When it expires, milliseconds since the epoch.
    pub expires_ms: u64,
}

impl std::fmt::Debug for Lease {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // Never the nonce: logs are read by others than the holder.
        let mut shown = f.debug_struct("Lease");
        shown.field("owner", &self.owner).field("expires_ms", &self.expires_ms);
        shown.finish_non_exhaustive()
    }
}

impl Lease {
    /// It has not expired.
    pub fn is_held(&self, now_ms: u64) -> bool {
        now_ms < self.expires_ms
    }
}

/// A lease that a caller asks for.
#[derive(Clone, PartialEq, Eq)]
pub struct Wanted {
    /// The nonce of a new lease. A request that is repeated has the same one.
    pub fresh_nonce: String,
    /// The nonce that the caller holds already, if any.
    pub held_nonce: Option<String>,
    /// The caller, for people.
    pub owner: String,
    /// What the caller does; `None` keeps that of the lease which is renewed.
    pub description: Option<String>,
    /// Time until it expires.
    pub ttl: Duration,
}

impl std::fmt::Debug for Wanted {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Wanted").field("owner", &self.owner).finish_non_exhaustive()
    }
}

/// Whether a change with this nonce is allowed. Without a lease every nonce is
/// ignored: the holder of one that has expired is not refused.
///
/// # Errors
/// The lease that another caller holds.
pub fn check<'a>(
    last: Option<&'a Lease>,
    nonce: Option<&str>,
    now_ms: u64,
) -> Result<(), &'a Lease> {
    match last.filter(|lease| lease.is_held(now_ms)) {
        Some(lease) if nonce != Some(lease.nonce.as_str()) => Err(lease),
        _ => Ok(()),
    }
}

/// The lease after a request for one: the holder's is renewed and keeps its nonce, also
/// when it has expired and no other has been granted since.
///
/// # Errors
/// The lease that another caller holds.
pub fn grant<'a>(
    last: Option<&'a Lease>,
    wanted: &Wanted,
    now_ms: u64,
) -> Result<Lease, &'a Lease> {
    let own = last.filter(|lease| {
        lease.nonce == wanted.fresh_nonce || wanted.held_nonce.as_ref() == Some(&lease.nonce)
    });
    if own.is_none() {
        check(last, None, now_ms)?;
    }
    let ttl = u64::try_from(wanted.ttl.min(MAX_TTL).as_millis()).unwrap_or(u64::MAX);
    let description = wanted.description.clone();
    Ok(Lease {
        nonce: own.map_or_else(|| wanted.fresh_nonce.clone(), |lease| lease.nonce.clone()),
        owner: own.map_or_else(|| wanted.owner.clone(), |lease| lease.owner.clone()),
        description: description
            .or_else(|| own.map(|lease| lease.description.clone()))
            .unwrap_or_default(),
        expires_ms: now_ms.saturating_add(ttl),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wanted(fresh: &str, held: Option<&str>) -> Wanted {
        Wanted {
            fresh_nonce: fresh.into(),
            held_nonce: held.map(str::to_owned),
            owner: format!("owner of {fresh}"),
            description: None,
            ttl: Duration::from_secs(10),
        }
    }

    #[test]
    fn changes_by_the_table() {
        let lease = grant(None, &wanted("a", None), 1_000).unwrap();
        for (nonce, now, allowed) in [
            (Some("a"), 1_000, true),
            (Some("b"), 1_000, false),
            (Some(""), 1_000, false),
            (None, 1_000, false),
            (None, 10_999, false),
            // It has expired: whatever nonce is sent, it is of a lease that is gone.
            (None, 11_000, true),
            (Some("a"), 11_000, true),
            (Some("b"), 11_000, true),
        ] {
            assert_eq!(check(Some(&lease), nonce, now).is_ok(), allowed, "{nonce:?} at {now}");
        }
        assert!(check(None, Some("a"), 0).is_ok(), "there is no lease");
    }

    #[test]
    fn one_lease_at_a_time() {
        let first = grant(None, &wanted("a", None), 0).unwrap();
        let refused = grant(Some(&first), &wanted("b", None), 9_999).unwrap_err();
        assert_eq!(refused.owner, "owner of a");
        assert!(grant(Some(&first), &wanted("b", Some("x")), 9_999).is_err());
        let second = grant(Some(&first), &wanted("b", Some("x")), 10_000).unwrap();
        assert_eq!((second.nonce.as_str(), second.expires_ms), ("b", 20_000));
        // The former holder comes back too late.
        assert!(grant(Some(&second), &wanted("c", Some("a")), 10_001).is_err());
    }

    #[test]
    fn a_renewal_keeps_nonce_owner_and_description() {
        let described = Wanted { description: Some("deploy".into()), ..wanted("a", None) };
        let first = grant(None, &described, 0).unwrap();
        let renewed = grant(Some(&first), &wanted("b", Some("a")), 5_000).unwrap();
        assert_eq!(renewed, Lease { expires_ms: 15_000, ..first.clone() });
        // Also one that has expired, if no other was granted since.
        let late = grant(Some(&first), &wanted("b", Some("a")), 50_000).unwrap();
        assert_eq!((late.nonce.as_str(), late.expires_ms), ("a", 60_000));
        // A request whose answer was lost is repeated with the nonce that it has chosen.
        let again = grant(Some(&first), &described, 1_000).unwrap();
        assert_eq!(again.nonce, "a");
    }

    #[test]
    fn a_time_is_cut_to_the_longest_and_a_nonce_is_not_shown() {
        let long = Wanted { ttl: Duration::MAX, ..wanted("secret", None) };
        let lease = grant(None, &long, 5).unwrap();
        assert_eq!(lease.expires_ms, 5 + 30 * 24 * 3_600_000);
        assert!(!format!("{lease:?} {long:?}").contains("nonce"));
        let nonces = format!("{lease:?}").replace("owner of secret", "");
        assert!(!nonces.contains("secret"), "{nonces}");
    }
}
