//! `Leases` of the host in memory, by the same rule as a real one's.

use super::FakeHost;
use async_trait::async_trait;
use host_api::{AcquireLease, CallContext, HostError, Leases};
use model::id::MachineId;
use model::lease;
use wire::machines::Lease;

#[async_trait]
impl Leases for FakeHost {
    async fn acquire_lease(
        &self,
        context: CallContext,
        id: MachineId,
        wanted: AcquireLease,
    ) -> Result<Lease, HostError> {
        self.enter_call("acquire_lease", &context).await?;
        self.owned(id, context.epoch)?;
        self.lease_with(id, Some(&wanted), &context)?;
        self.leave_call("acquire_lease").await?;
        let granted = self.held_lease(id);
        granted.ok_or_else(|| HostError::Internal("the lease is too short".into()))
    }

    async fn lease(&self, context: CallContext, id: MachineId) -> Result<Option<Lease>, HostError> {
        self.enter_call("lease", &context).await?;
        self.owned(id, None)?;
        Ok(self.held_lease(id))
    }

    async fn release_lease(&self, context: CallContext, id: MachineId) -> Result<(), HostError> {
        self.enter_call("release_lease", &context).await?;
        self.owned(id, context.epoch)?;
        let (now, nonce) = (self.now_ms(), context.lease_nonce.as_deref());
        let mut state = self.lock();
        lease::check(state.leases.get(&id), nonce, now).map_err(leased)?;
        state.leases.remove(&id);
        drop(state);
        self.touch();
        Ok(())
    }
}

impl FakeHost {
    /// Moves the host's clock, so that leases expire.
    pub fn pass_time(&self, time: std::time::Duration) {
        self.0.clock.advance(time);
    }

    /// Refuses a call that the lease of another caller guards against.
    pub(super) fn check_lease(
        &self,
        id: MachineId,
        context: &CallContext,
    ) -> Result<(), HostError> {
        if !context.respects_leases() {
            return Ok(());
        }
        let (now, nonce) = (self.now_ms(), context.lease_nonce.as_deref());
        lease::check(self.lock().leases.get(&id), nonce, now).map_err(leased)
    }

    /// Grants the lease that a call asks for, if it does; its nonce.
    pub(super) fn lease_with(
        &self,
        id: MachineId,
        wanted: Option<&AcquireLease>,
        context: &CallContext,
    ) -> Result<Option<String>, HostError> {
        let Some(wanted) = wanted else { return Ok(None) };
        let (now, wanted) = (self.now_ms(), wanted.wanted(context.lease_nonce.clone()));
        let mut state = self.lock();
        let granted = lease::grant(state.leases.get(&id), &wanted, now).map_err(leased)?;
        let nonce = granted.nonce.clone();
        state.leases.insert(id, granted);
        drop(state);
        self.touch();
        Ok(Some(nonce))
    }

    pub(super) fn lease_in_list(&self, id: &str) -> Option<Lease> {
        Some(Lease { nonce: None, ..self.held_lease(id.parse().ok()?)? })
    }

    fn held_lease(&self, id: MachineId) -> Option<Lease> {
        let now = self.now_ms();
        let state = self.lock();
        let lease = state.leases.get(&id).filter(|lease| lease.is_held(now))?;
        let version = state.machines.get(&id).map(|kept| kept.machine.version.clone());
        Some(Lease {
            nonce: Some(lease.nonce.clone()),
            expires_at: i64::try_from(lease.expires_ms.div_ceil(1000)).unwrap_or(i64::MAX),
            owner: lease.owner.clone(),
            description: lease.description.clone(),
            version: version.unwrap_or_default(),
        })
    }
}

fn leased(held: &lease::Lease) -> HostError {
    let (owner, expires_at) = (held.owner.clone(), rt::clock::rfc3339(held.expires_ms));
    HostError::Leased { owner, expires_at }
}
