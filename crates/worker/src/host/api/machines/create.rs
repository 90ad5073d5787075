//! Creates a machine: whole or not at all, also if the caller leaves, and once however
//! often it is called.

use crate::db::{AddError, Change};
use crate::host::registry::{Host, Worker};
use crate::machine::view::View;
use crate::machine::{AtStart, Guard, Handle, Request, new_event};
use crate::record::Record;
use host_api::{CallContext, CreateMachine, HostError};
use model::address::Slot;
use model::id::{EventId, InstanceId};
use model::lease;
use model::life::State;
use std::sync::Arc;
use wire::machines::Machine;

impl Worker {
    pub(super) async fn create_machine(
        &self,
        context: CallContext,
        create: CreateMachine,
    ) -> Result<Machine, HostError> {
        let (worker, call, wanted) = (self.clone(), context.clone(), create.lease.clone());
        // A task of its own: the caller may leave at any moment.
        let created = self.0.context.tasks.spawn(async move {
            // One create of an id at a time.
            let turn = worker.0.creates.lock_of(create.id);
            let _turn = turn.lock().await;
            worker.create_or_find(create, &call).await
        });
        let answer = async {
            let joined = created.await;
            joined.unwrap_or_else(|err| Err(HostError::Internal(rt::chain(&err))))
        };
        let view = self.within(&context, answer).await?.view();
        self.show_leased(&context, &view, wanted.as_ref()).await
    }

    async fn create_or_find(
        &self,
        create: CreateMachine,
        call: &CallContext,
    ) -> Result<Handle, HostError> {
        let Some(handle) = self.0.handle(create.id) else {
            return create_new(&self.0, create, call).await;
        };
        let record = handle.view().record.clone();
        let known = record.given_up.unwrap_or(record.epoch);
        if create.epoch < known {
            return Err(HostError::StaleEpoch { sent: create.epoch, known });
        }
        if record.given_up.is_some() {
            return match record.state {
                // It comes back to this host.
                State::Destroyed => create_new(&self.0, create, call).await,
                _ => Err(HostError::Busy(format!(
                    "machine {} is still being removed from this host",
                    create.id
                ))),
            };
        }
        if !record.is_of(&create) {
            let text = format!("another machine of the id {} exists", create.id);
            return Err(HostError::Conflict(text));
        }
        if create.epoch > record.epoch {
            let epoch = create.epoch;
            let set = |reply| Request::SetEpoch(epoch, reply);
            self.ask(&handle, None, Guard::Exempt, set).await?;
        }
        Ok(handle)
    }
}

async fn create_new(
    host: &Arc<Host>,
    create: CreateMachine,
    call: &CallContext,
) -> Result<Handle, HostError> {
    // No image is removed between the look at the machines and this one's row.
    let _images = host.images.read().await;
    let context = &host.context;
    let now = context.clock.now_ms();
    let instance = InstanceId::new(now, context.rng.wide_bits() >> 49);
    let granted = create.lease.as_ref().map(|lease| lease::grant(None, &lease.wanted(None), now));
    // There is no lease yet that could refuse it.
    let granted = granted.and_then(Result::ok);
    let record = Record::new(create, instance, Slot(0), now);
    let id = record.id;
    if record.want == model::life::Want::Run {
        let room = context.capacity.reserve(id, context.booked_mib(&record));
        room.map_err(|err| HostError::NoCapacity(err.to_string()))?;
    }
    let disk = context.disk_path(&record);
    if let Err(err) = context.disks.book(&disk, record.scratch_bytes()).await {
        context.capacity.release(id);
        return Err(HostError::NoCapacity(rt::chain(&err)));
    }
    if call.deadline.remaining().is_zero() {
        // The caller has received the failure, and may have created it elsewhere.
        context.capacity.release(id);
        context.disks.unbook(&disk);
        return Err(HostError::DeadlineExceeded("the machine was not created in time".into()));
    }
    let event_id = EventId::new(now, context.rng.wide_bits() >> 49);
    let event = new_event(event_id, "launch", State::Created, call.source, now);
    let call_key = call.idempotency_key.clone();
    let change =
        Change { events: vec![event.clone()], new_version: true, call_key, lease: granted.clone() };
    let slots = context.config.pool.machines();
    let place = move |slot| Record { slot: Some(slot), ..record };
    match context.db.add(place, slots, context.blocked_slots.list(), change).await {
        Ok(record) => {
            let addresses = context.addresses(&record);
            let view = View::new(record, addresses, vec![event]);
            Ok(host.run_machine(view, granted, AtStart::NoVm))
        }
        Err(err) => {
            context.capacity.release(id);
            context.disks.unbook(&disk);
            Err(match err {
                AddError::NameTaken
                | AddError::IdTaken
                | AddError::Repeated
                | AddError::Volume(_) => HostError::Conflict(err.to_string()),
                AddError::NoSlot => HostError::NoCapacity(err.to_string()),
                AddError::Database(_) => HostError::Internal(rt::chain(&err)),
            })
        }
    }
}
