//! A host in memory: honest about states, without any VM.

use async_trait::async_trait;
use control::ports::{ExecSession, Host, Hosts};
use futures_util::StreamExt;
use futures_util::stream::{self, BoxStream};
use model::id::{HostId, InstanceId};
use model::life::{Event, State};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::sync::{mpsc, watch};
use wire::logs::{LogEntry, LogQuery};
use wire::machines::*;
use wire::worker::*;

/// One host that is all of the platform.
pub(crate) struct OneHost(pub Arc<FakeHost>);

impl Hosts for OneHost {
    fn all(&self) -> Vec<(HostId, Arc<dyn Host>)> {
        vec![(HostId(0), self.0.clone())]
    }
}

#[derive(Clone)]
struct Kept {
    app: String,
    machine: Machine,
    versions: Vec<MachineVersion>,
}

/// Machines go through their states at once; tests hold them back or break
/// them with the public switches.
pub(crate) struct FakeHost {
    rng: rt::Rng,
    machines: Mutex<BTreeMap<String, Kept>>,
    changed: watch::Sender<u64>,
    images: Mutex<BTreeMap<String, Image>>,
    logs: Mutex<Vec<(String, LogEntry)>>,
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
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap()
}

fn state_of(machine: &Machine) -> State {
    State::parse(&machine.state).unwrap()
}

impl FakeHost {
    pub(crate) fn new() -> Self {
        Self {
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
        }
    }

    fn ulid(&self) -> String {
        InstanceId::new(1, self.rng.wide_bits()).to_string()
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

    pub(crate) fn log(&self, app: &str, instance: &str, timestamp: i64, message: &str) {
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
        logs.push((app.into(), entry));
        drop(logs);
        self.changed.send_modify(|n| *n += 1);
    }

    fn lines(&self, app: &str, query: &LogQuery) -> Vec<LogEntry> {
        let all = lock(&self.logs).clone().into_iter();
        let of = all.filter(|(of, _)| of == app).map(|(_, line)| line);
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
impl Host for FakeHost {
    async fn info(&self) -> Result<HostInfo, HostError> {
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

    async fn info_with_usage(&self) -> Result<HostInfo, HostError> {
        Ok(HostInfo { memory_used_mib: 64, ..self.info().await? })
    }

    async fn resolve_image(&self, reference: &str) -> Result<ImageRef, HostError> {
        let away = lock(&self.registry).clone();
        away.map_or(Ok(()), Err)?;
        if !reference.starts_with("nginx") {
            return Err(HostError::NotFound(format!("no image {reference}")));
        }
        let (repository, tag) = reference.split_once(':').unwrap_or((reference, "latest"));
        Ok(ImageRef {
            registry: "local".into(),
            repository: repository.into(),
            tag: tag.into(),
            digest: format!("sha256:{}", "0".repeat(64)),
            labels: BTreeMap::new(),
        })
    }

    async fn create(&self, ask: CreateMachine) -> Result<Machine, HostError> {
        let refused = lock(&self.refuse).take();
        refused.map_or(Ok(()), Err)?;
        let version = self.ulid();
        let machine = Machine {
            id: ask.id.clone(),
            name: ask.name,
            state: "created".into(),
            region: "local".into(),
            image_ref: ask.image,
            instance_id: version.clone(),
            version: version.clone(),
            private_ip: "fdaa:0000:0001:0000:0000:0000:0000:0002".into(),
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
        let kept = Kept { app: ask.app, machine: machine.clone(), versions };
        lock(&self.machines).insert(ask.id.clone(), kept);
        if !ask.skip_launch {
            self.happen(&ask.id, &[Event::Start, Event::Running])?;
        }
        Ok(machine)
    }

    async fn update(&self, ask: UpdateMachine) -> Result<Machine, HostError> {
        let version = self.ulid();
        self.change(&ask.id, |kept| {
            if ask.current_version.is_some_and(|v| v != kept.machine.version) {
                return Err(HostError::Stale("the machine has been changed".into()));
            }
            kept.machine.version = version.clone();
            kept.machine.instance_id = version.clone();
            kept.machine.config = Some(ask.config.clone());
            kept.machine.image_ref = ask.image;
            kept.versions.insert(0, MachineVersion { version, user_config: ask.config });
            Ok(())
        })?;
        let state = state_of(&self.kept(&ask.id)?.machine);
        let mut events = vec![Event::Update { launch: !ask.skip_launch }];
        if state.holds_memory() {
            events.extend([Event::Down { again: true }, Event::Launch, Event::Running]);
        } else if !ask.skip_launch {
            events.push(Event::Running);
        }
        self.happen(&ask.id, &events)?;
        self.machine(&ask.id).await
    }

    async fn machine(&self, id: &str) -> Result<Machine, HostError> {
        Ok(self.kept(id)?.machine)
    }

    async fn machines(&self, filter: MachineFilter) -> Result<Vec<Machine>, HostError> {
        let all: Vec<Kept> = lock(&self.machines).values().cloned().collect();
        let labels = |m: &Machine| m.config.clone().and_then(|c| c.metadata).unwrap_or_default();
        let mut machines: Vec<Machine> = all
            .into_iter()
            .filter(|kept| filter.app.as_ref().is_none_or(|app| *app == kept.app))
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

    async fn start(&self, id: &str, _: Source) -> Result<Started, HostError> {
        let previous = state_of(&self.kept(id)?.machine);
        self.happen(id, &[Event::Start, Event::Running])?;
        let (previous_state, resumed) = (previous.to_string(), previous == State::Suspended);
        Ok(Started { previous_state, migrated: false, new_host: String::new(), resumed })
    }

    async fn stop(&self, id: &str, stop: Stop, _: Source) -> Result<(), HostError> {
        self.happen(id, &[Event::Stop, Event::Down { again: false }])?;
        *lock(&self.last_stop) = Some(stop);
        Ok(())
    }

    async fn suspend(&self, id: &str, source: Source) -> Result<(), HostError> {
        self.happen(id, &[Event::Suspend])?;
        *lock(&self.last_suspend) = Some(source);
        let held = *lock(&self.slow_disk);
        if held { Ok(()) } else { self.happen(id, &[Event::Saved]) }
    }

    async fn restart(&self, id: &str, stop: Stop, _: bool) -> Result<(), HostError> {
        *lock(&self.last_stop) = Some(stop);
        self.happen(id, &[Event::Restart, Event::Launch, Event::Running])
    }

    async fn signal(&self, id: &str, signal: i32) -> Result<(), HostError> {
        if state_of(&self.kept(id)?.machine) != State::Started {
            return Err(HostError::Conflict("the machine does not run".into()));
        }
        *lock(&self.last_signal) = Some(signal);
        Ok(())
    }

    async fn destroy(&self, id: &str, force: bool) -> Result<(), HostError> {
        let stuck = lock(&self.stuck).take();
        stuck.map_or(Ok(()), Err)?;
        self.happen(id, &[Event::Destroy { force }, Event::Gone])
    }

    async fn cordon(&self, id: &str, cordoned: bool) -> Result<(), HostError> {
        self.change(id, |kept| {
            kept.machine.cordoned = cordoned;
            Ok(())
        })
    }

    async fn change_metadata(
        &self,
        id: &str,
        change: ChangeMetadata,
        version: Option<&str>,
    ) -> Result<(), HostError> {
        self.change(id, |kept| {
            if version.is_some_and(|version| version != kept.machine.version) {
                return Err(HostError::Stale("the machine has been changed".into()));
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

    async fn events(&self, id: &str, limit: usize) -> Result<Vec<MachineEvent>, HostError> {
        let mut events = self.kept(id)?.machine.events;
        events.truncate(limit);
        Ok(events)
    }

    async fn versions(&self, id: &str) -> Result<Vec<MachineVersion>, HostError> {
        Ok(self.kept(id)?.versions)
    }

    async fn wait(&self, id: &str, wait: WaitFor) -> Result<WaitResult, HostError> {
        let mut changed = self.changed.subscribe();
        let reached = async {
            loop {
                let machine = self.kept(id)?.machine;
                let settled = state_of(&machine).is_settled();
                let is = |s: &String| *s == machine.state || (s == "settled" && settled);
                // A version that is not current has nothing to wait for here.
                let current = wait.version.as_ref().is_none_or(|v| *v == machine.version);
                if current && wait.states.iter().any(is) {
                    let event_id = machine.events[0].id.clone();
                    let (state, version) = (machine.state, machine.version);
                    return Ok(WaitResult { ok: true, state, version, event_id });
                }
                changed.changed().await.unwrap();
            }
        };
        let limit = Duration::from_millis(wait.timeout_ms);
        let timeout = |_| HostError::Timeout("the machine did not get there in time".into());
        tokio::time::timeout(limit, reached).await.map_err(timeout)?
    }

    async fn processes(&self, id: &str) -> Result<Vec<Process>, HostError> {
        self.kept(id)?;
        let process = |pid, rss| Process { pid, rss, ..Process::default() };
        Ok(vec![process(1, 5), process(3, 9), process(2, 7)])
    }

    /// Knows `echo`, `cat`, `exit`, `flood` and, with a terminal, its size.
    async fn exec(&self, id: &str, exec: ExecStart) -> Result<ExecSession, HostError> {
        if state_of(&self.kept(id)?.machine) != State::Started {
            return Err(HostError::Conflict("the machine does not run".into()));
        }
        let (input, commands) = mpsc::channel(4);
        let (answers, output) = mpsc::channel(4);
        rt::Tasks::new().spawn(run(exec, commands, answers));
        Ok(ExecSession { input, output })
    }

    async fn logs(
        &self,
        app: &str,
        query: LogQuery,
    ) -> Result<BoxStream<'static, LogEntry>, HostError> {
        let mut lines = self.lines(app, &query);
        let old = lines.len().saturating_sub(query.tail.unwrap_or(u32::MAX) as usize);
        lines.drain(..old);
        let kept = stream::iter(lines);
        // A host that follows never ends its stream.
        Ok(if query.follow { kept.chain(stream::pending()).boxed() } else { kept.boxed() })
    }

    async fn import_image(
        &self,
        name: Option<String>,
        mut tar: Box<dyn AsyncRead + Send + Unpin>,
    ) -> Result<BoxStream<'static, ImageProgress>, HostError> {
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

    async fn images(&self) -> Result<Vec<Image>, HostError> {
        Ok(lock(&self.images).values().cloned().collect())
    }

    async fn remove_image(&self, reference: &str) -> Result<bool, HostError> {
        Ok(lock(&self.images).remove(reference).is_some())
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
