//! `Status` and `Machines` of the host in memory.

use super::{FakeHost, FakeMachine};
use async_trait::async_trait;
use host_api::{
    CallContext, ChangeMetadata, CreateMachine, HostError, HostInfo, MachineFilter, Machines,
    Status, Stop, UpdateMachine, WaitFor,
};
use model::address::{self, Ipv4Pool, Slot};
use model::id::{EventId, InstanceId, MachineId};
use model::life::{Event, State};
use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;
use wire::machines::{Machine, MachineEvent, MachineVersion, Process, Started, WaitResult};

#[async_trait]
impl Status for FakeHost {
    async fn info(&self, context: CallContext) -> Result<HostInfo, HostError> {
        self.enter_call("info", &context).await?;
        let state = self.lock();
        let mut machines: BTreeMap<String, u64> = BTreeMap::new();
        for kept in state.machines.values() {
            *machines.entry(kept.machine.state.clone()).or_default() += 1;
        }
        Ok(HostInfo {
            host: self.0.id,
            name: format!("host-{}", self.0.id),
            region: self.0.region.clone(),
            region_codes: state.region_codes.clone(),
            accelerator: "tcg".into(),
            cpus: 2,
            memory_mib: state.memory_mib,
            memory_reserved_mib: reserved(state.machines.values()),
            overcommit: 1.0,
            templates: vec!["1x256".into()],
            machines,
            ..HostInfo::default()
        })
    }

    async fn info_with_usage(&self, context: CallContext) -> Result<HostInfo, HostError> {
        Ok(HostInfo { memory_used_mib: 64, ..self.info(context).await? })
    }
}

/// MiB promised to machines that hold memory.
fn reserved<'a>(machines: impl Iterator<Item = &'a FakeMachine>) -> u64 {
    machines.filter(|kept| kept.state.holds_memory()).map(|kept| memory(&kept.create)).sum()
}

fn memory(create: &CreateMachine) -> u64 {
    let guest = create.config.guest.as_ref();
    guest.and_then(|guest| guest.memory_mb).map_or(256, u64::from)
}

impl FakeHost {
    /// The 6PN address of a machine, as the API shows it.
    fn private_ip(create: &CreateMachine) -> String {
        let pool = Ipv4Pool::new(Ipv4Addr::new(172, 30, 0, 0), 16);
        let planned =
            pool.and_then(|pool| address::of_machine(pool, Slot(0), create.network, create.number));
        planned.map(|planned| address::uncompressed(planned.ipv6)).unwrap_or_default()
    }

    /// Brings it up, unless starts are held back.
    fn bring_up(&self, id: MachineId) -> Result<(), HostError> {
        let held = self.lock().held;
        if held { Ok(()) } else { self.apply_events(id, &[Event::Running]) }
    }

    /// Inserts a machine that is not there, with its memory reserved.
    fn insert(&self, create: CreateMachine) -> Result<Machine, HostError> {
        let instance = self.instance().to_string();
        let event = self.event("launch", "created");
        let machine = Machine {
            id: create.id.to_string(),
            name: create.name.to_string(),
            state: State::Created.as_str().into(),
            region: create.region.clone().unwrap_or_else(|| self.0.region.clone()),
            image_ref: create.image.clone(),
            instance_id: instance.clone(),
            version: instance.clone(),
            private_ip: Self::private_ip(&create),
            created_at: rt::clock::rfc3339(self.now_ms()),
            updated_at: rt::clock::rfc3339(self.now_ms()),
            config: Some(Arc::new(create.config.clone())),
            incomplete_config: None,
            events: vec![Arc::new(event)],
            checks: vec![],
            containers: vec![],
            busy_until: None,
            nonce: None,
            lease: None,
            host_status: "ok".into(),
            host_features: vec![],
            cordoned: create.cordoned,
            isolation: Some("tcg".into()),
            private_ipv4: None,
            secrets_version: None,
            skip_secrets: create.skip_secrets,
        };
        let mut state = self.lock();
        let free = state.memory_mib.saturating_sub(reserved(state.machines.values()));
        let wanted = memory(&create);
        if wanted > free && !create.skip_launch {
            let host = self.0.id;
            let why = format!("host {host} has {free} MiB free, {wanted} MiB are wanted");
            return Err(HostError::NoCapacity(why));
        }
        let version = MachineVersion { version: instance, user_config: create.config.clone() };
        let kept = FakeMachine {
            epoch: create.epoch,
            state: State::Created,
            machine: machine.clone(),
            boot: None,
            listening: vec![],
            versions: vec![version],
            checks: vec![],
            runs: vec![],
            create: create.clone(),
            resumes: false,
        };
        state.given_up.remove(&create.id);
        state.machines.insert(create.id, kept);
        drop(state);
        self.publish(create.id);
        Ok(machine)
    }
}

#[async_trait]
impl Machines for FakeHost {
    async fn create(
        &self,
        context: CallContext,
        mut create: CreateMachine,
    ) -> Result<Machine, HostError> {
        self.enter_call("create", &context).await?;
        let (id, wanted) = (create.id, create.lease.take());
        let there = self.lock().machines.get(&create.id).cloned();
        let machine = match there {
            Some(kept) if kept.epoch > create.epoch => {
                return Err(HostError::StaleEpoch { sent: create.epoch, known: kept.epoch });
            }
            Some(kept) if kept.create == create => kept.machine,
            Some(_) => {
                let why = format!("machine {} exists with another content", create.id);
                return Err(HostError::Conflict(why));
            }
            None => {
                let (id, skip) = (create.id, create.skip_launch);
                self.attach_volumes((id, create.app), &create.config)?;
                self.note(format!("create {id}"));
                let machine = self.insert(create).inspect_err(|_| self.detach_volumes(id))?;
                if !skip {
                    self.apply_events(id, &[Event::Start])?;
                    self.bring_up(id)?;
                }
                machine
            }
        };
        let nonce = self.lease_with(id, wanted.as_ref(), &context)?;
        self.leave_call("create").await?;
        Ok(Machine { nonce, ..machine })
    }

    async fn update(
        &self,
        context: CallContext,
        mut update: UpdateMachine,
    ) -> Result<Machine, HostError> {
        self.enter_call("update", &context).await?;
        let kept = self.owned(update.id, context.epoch)?;
        self.check_lease(update.id, &context)?;
        if self.was_done(&context) {
            return Ok(kept.machine);
        }
        let current = update.current_version.map(|version| version.to_string());
        if current.is_some_and(|version| version != kept.machine.version) {
            return Err(HostError::VersionMismatch("the machine has been changed".into()));
        }
        let never_started = kept.create.skip_launch
            && kept.machine.events.iter().all(|event| event.kind != "start");
        let launch = !update.skip_launch && !never_started;
        let mut events = vec![Event::Update { launch }];
        if kept.state.holds_memory() {
            events.extend([Event::Down { again: true }, Event::Launch, Event::Running]);
        } else if launch {
            events.push(Event::Running);
        }
        let version = self.instance().to_string();
        if let Some(change) = update.labels.take() {
            let current = kept.machine.config.clone().unwrap_or_default();
            let mut labels = current.metadata.clone().unwrap_or_default();
            change.apply(&mut labels);
            update.config.metadata = (!labels.is_empty()).then_some(labels);
        }
        self.attach_volumes((update.id, kept.create.app), &update.config)?;
        self.note(format!("update {}", update.id));
        self.change(update.id, |kept| {
            kept.machine.version = version.clone();
            kept.machine.instance_id = version.clone();
            kept.machine.cordoned = update.cordoned.unwrap_or(kept.machine.cordoned);
            kept.machine.config = Some(Arc::new(update.config.clone()));
            kept.machine.skip_secrets = update.skip_secrets;
            kept.machine.image_ref = update.image;
            kept.versions.insert(0, MachineVersion { version, user_config: update.config });
            Ok(())
        })?;
        self.apply_events(update.id, &events)?;
        self.is_done(&context);
        let nonce = self.lease_with(update.id, update.lease.as_ref(), &context)?;
        self.leave_call("update").await?;
        Ok(Machine { nonce, ..self.owned(update.id, None)?.machine })
    }

    async fn machine(&self, context: CallContext, id: MachineId) -> Result<Machine, HostError> {
        self.enter_call("machine", &context).await?;
        Ok(self.owned(id, None)?.machine)
    }

    async fn machines(
        &self,
        context: CallContext,
        filter: MachineFilter,
    ) -> Result<Vec<Machine>, HostError> {
        self.enter_call("machines", &context).await?;
        let all: Vec<FakeMachine> = self.lock().machines.values().cloned().collect();
        let labels =
            |m: &Machine| m.config.as_ref().and_then(|c| c.metadata.clone()).unwrap_or_default();
        let mut machines: Vec<Machine> = all
            .into_iter()
            .filter(|kept| filter.app.is_none_or(|app| app == kept.create.app))
            .filter(|kept| filter.org.is_none_or(|org| org == kept.create.org))
            .filter(|kept| filter.include_deleted || kept.state != State::Destroyed)
            .map(|kept| kept.machine)
            .filter(|m| filter.states.is_empty() || filter.states.contains(&m.state))
            .filter(|m| filter.region.as_ref().is_none_or(|region| *region == m.region))
            .filter(|m| filter.metadata.iter().all(|(k, v)| labels(m).get(k) == Some(v)))
            .collect();
        machines.sort_by(|a, b| a.created_at.cmp(&b.created_at));
        if filter.leases {
            machines.iter_mut().for_each(|m| m.lease = self.lease_in_list(&m.id));
        }
        if filter.summary {
            machines.iter_mut().for_each(|m| (m.config, m.events) = (None, vec![]));
        }
        Ok(machines)
    }

    async fn start(&self, context: CallContext, id: MachineId) -> Result<Started, HostError> {
        self.enter_call("start", &context).await?;
        let previous = self.owned(id, context.epoch)?.state;
        self.check_lease(id, &context)?;
        self.note(format!("start {id}"));
        self.apply_events(id, &[Event::Start])?;
        if previous != State::Started {
            self.bring_up(id)?;
        }
        self.1.pass("after start").await;
        let (previous_state, resumed) = (previous.to_string(), previous == State::Suspended);
        Ok(Started { previous_state, migrated: false, new_host: String::new(), resumed })
    }

    async fn stop(&self, context: CallContext, id: MachineId, stop: Stop) -> Result<(), HostError> {
        self.enter_call("stop", &context).await?;
        let before = self.owned(id, context.epoch)?.state;
        self.check_lease(id, &context)?;
        self.note(format!("stop {id}"));
        self.apply_events(id, &[Event::Stop])?;
        if before.after(Event::Stop) == Ok(State::Stopping) {
            self.apply_events(id, &[Event::Down { again: false }])?;
        }
        self.lock().stops.push(stop);
        self.1.pass("after stop").await;
        Ok(())
    }

    async fn suspend(&self, context: CallContext, id: MachineId) -> Result<(), HostError> {
        self.enter_call("suspend", &context).await?;
        self.owned(id, context.epoch)?;
        self.check_lease(id, &context)?;
        self.note(format!("suspend {id} by {:?}", context.source));
        self.apply_events(id, &[Event::Suspend])?;
        let held = self.lock().held;
        if held { Ok(()) } else { self.apply_events(id, &[Event::Saved]) }
    }

    async fn restart(
        &self,
        context: CallContext,
        id: MachineId,
        stop: Stop,
        _force: bool,
    ) -> Result<(), HostError> {
        self.enter_call("restart", &context).await?;
        self.owned(id, context.epoch)?;
        self.check_lease(id, &context)?;
        if self.is_done(&context) {
            return Ok(());
        }
        self.note(format!("restart {id}"));
        self.lock().stops.push(stop);
        self.apply_events(id, &[Event::Restart])?;
        let now = self.owned(id, None)?.state;
        if now == State::Restarting {
            self.apply_events(id, &[Event::Launch])?;
        }
        self.bring_up(id)?;
        self.leave_call("restart").await
    }

    async fn signal(
        &self,
        context: CallContext,
        id: MachineId,
        signal: i32,
    ) -> Result<(), HostError> {
        self.enter_call("signal", &context).await?;
        if self.owned(id, context.epoch)?.state != State::Started {
            return Err(HostError::Conflict("the machine does not run".into()));
        }
        self.note(format!("signal {id} {signal}"));
        Ok(())
    }

    async fn destroy(
        &self,
        context: CallContext,
        id: MachineId,
        force: bool,
    ) -> Result<(), HostError> {
        self.enter_call("destroy", &context).await?;
        let kept = self.owned(id, context.epoch)?;
        self.check_lease(id, &context)?;
        self.note(format!("destroy {id}"));
        if kept.state != State::Destroyed {
            self.apply_events(id, &[Event::Destroy { force }, Event::Gone])?;
            self.detach_volumes(id);
        }
        self.leave_call("destroy").await?;
        Ok(())
    }

    async fn cordon(
        &self,
        context: CallContext,
        id: MachineId,
        cordoned: bool,
    ) -> Result<(), HostError> {
        self.enter_call("cordon", &context).await?;
        self.owned(id, context.epoch)?;
        self.check_lease(id, &context)?;
        self.change(id, |kept| {
            kept.machine.cordoned = cordoned;
            Ok(())
        })
    }

    async fn change_metadata(
        &self,
        context: CallContext,
        id: MachineId,
        change: ChangeMetadata,
        version: Option<InstanceId>,
    ) -> Result<(), HostError> {
        self.enter_call("change_metadata", &context).await?;
        self.owned(id, context.epoch)?;
        let version = version.map(|version| version.to_string());
        self.change(id, |kept| {
            if version.is_some_and(|version| version != kept.machine.version) {
                return Err(HostError::VersionMismatch("the machine has been changed".into()));
            }
            let config = kept.machine.config.get_or_insert_default();
            let labels = Arc::make_mut(config).metadata.get_or_insert_default();
            change.apply(labels);
            host_api::check_labels(labels).map_err(HostError::Invalid)?;
            Ok(())
        })
    }

    async fn events(
        &self,
        context: CallContext,
        id: MachineId,
        limit: usize,
        before: Option<EventId>,
    ) -> Result<Vec<MachineEvent>, HostError> {
        self.enter_call("events", &context).await?;
        let mut events = self.owned(id, None)?.machine.events;
        let before = before.map(|event| event.to_string());
        events.retain(|event| before.as_ref().is_none_or(|before| event.id < *before));
        events.truncate(limit);
        Ok(events.into_iter().map(Arc::unwrap_or_clone).collect())
    }

    async fn versions(
        &self,
        context: CallContext,
        id: MachineId,
    ) -> Result<Vec<MachineVersion>, HostError> {
        self.enter_call("versions", &context).await?;
        Ok(self.owned(id, None)?.versions)
    }

    async fn wait(
        &self,
        context: CallContext,
        id: MachineId,
        wait: WaitFor,
    ) -> Result<WaitResult, HostError> {
        self.enter_call("wait", &context).await?;
        let mut changed = self.0.changed.subscribe();
        let version = wait.version.map(|version| version.to_string());
        let reached = async {
            loop {
                let kept = self.owned(id, None)?;
                let machine = kept.machine;
                let is =
                    |s: &String| *s == machine.state || (s == "settled" && kept.state.is_settled());
                let current = version.as_ref().is_none_or(|v| *v == machine.version);
                if current && wait.states.iter().any(is) {
                    let event_id = machine.events[0].id.clone();
                    let (state, version) = (machine.state, machine.version);
                    return Ok(WaitResult { ok: true, state, version, event_id });
                }
                // The sender lives as long as `self`.
                let _ = changed.changed().await;
            }
        };
        let limit = Duration::from_millis(wait.timeout_ms).min(context.deadline.remaining());
        let late = |_| HostError::DeadlineExceeded("the machine did not get there in time".into());
        tokio::time::timeout(limit, reached).await.map_err(late)?
    }

    async fn processes(
        &self,
        context: CallContext,
        id: MachineId,
    ) -> Result<Vec<Process>, HostError> {
        self.enter_call("processes", &context).await?;
        self.owned(id, None)?;
        let process = |pid, rss| Process { pid, rss, ..Process::default() };
        Ok(vec![process(1, 5), process(3, 9), process(2, 7)])
    }
}
