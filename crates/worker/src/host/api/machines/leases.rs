//! Leases: granted by the task of a machine that exists, and in `host.db` directly for a
//! destroyed one, which has no task.

use crate::host::registry::Worker;
use crate::machine::view::View;
use crate::machine::{Guard, Request, change_of_grant, change_of_release, shown};
use async_trait::async_trait;
use host_api::{AcquireLease, CallContext, HostError, Leases, MachineFilter};
use model::id::MachineId;
use model::lease;
use model::life::State;
use std::collections::BTreeMap;
use wire::machines::{Lease, Machine};

#[async_trait]
impl Leases for Worker {
    async fn acquire_lease(
        &self,
        context: CallContext,
        id: MachineId,
        wanted: AcquireLease,
    ) -> Result<Lease, HostError> {
        let call = async {
            let handle = self.owned(&context, id).await?;
            let view = handle.view();
            let nonce = context.lease_nonce.clone();
            if view.record.state != State::Destroyed {
                let request = |reply| Request::AcquireLease(wanted, nonce, reply);
                return self.ask(&handle, None, Guard::Exempt, request).await;
            }
            let (wanted, now_ms) = (wanted.wanted(nonce), self.0.context.clock.now_ms());
            let rule = move |last| change_of_grant(last, &wanted, now_ms);
            let granted = self.0.context.db.change_lease(id, rule).await.map_err(failed)??;
            Ok(shown(&granted, &view.record))
        };
        self.within(&context, call).await
    }

    async fn lease(&self, context: CallContext, id: MachineId) -> Result<Option<Lease>, HostError> {
        let view = self.machine_handle(id)?.view();
        let read = async {
            let last = self.0.context.db.lease(id).await.map_err(failed)?;
            let now_ms = self.0.context.clock.now_ms();
            Ok(last.filter(|lease| lease.is_held(now_ms)).map(|lease| shown(&lease, &view.record)))
        };
        self.within(&context, read).await
    }

    async fn release_lease(&self, context: CallContext, id: MachineId) -> Result<(), HostError> {
        let call = async {
            let handle = self.owned(&context, id).await?;
            let nonce = context.lease_nonce.clone();
            if handle.view().record.state != State::Destroyed {
                let request = |reply| Request::ReleaseLease(nonce, reply);
                return self.ask(&handle, None, Guard::Exempt, request).await;
            }
            let now_ms = self.0.context.clock.now_ms();
            let rule = move |last| change_of_release(last, nonce.as_deref(), now_ms);
            self.0.context.db.change_lease(id, rule).await.map_err(failed)?
        };
        self.within(&context, call).await
    }
}

impl Worker {
    /// The answer to a create or an update: with the nonce of the lease that it asked for,
    /// also if it is repeated.
    pub(super) async fn show_leased(
        &self,
        context: &CallContext,
        view: &View,
        wanted: Option<&AcquireLease>,
    ) -> Result<Machine, HostError> {
        let mut machine = self.show(view, false);
        if let Some(wanted) = wanted {
            let last = self.0.context.db.lease(view.record.id).await.map_err(failed)?;
            let own = |lease: &lease::Lease| {
                lease.nonce == wanted.nonce || context.lease_nonce.as_ref() == Some(&lease.nonce)
            };
            machine.nonce = last.filter(own).map(|lease| lease.nonce);
        }
        Ok(machine)
    }

    /// The leases that a list shows, by machine.
    pub(super) async fn leases_for_list(
        &self,
        filter: &MachineFilter,
    ) -> Result<BTreeMap<String, lease::Lease>, HostError> {
        if !filter.leases {
            return Ok(BTreeMap::new());
        }
        let now_ms = self.0.context.clock.now_ms();
        self.0.context.db.held_leases(now_ms).await.map_err(failed)
    }
}

/// A machine's lease as a list shows it: without the nonce.
pub(super) fn in_list(leases: &BTreeMap<String, lease::Lease>, view: &View) -> Option<Lease> {
    let lease = leases.get(&view.record.id.to_string())?;
    Some(Lease { nonce: None, ..shown(lease, &view.record) })
}

fn failed(err: sqlite::Error) -> HostError {
    HostError::Internal(rt::chain(&err))
}
