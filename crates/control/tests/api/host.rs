//! A host in memory: honest about states, without any VM.

use async_trait::async_trait;
use futures_util::StreamExt;
use futures_util::stream::{self, BoxStream};
use host_api::*;
use model::id::{AppId, Epoch, HostId, InstanceId, MachineId};
use model::life::{Event, State};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;
use tokio::io::AsyncReadExt;
use tokio::sync::{Notify, mpsc, watch};
use wire::logs::{LogEntry, LogQuery};
use wire::machines::*;

#[derive(Clone)]
struct Kept {
    app: AppId,
    epoch: Epoch,
    machine: Machine,
    versions: Vec<MachineVersion>,
}

/// A call that a test holds back.
#[derive(Clone, Default)]
pub(crate) struct Hold {
    reached: Arc<Notify>,
    released: Arc<Notify>,
}

impl Hold {
    /// Returns once the call has been made.
    pub(crate) async fn reached(&self) {
        self.reached.notified().await;
    }

    /// Lets the call go on.
    pub(crate) fn release(&self) {
        self.released.notify_one();
    }
}

/// Machines go through their states at once; tests hold them back or break
/// them with the public switches.
pub(crate) struct FakeHost {
    id: HostId,
    rng: rt::Rng,
    machines: Mutex<BTreeMap<String, Kept>>,
    changed: watch::Sender<u64>,
    images: Mutex<BTreeMap<String, Image>>,
    logs: Mutex<Vec<(AppId, LogEntry)>>,
    /// What the next create fails with.
    pub(crate) refuse: Mutex<Option<HostError>>,
    /// What resolving an image fails with.
    pub(crate) registry: Mutex<Option<HostError>>,
    /// What the next destroy fails with.
    pub(crate) stuck: Mutex<Option<HostError>>,
    /// What was asked of the last stop.
    pub(crate) last_stop: Mutex<Option<Stop>>,
    pub(crate) last_signal: Mutex<Option<i32>>,
    /// Who asked for the last suspend.
    pub(crate) last_suspend: Mutex<Option<Source>>,
    /// A suspend is not done until the test says `Saved`.
    pub(crate) slow_disk: Mutex<bool>,
    /// Connections of guests, and where tests put them.
    connections: Mutex<Option<mpsc::Receiver<GuestConnection>>>,
    pub(crate) guests: mpsc::Sender<GuestConnection>,
    /// The next create is carried out, and its answer is lost.
    pub(crate) loses_answer: Mutex<bool>,
    /// The next create waits.
    held: Mutex<Option<Hold>>,
    /// It cannot be reached.
    pub(crate) away: Mutex<bool>,
    /// It takes calls and never answers.
    pub(crate) hangs: Mutex<bool>,
    /// Calls that came from somebody else than the control plane itself.
    pub(crate) callers: Mutex<Vec<Caller>>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap()
}

fn state_of(machine: &Machine) -> State {
    State::parse(&machine.state).unwrap()
}

impl FakeHost {
    pub(crate) fn new(id: HostId) -> Self {
        let (guests, connections) = mpsc::channel(4);
        Self {
            id,
            connections: Mutex::new(Some(connections)),
            guests,
            rng: rt::Rng::seeded(7),
            machines: Mutex::default(),
            changed: watch::Sender::new(0),
            images: Mutex::default(),
            logs: Mutex::default(),
            refuse: Mutex::default(),
            registry: Mutex::default(),
            stuck: Mutex::default(),
            last_stop: Mutex::default(),
            last_signal: Mutex::default(),
            last_suspend: Mutex::default(),
            slow_disk: Mutex::default(),
            loses_answer: Mutex::default(),
            held: Mutex::default(),
            away: Mutex::default(),
            hangs: Mutex::default(),
            callers: Mutex::default(),
        }
    }

    /// Holds the next create until it is released.
    pub(crate) async fn hold_create(&self) -> Hold {
        let hold = Hold::default();
        *lock(&self.held) = Some(hold.clone());
        hold
    }

    /// States of all machines.
    pub(crate) fn states(&self) -> Vec<String> {
        lock(&self.machines).values().map(|kept| kept.machine.state.clone()).collect()
    }

    fn ulid(&self) -> String {
        InstanceId::new(1, self.rng.wide_bits()).to_string()
    }

    /// What every call begins with.
    async fn enter(&self, context: &CallContext, id: Option<MachineId>) -> Result<(), HostError> {
        if *lock(&self.hangs) {
            std::future::pending::<()>().await;
        }
        if *lock(&self.away) {
            return Err(HostError::unreachable(format!("host {} does not answer", self.id)));
        }
        if context.caller != Caller::Control {
            lock(&self.callers).push(context.caller.clone());
        }
        let known = id.and_then(|id| lock(&self.machines).get(&id.to_string()).map(|k| k.epoch));
        match (context.epoch, known) {
            (Some(sent), Some(known)) if sent < known => Err(HostError::StaleEpoch { sent, known }),
            _ => Ok(()),
        }
    }

    fn kept(&self, id: &str) -> Result<Kept, HostError> {
        let found = lock(&self.machines).get(id).cloned();
        found.ok_or_else(|| HostError::NotFound(format!("machine not found: {id}")))
    }

    fn change<T>(
        &self,
        id: &str,
        change: impl FnOnce(&mut Kept) -> Result<T, HostError>,
    ) -> Result<T, HostError> {
        let mut machines = lock(&self.machines);
        let kept = machines.get_mut(id);
        let kept = kept.ok_or_else(|| HostError::NotFound(format!("machine not found: {id}")))?;
        let done = change(kept);
        drop(machines);
        self.changed.send_modify(|n| *n += 1);
        done
    }

    /// Lets the table decide about each event in turn.
    pub(crate) fn happen(&self, id: &str, events: &[Event]) -> Result<(), HostError> {
        self.change(id, |kept| {
            for event in events {
                let to = state_of(&kept.machine).after(*event);
                let to = to.map_err(|refused| HostError::Conflict(refused.to_string()))?;
                kept.machine.state = to.as_str().into();
                let kind = format!("{event:?}").to_lowercase();
                kept.machine.events.insert(0, event_of(&kind, to.as_str(), &self.ulid()));
            }
            Ok(())
        })
    }

    /// As if the machine had never been.
    pub(crate) fn lose(&self, id: &str) {
        lock(&self.machines).remove(id);
    }

    pub(crate) fn log(&self, app: u32, instance: &str, timestamp: i64, message: &str) {
        let mut logs = lock(&self.logs);
        let entry = LogEntry {
            offset: logs.len() as u64,
            timestamp,
            provider: "app".into(),
            level: "info".into(),
            instance: instance.into(),
            region: "local".into(),
            message: message.into(),
        };
        logs.push((AppId(app), entry));
        drop(logs);
        self.changed.send_modify(|n| *n += 1);
    }

    fn lines(&self, app: AppId, query: &LogQuery) -> Vec<LogEntry> {
        let all = lock(&self.logs).clone().into_iter();
        let of = all.filter(|(of, _)| *of == app).map(|(_, line)| line);
        of.filter(|line| query.instance.as_ref().is_none_or(|id| *id == line.instance))
            .filter(|line| query.after.is_none_or(|after| line.timestamp > after))
            .collect()
    }
}

fn event_of(kind: &str, status: &str, id: &str) -> MachineEvent {
    MachineEvent {
        id: id.into(),
        kind: kind.into(),
        status: status.into(),
        source: "user".into(),
        timestamp: 1,
        request: None,
    }
}

#[async_trait]
impl Status for FakeHost {
    async fn info(&self, context: CallContext) -> Result<HostInfo, HostError> {
        self.enter(&context, None).await?;
        let reserved = lock(&self.machines)
            .values()
            .filter(|kept| state_of(&kept.machine).holds_memory())
            .filter_map(|kept| kept.machine.config.as_ref()?.guest.as_ref()?.memory_mb)
            .map(u64::from)
            .sum();
        let mut machines: BTreeMap<String, u64> = BTreeMap::new();
        for kept in lock(&self.machines).values() {
            *machines.entry(kept.machine.state.clone()).or_default() += 1;
        }
        Ok(HostInfo {
            host: self.id,
            region: "local".into(),
            accelerator: "tcg".into(),
            cpus: 2,
            memory_mib: 4096,
            memory_reserved_mib: reserved,
            overcommit: 1.5,
            templates: vec!["1x256".into()],
            machines,
            ..HostInfo::default()
        })
    }

    async fn info_with_usage(&self, context: CallContext) -> Result<HostInfo, HostError> {
        Ok(HostInfo { memory_used_mib: 64, ..self.info(context).await? })
    }
}

#[async_trait]
impl Images for FakeHost {
    async fn resolve_image(
        &self,
        context: CallContext,
        reference: String,
    ) -> Result<ImageRef, HostError> {
        self.enter(&context, None).await?;
        let away = lock(&self.registry).clone();
        away.map_or(Ok(()), Err)?;
        if !reference.starts_with("nginx") {
            return Err(HostError::NotFound(format!("no image {reference}")));
        }
        let (repository, tag) = reference.split_once(':').unwrap_or((&reference, "latest"));
        Ok(ImageRef {
            registry: "local".into(),
            repository: repository.into(),
            tag: tag.into(),
            digest: format!("sha256:{}", "0".repeat(64)),
            labels: BTreeMap::new(),
        })
    }

    async fn import_image(
        &self,
        context: CallContext,
        name: Option<String>,
        mut tar: ImageUpload,
    ) -> Result<BoxStream<'static, ImageProgress>, HostError> {
        self.enter(&context, None).await?;
        let mut data = Vec::new();
        let read = tar.read_to_end(&mut data).await;
        read.map_err(|err| HostError::Invalid(err.to_string()))?;
        let image = Image {
            references: name.into_iter().collect(),
            digest: "sha256:1".into(),
            size: data.len() as u64,
            created_at: String::new(),
            used_by: 0,
        };
        lock(&self.images).insert(image.references[0].clone(), image.clone());
        let (done, total) = (image.size, image.size);
        let step = ImageProgress::Step { name: "tar".into(), done, total };
        Ok(stream::iter([step, ImageProgress::Done { image }]).boxed())
    }

    async fn images(&self, context: CallContext) -> Result<Vec<Image>, HostError> {
        self.enter(&context, None).await?;
        Ok(lock(&self.images).values().cloned().collect())
    }

    async fn remove_image(
        &self,
        context: CallContext,
        reference: String,
    ) -> Result<bool, HostError> {
        self.enter(&context, None).await?;
        Ok(lock(&self.images).remove(&reference).is_some())
    }
}

#[async_trait]
impl Machines for FakeHost {
    async fn create(&self, context: CallContext, ask: CreateMachine) -> Result<Machine, HostError> {
        self.enter(&context, Some(ask.id)).await?;
        let refused = lock(&self.refuse).take();
        refused.map_or(Ok(()), Err)?;
        let held = lock(&self.held).take();
        if let Some(hold) = held {
            hold.reached.notify_one();
            hold.released.notified().await;
        }
        let id = ask.id.to_string();
        if let Ok(kept) = self.kept(&id) {
            return Ok(kept.machine);
        }
        let version = self.ulid();
        let pool = model::address::Ipv4Pool::new([172, 30, 0, 0].into(), 16).unwrap();
        let slot = model::address::Slot(0);
        let addresses = model::address::of_machine(pool, slot, ask.network, ask.number).unwrap();
        let machine = Machine {
            id: id.clone(),
            name: ask.name.to_string(),
            state: "created".into(),
            region: "local".into(),
            image_ref: ask.image,
            instance_id: version.clone(),
            version: version.clone(),
            private_ip: model::address::uncompressed(addresses.ipv6),
            created_at: rt::clock::rfc3339(1_700_000_000_000 + lock(&self.machines).len() as u64),
            updated_at: "1970-01-01T00:00:00.000Z".into(),
            config: Some(ask.config.clone()),
            incomplete_config: None,
            events: vec![event_of("launch", "created", &self.ulid())],
            checks: vec![],
            nonce: None,
            host_status: "ok".into(),
            host_features: vec![],
            cordoned: ask.cordoned,
            isolation: Some("tcg".into()),
            private_ipv4: None,
        };
        let versions = vec![MachineVersion { version, user_config: ask.config }];
        let kept = Kept { app: ask.app, epoch: ask.epoch, machine: machine.clone(), versions };
        lock(&self.machines).insert(id.clone(), kept);
        if !ask.skip_launch {
            self.happen(&id, &[Event::Start, Event::Running])?;
        }
        if std::mem::take(&mut *lock(&self.loses_answer)) {
            let message = "the connection broke".into();
            return Err(HostError::Unavailable { message, may_have_run: true });
        }
        Ok(machine)
    }

    async fn update(&self, context: CallContext, ask: UpdateMachine) -> Result<Machine, HostError> {
        self.enter(&context, Some(ask.id)).await?;
        let (version, id) = (self.ulid(), ask.id.to_string());
        self.change(&id, |kept| {
            if ask.current_version.is_some_and(|v| v.to_string() != kept.machine.version) {
                return Err(HostError::VersionMismatch("the machine has been changed".into()));
            }
            kept.machine.version = version.clone();
            kept.machine.instance_id = version.clone();
            kept.machine.config = Some(ask.config.clone());
            kept.machine.image_ref = ask.image;
            kept.versions.insert(0, MachineVersion { version, user_config: ask.config });
            Ok(())
        })?;
        let state = state_of(&self.kept(&id)?.machine);
        let mut events = vec![Event::Update { launch: !ask.skip_launch }];
        if state.holds_memory() {
            events.extend([Event::Down { again: true }, Event::Launch, Event::Running]);
        } else if !ask.skip_launch {
            events.push(Event::Running);
        }
        self.happen(&id, &events)?;
        Ok(self.kept(&id)?.machine)
    }

    async fn machine(&self, context: CallContext, id: MachineId) -> Result<Machine, HostError> {
        self.enter(&context, Some(id)).await?;
        Ok(self.kept(&id.to_string())?.machine)
    }

    async fn machines(
        &self,
        context: CallContext,
        filter: MachineFilter,
    ) -> Result<Vec<Machine>, HostError> {
        self.enter(&context, None).await?;
        let all: Vec<Kept> = lock(&self.machines).values().cloned().collect();
        let labels = |m: &Machine| m.config.clone().and_then(|c| c.metadata).unwrap_or_default();
        let mut machines: Vec<Machine> = all
            .into_iter()
            .filter(|kept| filter.app.is_none_or(|app| app == kept.app))
            .map(|kept| kept.machine)
            .filter(|m| filter.include_deleted || state_of(m) != State::Destroyed)
            .filter(|m| filter.states.is_empty() || filter.states.contains(&m.state))
            .filter(|m| filter.region.as_ref().is_none_or(|region| *region == m.region))
            .filter(|m| filter.metadata.iter().all(|(k, v)| labels(m).get(k) == Some(v)))
            .collect();
        machines.sort_by(|a, b| a.created_at.cmp(&b.created_at));
        if filter.summary {
            machines.iter_mut().for_each(|m| (m.config, m.events) = (None, vec![]));
        }
        Ok(machines)
    }

    async fn start(&self, context: CallContext, id: MachineId) -> Result<Started, HostError> {
        self.enter(&context, Some(id)).await?;
        let id = id.to_string();
        let previous = state_of(&self.kept(&id)?.machine);
        self.happen(&id, &[Event::Start, Event::Running])?;
        let (previous_state, resumed) = (previous.to_string(), previous == State::Suspended);
        Ok(Started { previous_state, migrated: false, new_host: String::new(), resumed })
    }

    async fn stop(&self, context: CallContext, id: MachineId, stop: Stop) -> Result<(), HostError> {
        self.enter(&context, Some(id)).await?;
        self.happen(&id.to_string(), &[Event::Stop, Event::Down { again: false }])?;
        *lock(&self.last_stop) = Some(stop);
        Ok(())
    }

    async fn suspend(&self, context: CallContext, id: MachineId) -> Result<(), HostError> {
        self.enter(&context, Some(id)).await?;
        let id = id.to_string();
        self.happen(&id, &[Event::Suspend])?;
        *lock(&self.last_suspend) = Some(context.source);
        let held = *lock(&self.slow_disk);
        if held { Ok(()) } else { self.happen(&id, &[Event::Saved]) }
    }

    async fn restart(
        &self,
        context: CallContext,
        id: MachineId,
        stop: Stop,
        _: bool,
    ) -> Result<(), HostError> {
        self.enter(&context, Some(id)).await?;
        *lock(&self.last_stop) = Some(stop);
        self.happen(&id.to_string(), &[Event::Restart, Event::Launch, Event::Running])
    }

    async fn signal(
        &self,
        context: CallContext,
        id: MachineId,
        signal: i32,
    ) -> Result<(), HostError> {
        self.enter(&context, Some(id)).await?;
        if state_of(&self.kept(&id.to_string())?.machine) != State::Started {
            return Err(HostError::Conflict("the machine does not run".into()));
        }
        *lock(&self.last_signal) = Some(signal);
        Ok(())
    }

    async fn destroy(
        &self,
        context: CallContext,
        id: MachineId,
        force: bool,
    ) -> Result<(), HostError> {
        self.enter(&context, Some(id)).await?;
        let stuck = lock(&self.stuck).take();
        stuck.map_or(Ok(()), Err)?;
        self.happen(&id.to_string(), &[Event::Destroy { force }, Event::Gone])
    }

    async fn cordon(
        &self,
        context: CallContext,
        id: MachineId,
        cordoned: bool,
    ) -> Result<(), HostError> {
        self.enter(&context, Some(id)).await?;
        self.change(&id.to_string(), |kept| {
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
        self.enter(&context, Some(id)).await?;
        self.change(&id.to_string(), |kept| {
            if version.is_some_and(|version| version.to_string() != kept.machine.version) {
                return Err(HostError::VersionMismatch("the machine has been changed".into()));
            }
            let labels =
                kept.machine.config.get_or_insert_default().metadata.get_or_insert_default();
            match change {
                ChangeMetadata::Replace(new) => *labels = new,
                ChangeMetadata::Merge(keys) => {
                    for (key, value) in keys {
                        match value {
                            Some(value) => labels.insert(key, value),
                            None => labels.remove(&key),
                        };
                    }
                }
            }
            Ok(())
        })
    }

    async fn events(
        &self,
        context: CallContext,
        id: MachineId,
        limit: usize,
    ) -> Result<Vec<MachineEvent>, HostError> {
        self.enter(&context, Some(id)).await?;
        let mut events = self.kept(&id.to_string())?.machine.events;
        events.truncate(limit);
        Ok(events)
    }

    async fn versions(
        &self,
        context: CallContext,
        id: MachineId,
    ) -> Result<Vec<MachineVersion>, HostError> {
        self.enter(&context, Some(id)).await?;
        Ok(self.kept(&id.to_string())?.versions)
    }

    async fn wait(
        &self,
        context: CallContext,
        id: MachineId,
        wait: WaitFor,
    ) -> Result<WaitResult, HostError> {
        self.enter(&context, Some(id)).await?;
        let mut changed = self.changed.subscribe();
        let reached = async {
            loop {
                let machine = self.kept(&id.to_string())?.machine;
                let settled = state_of(&machine).is_settled();
                let is = |s: &String| *s == machine.state || (s == "settled" && settled);
                // A version that is not current has nothing to wait for here.
                let current = wait.version.is_none_or(|v| v.to_string() == machine.version);
                if current && wait.states.iter().any(is) {
                    let event_id = machine.events[0].id.clone();
                    let (state, version) = (machine.state, machine.version);
                    return Ok(WaitResult { ok: true, state, version, event_id });
                }
                changed.changed().await.unwrap();
            }
        };
        let limit = Duration::from_millis(wait.timeout_ms);
        let late = "the machine did not get there in time";
        let late = |_| HostError::DeadlineExceeded(late.into());
        tokio::time::timeout(limit, reached).await.map_err(late)?
    }

    async fn processes(
        &self,
        context: CallContext,
        id: MachineId,
    ) -> Result<Vec<Process>, HostError> {
        self.enter(&context, Some(id)).await?;
        self.kept(&id.to_string())?;
        let process = |pid, rss| Process { pid, rss, ..Process::default() };
        Ok(vec![process(1, 5), process(3, 9), process(2, 7)])
    }
}

#[async_trait]
impl Exec for FakeHost {
    /// Knows `echo`, `cat`, `exit`, `flood` and, with a terminal, its size.
    async fn exec(
        &self,
        context: CallContext,
        id: MachineId,
        exec: ExecStart,
    ) -> Result<ExecSession, HostError> {
        self.enter(&context, Some(id)).await?;
        if state_of(&self.kept(&id.to_string())?.machine) != State::Started {
            return Err(HostError::Conflict("the machine does not run".into()));
        }
        let (input, commands) = mpsc::channel(4);
        let (answers, output) = mpsc::channel(4);
        rt::Tasks::new().spawn(run(exec, commands, answers));
        Ok(ExecSession { input, output })
    }
}

#[async_trait]
impl Logs for FakeHost {
    async fn logs(
        &self,
        context: CallContext,
        app: AppId,
        query: LogQuery,
    ) -> Result<BoxStream<'static, LogEntry>, HostError> {
        self.enter(&context, None).await?;
        let mut lines = self.lines(app, &query);
        let most = query.tail.unwrap_or(u32::MAX) as usize;
        if query.after.is_some() {
            lines.truncate(most);
        }
        let old = lines.len().saturating_sub(most);
        lines.drain(..old);
        let kept = stream::iter(lines);
        // A host that follows never ends its stream.
        Ok(if query.follow { kept.chain(stream::pending()).boxed() } else { kept.boxed() })
    }

    fn append(&self, _: LogLine) {}
}

#[async_trait]
impl Routes for FakeHost {
    async fn routes(&self, _: CallContext) -> Result<RouteSubscription, HostError> {
        Err(HostError::Unsupported("this host has no routes".into()))
    }
}

#[async_trait]
impl Load for FakeHost {
    async fn wake(&self, _: CallContext, _: MachineId) -> Result<(), WakeRefused> {
        Err(WakeRefused::Gone)
    }

    async fn stop_idle(&self, _: CallContext, _: MachineId, _: String) -> Result<(), WakeRefused> {
        Err(WakeRefused::Gone)
    }

    async fn suspend_idle(
        &self,
        _: CallContext,
        _: MachineId,
        _: String,
    ) -> Result<(), WakeRefused> {
        Err(WakeRefused::Gone)
    }

    fn drained(&self, _: MachineId) {}

    fn sessions(&self, _: MachineId) -> usize {
        0
    }
}

#[async_trait]
impl Connections for FakeHost {
    async fn connect(&self, _: CallContext, _: Upstream) -> std::io::Result<Box<dyn GuestStream>> {
        Err(std::io::ErrorKind::ConnectionRefused.into())
    }

    async fn guest_connections(
        &self,
        context: CallContext,
    ) -> Result<BoxStream<'static, GuestConnection>, HostError> {
        self.enter(&context, None).await?;
        let connections = lock(&self.connections).take();
        let connections =
            connections.ok_or_else(|| HostError::Busy("there is a subscriber".into()))?;
        Ok(stream::unfold(connections, |mut rest| async move {
            rest.recv().await.map(|connection| (connection, rest))
        })
        .boxed())
    }
}

async fn run(
    exec: ExecStart,
    mut input: mpsc::Receiver<ExecInput>,
    output: mpsc::Sender<ExecOutput>,
) {
    let words: Vec<&str> = exec.argv.iter().map(String::as_str).collect();
    let say = async |text: Vec<u8>| output.send(ExecOutput::Stdout(text)).await.is_ok();
    let code = match words[..] {
        ["echo", ref rest @ ..] => {
            say(rest.join(" ").into_bytes()).await;
            0
        }
        ["cat"] => loop {
            match input.recv().await {
                Some(ExecInput::Data(data)) if data.is_empty() => break 0,
                Some(ExecInput::Data(data)) => drop(say(data).await),
                Some(ExecInput::Resize(size)) => {
                    say(format!("{}x{}", size.rows, size.cols).into_bytes()).await;
                }
                Some(ExecInput::Signal(signal)) => break 128 + signal,
                None => return,
            }
        },
        ["flood"] => {
            for _ in 0..40 {
                say(vec![b'x'; 32 * 1024]).await;
            }
            drop(output.send(ExecOutput::Stderr(b"wet".to_vec())).await);
            0
        }
        ["exit", code] => code.parse().unwrap(),
        _ => {
            drop(output.send(ExecOutput::Failed("no such program".into())).await);
            return;
        }
    };
    drop(output.send(ExecOutput::Exited { code, signal: 0 }).await);
}
