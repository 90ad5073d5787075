//! Requests to a machine. Each answer means that the desired state is durable.

use super::events::with_reason;
use super::handle::{Call, Request};
use super::phase::VmPhase;
use super::step::{self, RequestedAction, Step};
use super::task::Task;
use crate::record::{Record, StopRequest, is_standby};
use guest_protocol::ToGuest;
use host_api::{ChangeMetadata, HostError, Source, Stop, UpdateMachine};
use model::id::{Epoch, InstanceId};
use model::life::{Event, State, Want};
use std::collections::BTreeMap;
use std::sync::Arc;
use wire::machines::{MachineConfig, MachineEvent, Started};

type Answer<T> = Result<T, HostError>;

impl Task {
    pub(super) async fn on_call(&mut self, Call { request, key, guard }: Call) {
        if let Err(refused) = self.check_lease(&guard) {
            return request.refuse(refused);
        }
        self.call_key = key;
        self.handle(request).await;
        (self.call_key, self.call_lease) = (None, None);
    }

    async fn handle(&mut self, request: Request) {
        // The caller may have gone: the change is made all the same.
        match request {
            Request::Start(source, reply) => drop(reply.send(self.start(source).await)),
            Request::Stop(stop, source, reason, reply) => {
                drop(reply.send(self.stop(stop, source, reason).await));
            }
            Request::Suspend(source, reason, reply) => {
                drop(reply.send(self.request_suspend(source, reason).await));
            }
            Request::Restart(stop, force, source, reply) => {
                drop(reply.send(self.restart(stop, force, source).await));
            }
            Request::Update(update, nonce, reply) => {
                drop(reply.send(self.update(*update, nonce).await));
            }
            Request::Destroy(force, reply) => drop(reply.send(self.destroy(force).await)),
            Request::Cordon(cordoned, reply) => drop(reply.send(self.cordon(cordoned).await)),
            Request::Metadata(change, version, reply) => {
                drop(reply.send(self.metadata(change, version).await));
            }
            Request::Signal(signal, reply) => drop(reply.send(self.signal(signal).await)),
            Request::Busy(ttl_ms, reply) => drop(reply.send(self.set_busy(ttl_ms).await)),
            Request::AcquireLease(wanted, nonce, reply) => {
                drop(reply.send(self.acquire_lease(wanted, nonce).await));
            }
            Request::CheckGuard(reply) => drop(reply.send(Ok(()))),
            Request::ReleaseLease(nonce, reply) => {
                drop(reply.send(self.release_lease(nonce).await));
            }
            Request::GiveUp(epoch, reply) => drop(reply.send(self.give_up(epoch).await)),
            Request::SetEpoch(epoch, reply) => drop(reply.send(self.set_epoch(epoch).await)),
            Request::Drained => self.on_drained(),
            Request::Health(change) => self.on_health(*change).await,
        }
    }

    async fn start(&mut self, source: Source) -> Answer<Started> {
        let previous = self.record.state;
        let mut started = Started {
            previous_state: previous.as_str().into(),
            migrated: false,
            new_host: String::new(),
            resumed: false,
        };
        self.refuse_standby(&self.record, source)?;
        let record = self.after(Event::Start)?;
        if previous == State::Starting || (record == self.record && record.want == Want::Run) {
            return self.change_nothing().await.map(|()| started);
        }
        let event = self.ids.event("start", record.state, source);
        self.run_with(record, vec![event], false).await?;
        started.resumed = matches!(self.vm, VmPhase::BootChosen(Some(_)));
        Ok(started)
    }

    async fn stop(&mut self, stop: Stop, source: Source, reason: Option<String>) -> Answer<()> {
        let mut record = self.after(Event::Stop)?;
        let was = (self.record.state, self.record.want);
        record.want = Want::Stop;
        record.restart_at = None;
        if record.state != self.record.state {
            record.drop_snapshot();
        }
        let order = record.stop_request(stop.signal, stop.timeout_ms);
        let again = was.0 == State::Stopping && self.record.stop != Some(order);
        if record.state == State::Stopping {
            record.stop = Some(order);
        }
        if was == (record.state, record.want) && !again {
            return self.change_nothing().await;
        }
        let mut event = self.ids.event("stop", record.state, source);
        event.request = reason.map(with_reason);
        self.try_commit(record, vec![event], false).await?;
        // That of a snapshot that has been dropped.
        self.remove_unused_disk().await;
        if again {
            // A second, perhaps harsher stop replaces the first.
            self.repeat_stop();
        }
        Ok(())
    }

    async fn restart(&mut self, stop: Stop, force: bool, source: Source) -> Answer<()> {
        self.refuse_standby(&self.record, source)?;
        let mut record = self.after(Event::Restart)?;
        let kill = StopRequest { signal: 9, timeout_ms: 0 };
        let order = record.stop_request(stop.signal, stop.timeout_ms);
        let order = if force { kill } else { order };
        let down_first = record.state != State::Starting;
        let again = down_first && self.record.stop.is_some_and(|earlier| earlier != order);
        record.stop = down_first.then_some(order);
        record.restart_at = None;
        record.drop_snapshot();
        let event = self.ids.event("restart", record.state, source);
        self.run_with(record, vec![event], false).await?;
        if again {
            self.repeat_stop();
        }
        Ok(())
    }

    /// The new instance replaces the old one, whose VM goes down.
    async fn update(&mut self, update: UpdateMachine, nonce: Option<String>) -> Answer<()> {
        let current = self.record.instance;
        if update.current_version.is_some_and(|expected| expected != current) {
            return Err(HostError::VersionMismatch(format!(
                "machine is at version {current}, not at the version given as current_version"
            )));
        }
        let held_back = update.skip_launch || self.record.never_started;
        let launch = !held_back && !is_standby(&update.config);
        let mut record = self.after(Event::Update { launch })?;
        self.call_lease = self.lease_of_update(update.lease.as_ref(), nonce)?;
        record.instance = self.ids.instance();
        record.cordoned = update.cordoned.unwrap_or(record.cordoned);
        record.config = Arc::new(self.config_of_update(update.config, update.labels)?);
        record.image = update.image;
        record.skip_secrets = update.skip_secrets;
        record.container_images = update.container_images;
        record.restarts.clear();
        record.restart_at = None;
        record.failure = None;
        record.drop_snapshot();
        let event = self.ids.event("update", record.state, Source::User);
        if launch {
            return self.run_with(record, vec![event], true).await;
        }
        record.want = Want::Stop;
        let old_disk = self.host.disk_path(&self.record);
        self.try_commit(record, vec![event], true).await?;
        if old_disk != self.host.disk_path(&self.record) {
            // The next start books the disk of the new instance.
            self.host.disks.unbook(&old_disk);
        }
        self.remove_unused_disk().await;
        Ok(())
    }

    fn config_of_update(
        &self,
        mut config: MachineConfig,
        change: Option<ChangeMetadata>,
    ) -> Answer<MachineConfig> {
        if let Some(change) = change {
            let mut labels = self.record.config.metadata.clone().unwrap_or_default();
            change_labels(&mut labels, change)?;
            config.metadata = (!labels.is_empty()).then_some(labels);
        }
        Ok(config)
    }

    /// The machine declares how long it is not to be stopped as idle.
    async fn set_busy(&mut self, ttl_ms: u64) -> Answer<Option<u64>> {
        let state = self.record.state;
        if state != State::Started {
            let why = format!("machine is {state}: it has to be started for this");
            return Err(HostError::Conflict(why));
        }
        let until = self.host.clock.now_ms().saturating_add(ttl_ms);
        let record = Record { busy_until: (ttl_ms > 0).then_some(until), ..self.record.clone() };
        let until = record.busy_until;
        self.try_commit(record, Vec::new(), false).await?;
        Ok(until)
    }

    async fn destroy(&mut self, force: bool) -> Answer<()> {
        if self.record.state == State::Destroying {
            return self.change_nothing().await;
        }
        let mut record = self.after(Event::Destroy { force })?;
        record.want = Want::Destroy;
        record.restart_at = None;
        let event = self.ids.event("destroy", State::Destroying, Source::User);
        self.try_commit(record, vec![event], false).await
    }

    /// The machine is removed from this host, in any state. Its event has the reason; its
    /// owner is another host.
    async fn give_up(&mut self, epoch: Epoch) -> Answer<()> {
        if self.record.given_up.is_some_and(|known| known >= epoch) {
            return Ok(());
        }
        let mut record = self.record.clone();
        record.given_up = Some(epoch);
        if let Ok(state) = record.state.after(Event::Destroy { force: true }) {
            record.state = state;
        }
        record.want = Want::Destroy;
        record.restart_at = None;
        let text = format!("another host owns the machine since epoch {epoch}");
        self.host.log_line(&record, &text);
        let mut event = self.ids.event("destroy", record.state, Source::Host);
        event.request = Some(with_reason(text));
        self.try_commit(record, vec![event], false).await
    }

    async fn set_epoch(&mut self, epoch: Epoch) -> Answer<()> {
        let record = Record { epoch: epoch.max(self.record.epoch), ..self.record.clone() };
        if record == self.record {
            return self.change_nothing().await;
        }
        self.try_commit(record, Vec::new(), false).await
    }

    async fn cordon(&mut self, cordoned: bool) -> Answer<()> {
        let mut record = self.record.clone();
        if std::mem::replace(&mut record.cordoned, cordoned) == cordoned {
            return self.change_nothing().await;
        }
        self.try_commit(record, Vec::new(), false).await
    }

    async fn metadata(
        &mut self,
        change: ChangeMetadata,
        version: Option<InstanceId>,
    ) -> Answer<()> {
        let current = self.record.instance;
        if version.is_some_and(|expected| expected != current) {
            let text = format!("machine is at version {current}, not at the one given");
            return Err(HostError::VersionMismatch(text));
        }
        let mut record = self.record.clone();
        let mut labels = record.config.metadata.clone().unwrap_or_default();
        change_labels(&mut labels, change)?;
        record.config_mut().metadata = (!labels.is_empty()).then_some(labels);
        // A guest may repeat it as often as it likes.
        if record == self.record {
            return self.change_nothing().await;
        }
        self.try_commit(record, Vec::new(), false).await
    }

    async fn signal(&mut self, signal: i32) -> Answer<()> {
        if !matches!(&self.vm, VmPhase::Up(up) if up.running) {
            return Err(HostError::Conflict(format!(
                "machine is {}: only a started machine takes signals",
                self.record.state
            )));
        }
        // Noted first: it is sent at most once.
        if self.note_call().await? {
            self.send(ToGuest::Signal(signal));
        }
        Ok(())
    }

    /// A standby is started only for the machine whose standby it is.
    fn refuse_standby(&self, record: &Record, source: Source) -> Answer<()> {
        match record.is_standby() && source != Source::Host {
            false => Ok(()),
            true => Err(HostError::Conflict(
                "machine is a standby and is not started by requests; clear `standbys` in its \
                 config first"
                    .into(),
            )),
        }
    }

    /// The record after `event`, or why not.
    pub(super) fn after(&self, event: Event) -> Answer<Record> {
        let refused = |err: model::life::Refused| HostError::Conflict(err.to_string());
        let mut record = self.record.clone();
        record.state = record.state.after(event).map_err(refused)?;
        Ok(record)
    }

    /// Commits the desired state `started` with memory reserved for it. If a boot is
    /// what follows, it is chosen in the same commit, which saves one.
    async fn run_with(
        &mut self,
        mut record: Record,
        mut events: Vec<MachineEvent>,
        new_version: bool,
    ) -> Answer<()> {
        record.want = Want::Run;
        record.never_started = false;
        record.failure = None;
        // A VM that still runs keeps its memory until it is down.
        let held = self.record.boot.map_or(0, |_| self.host.booked_mib(&self.record));
        let (id, memory) = (record.id, self.host.booked_mib(&record).max(held));
        let room = self.host.capacity.reserve(id, memory);
        room.map_err(|err| HostError::NoCapacity(err.to_string()))?;
        let disk = self.host.disk_path(&record);
        if let Err(err) = self.host.disks.book(&disk, record.scratch_bytes()).await {
            self.restore_reservation();
            return Err(HostError::NoCapacity(rt::chain(&err)));
        }
        let old_disk = self.host.disk_path(&self.record);
        let launches = matches!(self.vm, VmPhase::Absent(_))
            && step::next(record.state, record.want, self.observe(&record)) == Step::Launch;
        let mut chosen = None;
        if launches {
            let (note, more) = self.choose_boot(&mut record).await;
            events.extend(more);
            chosen = Some(note);
        }
        let boot = record.boot;
        let committed = self.try_commit(record, events, new_version).await;
        // A call that is repeated commits nothing.
        if committed.is_ok() {
            if let Some(note) = chosen.filter(|_| self.record.boot == boot) {
                self.vm = VmPhase::BootChosen(note);
            }
            // The failure of an earlier start does not apply to this one.
            self.start.failure = None;
        }
        if committed.is_err() {
            self.restore_reservation();
        }
        // A call that failed or was repeated keeps the disk that the machine had.
        let current = self.host.disk_path(&self.record);
        for unused in [old_disk, disk].iter().filter(|disk| **disk != current) {
            self.host.disks.unbook(unused);
        }
        committed
    }

    /// Reserves again what the machine held before a request that failed.
    pub(super) fn restore_reservation(&self) {
        let record = &self.record;
        let holds = record.state.holds_memory() || record.boot.is_some();
        match holds || record.want == Want::Run {
            true => self.host.capacity.take(record.id, self.host.booked_mib(record)),
            false => self.host.capacity.release(record.id),
        }
    }

    /// The stop request is sent to the guest again.
    fn repeat_stop(&mut self) {
        if let VmPhase::Up(up) = &mut self.vm {
            up.requested = RequestedAction::None;
        }
    }
}

fn change_labels(labels: &mut BTreeMap<String, String>, change: ChangeMetadata) -> Answer<()> {
    change.apply(labels);
    host_api::check_labels(labels)
        .map_err(|rule| HostError::Invalid(format!("change the metadata: {rule}")))
}
