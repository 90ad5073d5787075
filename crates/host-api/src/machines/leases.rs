//! Leases of machines: one holder at a time may change a machine.

use crate::{CallContext, HostError};
use async_trait::async_trait;
use model::id::MachineId;
use model::lease::Wanted;
use serde::{Deserialize, Serialize};
use std::time::Duration;
use wire::machines::Lease;

/// Leases of the machines of one host. The rule is [`model::lease`].
///
/// A lease guards update, start, stop, suspend, restart, cordon and destroy against
/// users ([`crate::Source::User`]) whose [`CallContext::lease_nonce`] is not that of the
/// lease: [`HostError::Leased`]. The edge's wakes and idle stops, restarts by policy and
/// the control plane's own changes are never refused by it.
#[async_trait]
pub trait Leases: Send + Sync {
    /// Grants a lease, also of a machine that is destroyed, or renews the one whose nonce
    /// the call carries. Durable once it is answered.
    ///
    /// # Errors
    /// [`HostError::Leased`] if another caller holds one.
    async fn acquire_lease(
        &self,
        context: CallContext,
        id: MachineId,
        wanted: AcquireLease,
    ) -> Result<Lease, HostError>;

    /// The lease that is held, with its nonce; `None` if there is none.
    async fn lease(&self, context: CallContext, id: MachineId) -> Result<Option<Lease>, HostError>;

    /// Ends the lease whose nonce the call carries. There being none is no failure.
    ///
    /// # Errors
    /// [`HostError::Leased`] if another caller holds one.
    async fn release_lease(&self, context: CallContext, id: MachineId) -> Result<(), HostError>;
}

/// A lease that a caller asks for.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AcquireLease {
    /// The nonce of a new lease. A request that is repeated has the same one.
    pub nonce: String,
    /// The caller, for people.
    pub owner: String,
    /// What the caller does; `None` keeps that of the lease which is renewed.
    #[serde(default)]
    pub description: Option<String>,
    /// Milliseconds until it expires.
    pub ttl_ms: u64,
}

impl std::fmt::Debug for AcquireLease {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("AcquireLease").field("owner", &self.owner).finish_non_exhaustive()
    }
}

impl AcquireLease {
    /// As the rule takes it, for a caller that holds `held_nonce`.
    pub fn wanted(&self, held_nonce: Option<String>) -> Wanted {
        Wanted {
            fresh_nonce: self.nonce.clone(),
            held_nonce,
            owner: self.owner.clone(),
            description: self.description.clone(),
            ttl: Duration::from_millis(self.ttl_ms),
        }
    }
}
