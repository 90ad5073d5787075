//! The lease of a machine, as its task grants and checks it. The rule is
//! [`model::lease`].
//!
//! Invariant: what the task holds in memory is what `host.db` has, since only the task
//! writes the lease of a machine that exists. Grants and guarded requests pass the task one by
//! one: of two callers that ask at once, one gets the lease.

use super::handle::Guard;
use super::task::Task;
use crate::db::LeaseChange;
use crate::record::Record;
use host_api::{AcquireLease, HostError};
use model::lease::{self, Lease, Wanted};
use rt::clock::rfc3339;

impl Task {
    /// Refuses a request that the lease of another caller guards against.
    pub(super) fn check_lease(&self, guard: &Guard) -> Result<(), HostError> {
        let Guard::Nonce(nonce) = guard else { return Ok(()) };
        let now_ms = self.host.clock.now_ms();
        lease::check(self.lease.as_ref(), nonce.as_deref(), now_ms).map_err(leased)
    }

    pub(super) async fn acquire_lease(
        &mut self,
        wanted: AcquireLease,
        nonce: Option<String>,
    ) -> Result<wire::machines::Lease, HostError> {
        let (wanted, now_ms) = (wanted.wanted(nonce), self.host.clock.now_ms());
        let rule = move |last| change_of_grant(last, &wanted, now_ms);
        let granted = self.host.db.change_lease(self.record.id, rule).await.map_err(failed)??;
        self.lease = Some(granted.clone());
        Ok(shown(&granted, &self.record))
    }

    pub(super) async fn release_lease(&mut self, nonce: Option<String>) -> Result<(), HostError> {
        let now_ms = self.host.clock.now_ms();
        let rule = move |last| change_of_release(last, nonce.as_deref(), now_ms);
        self.host.db.change_lease(self.record.id, rule).await.map_err(failed)??;
        self.lease = None;
        Ok(())
    }

    /// The lease that an update grants with its change. The guard has passed its caller.
    pub(super) fn lease_of_update(
        &self,
        wanted: Option<&AcquireLease>,
        nonce: Option<String>,
    ) -> Result<Option<Lease>, HostError> {
        let Some(wanted) = wanted else { return Ok(None) };
        let now_ms = self.host.clock.now_ms();
        let granted = lease::grant(self.lease.as_ref(), &wanted.wanted(nonce), now_ms);
        granted.map(Some).map_err(leased)
    }
}

/// The change and the answer of a request for a lease.
pub(crate) fn change_of_grant(
    last: Option<Lease>,
    wanted: &Wanted,
    now_ms: u64,
) -> (LeaseChange, Result<Lease, HostError>) {
    match lease::grant(last.as_ref(), wanted, now_ms) {
        Ok(granted) => (LeaseChange::Put(granted.clone()), Ok(granted)),
        Err(held) => (LeaseChange::Keep, Err(leased(held))),
    }
}

/// The change and the answer of a release.
pub(crate) fn change_of_release(
    last: Option<Lease>,
    nonce: Option<&str>,
    now_ms: u64,
) -> (LeaseChange, Result<(), HostError>) {
    match lease::check(last.as_ref(), nonce, now_ms) {
        Ok(()) => (LeaseChange::Remove, Ok(())),
        Err(held) => (LeaseChange::Keep, Err(leased(held))),
    }
}

/// A lease as the API shows it to its holder.
pub(crate) fn shown(lease: &Lease, record: &Record) -> wire::machines::Lease {
    wire::machines::Lease {
        nonce: Some(lease.nonce.clone()),
        expires_at: i64::try_from(lease.expires_ms.div_ceil(1000)).unwrap_or(i64::MAX),
        owner: lease.owner.clone(),
        description: lease.description.clone(),
        version: record.instance.to_string(),
    }
}

fn leased(held: &Lease) -> HostError {
    let (owner, expires_at) = (held.owner.clone(), rfc3339(held.expires_ms));
    HostError::Leased { owner, expires_at }
}

fn failed(err: sqlite::Error) -> HostError {
    HostError::Internal(rt::chain(&err))
}
