//! `Routes`, `Load`, `Connections` and `Logs` of the host in memory.

use super::{FakeHost, FakeMachine};
use async_trait::async_trait;
use futures_util::StreamExt;
use futures_util::stream::{self, BoxStream};
use host_api::{
    CallContext, Connections, GuestConnection, GuestStream, HostError, Load, LogFilter, LogLine,
    Logs, Machines, Route, RoutePosition, RouteSnapshot, RouteState, RouteSubscription, Routes,
    Stop, Upstream, WaitFor, WakeRefused,
};
use model::id::{AppId, MachineId};
use model::life::State;
use std::io;
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use wire::logs::{LogEntry, LogQuery};

/// Lines of one answer.
const PAGE: usize = 10_000;

#[async_trait]
impl Routes for FakeHost {
    async fn routes(&self, context: CallContext) -> Result<RouteSubscription, HostError> {
        self.enter_call("routes", &context).await?;
        let mut state = self.lock();
        let (sender, changes) = mpsc::channel(10_000);
        let (acknowledge, mut acknowledged) = mpsc::channel(256);
        state.subscribers.push(sender);
        let host = self.clone();
        // Ends when the subscriber drops its end.
        rt::Tasks::new().spawn(async move {
            while let Some(generation) = acknowledged.recv().await {
                host.lock().acknowledged.send_replace(generation);
                host.touch();
            }
        });
        let there = state.machines.iter().filter(|(_, kept)| kept.state != State::Destroyed);
        let routes = there.map(|(id, kept)| self.route(*id, kept)).collect();
        let (epoch, generation) = (state.worker_epoch, state.generation);
        let position = RoutePosition { host: self.0.id, epoch, generation };
        drop(state);
        self.touch();
        let snapshot = RouteSnapshot { position, routes };
        Ok(RouteSubscription { snapshot, changes, acknowledge })
    }
}

#[async_trait]
impl Load for FakeHost {
    async fn wake(&self, context: CallContext, id: MachineId) -> Result<(), WakeRefused> {
        let state = self.owned(id, context.epoch)?.state;
        if state == State::Started {
            return Ok(());
        }
        if matches!(state, State::Destroyed | State::Destroying) {
            return Err(WakeRefused::Gone);
        }
        self.start(context.clone(), id).await?;
        let states = vec![State::Started.as_str().to_owned(), State::Failed.as_str().to_owned()];
        let wait = WaitFor { states, timeout_ms: u64::MAX, ..WaitFor::default() };
        let reached = self.wait(context, id, wait).await?;
        if reached.state == State::Started.as_str() {
            return Ok(());
        }
        Err(WakeRefused::Failed("the start failed".into()))
    }

    async fn stop_idle(
        &self,
        context: CallContext,
        id: MachineId,
        _reason: String,
    ) -> Result<(), WakeRefused> {
        Ok(self.stop(context, id, Stop::default()).await?)
    }

    async fn suspend_idle(
        &self,
        context: CallContext,
        id: MachineId,
        _reason: String,
    ) -> Result<(), WakeRefused> {
        Ok(self.suspend(context, id).await?)
    }

    async fn set_busy(
        &self,
        context: CallContext,
        id: MachineId,
        ttl_ms: u64,
    ) -> Result<Option<u64>, HostError> {
        let machine = self.machine(context, id).await?;
        if machine.state != State::Started.as_str() {
            let why = format!("machine is {}: it has to be started for this", machine.state);
            return Err(HostError::Conflict(why));
        }
        Ok((ttl_ms > 0).then(|| self.now_ms() + ttl_ms))
    }

    fn drained(&self, id: MachineId) {
        self.lock().drained.push(id);
        self.touch();
    }

    fn sessions(&self, id: MachineId) -> usize {
        self.lock().sessions.get(&id).copied().unwrap_or(0)
    }
}

#[async_trait]
impl Connections for FakeHost {
    async fn connect(
        &self,
        context: CallContext,
        upstream: Upstream,
    ) -> io::Result<Box<dyn GuestStream>> {
        let gone = || io::Error::new(io::ErrorKind::NotFound, "that boot has ended");
        let (to, pause) = {
            let mut state = self.lock();
            let kept = state.machines.get(&upstream.machine).ok_or_else(gone)?;
            if kept.boot != Some(upstream.boot) {
                return Err(gone());
            }
            (state.upstreams.get(&upstream.machine).copied(), state.pauses.remove("connect"))
        };
        let refused = || io::Error::from(io::ErrorKind::ConnectionRefused);
        let to = to.ok_or_else(refused)?;
        let connect = async {
            if let Some(silent) = pause {
                silent.hold().await;
            }
            TcpStream::connect(to).await
        };
        let late = |_| io::Error::from(io::ErrorKind::TimedOut);
        let stream = tokio::time::timeout(context.deadline.remaining(), connect);
        Ok(Box::new(stream.await.map_err(late)??))
    }

    async fn guest_connections(
        &self,
        context: CallContext,
    ) -> Result<BoxStream<'static, GuestConnection>, HostError> {
        self.enter_call("guest_connections", &context).await?;
        let (sender, receiver) = mpsc::channel(16);
        self.lock().guests = Some(sender);
        self.touch();
        let next = |mut from: mpsc::Receiver<_>| async { Some((from.recv().await?, from)) };
        Ok(stream::unfold(receiver, next).boxed())
    }
}

impl FakeHost {
    pub(super) fn route(&self, id: MachineId, kept: &FakeMachine) -> Route {
        let config = kept.machine.config.clone().unwrap_or_default();
        let state = match kept.state {
            State::Started => RouteState::Started,
            State::Starting | State::Restarting => RouteState::Starting,
            State::Stopping | State::Suspending => RouteState::Stopping,
            State::Created | State::Stopped | State::Suspended | State::Failed => {
                RouteState::Asleep
            }
            _ => RouteState::Unavailable,
        };
        Route {
            app: kept.create.app,
            app_name: kept.create.app_name.clone(),
            machine: id,
            epoch: kept.epoch,
            region: kept.machine.region.clone(),
            instance: kept.machine.instance_id.parse().expect("instances are ULIDs"),
            boot: kept.boot,
            state,
            listening: kept.listening.clone(),
            cordoned: kept.machine.cordoned,
            services: config.services.clone().unwrap_or_default(),
            disable_autostart: config.disable_machine_autostart.unwrap_or(false),
            primary_region: None,
            last_failure: None,
            suspended: kept.state == State::Suspended,
            started_ms: 0,
            stages_ms: Vec::new(),
            health: Vec::new(),
        }
    }

    /// Whether anyone has followed its logs.
    pub fn follows_logs(&self) -> bool {
        self.lock().follows_logs
    }

    /// The time of the newest line of all apps.
    fn newest_ns(&self) -> i64 {
        self.lock().logs.iter().map(|(_, line)| line.timestamp).max().unwrap_or(-1)
    }

    fn lines(&self, app: AppId, query: &LogQuery) -> Vec<LogEntry> {
        let state = self.lock();
        let of = state.logs.iter().filter(|(of, _)| *of == app).map(|(_, line)| line);
        let filter = LogFilter::new(query);
        of.filter(|line| filter.matches(line))
            .filter(|line| query.after.is_none_or(|after| line.timestamp > after))
            .cloned()
            .collect()
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
        self.enter_call("logs", &context).await?;
        let mut lines = self.lines(app, &query);
        let all = lines.len();
        if query.after.is_some() && query.tail.is_none() {
            // A page continues where the last one ended.
            lines.truncate(PAGE);
        }
        let newest = lines.iter().map(|line| line.offset).max();
        let most = query.tail.map_or(PAGE, |tail| tail as usize);
        lines.drain(..lines.len().saturating_sub(most));
        let end = match lines.last() {
            // A page that is full, and is followed by another.
            Some(last) if lines.len() < all && query.tail.is_none() => {
                LogEntry::position_within(last.timestamp)
            }
            _ => LogEntry::position(self.newest_ns()),
        };
        lines.extend(query.positions.then_some(end));
        let kept = stream::iter(lines);
        if !query.follow {
            return Ok(kept.boxed());
        }
        let (host, epoch) = (self.clone(), self.lock().worker_epoch);
        self.lock().follows_logs = true;
        self.touch();
        let later = Follow { host, epoch, app, query, after: newest, ready: Vec::new() };
        let next = |mut follow: Follow| async { Some((follow.next().await?, follow)) };
        Ok(kept.chain(stream::unfold(later, next)).boxed())
    }

    fn append(&self, line: LogLine) {
        self.add_line(&line);
    }
}

/// Lines that come after those of the beginning, until the worker starts again.
struct Follow {
    host: FakeHost,
    epoch: u64,
    app: AppId,
    query: LogQuery,
    after: Option<u64>,
    ready: Vec<LogEntry>,
}

impl Follow {
    async fn next(&mut self) -> Option<LogEntry> {
        let mut changed = self.host.0.changed.subscribe();
        loop {
            if self.ready.is_empty() {
                let mut lines = self.host.lines(self.app, &self.query);
                lines.retain(|line| self.after.is_none_or(|after| line.offset > after));
                lines.reverse();
                self.ready = lines;
            }
            if let Some(line) = self.ready.pop() {
                self.after = Some(line.offset);
                return Some(line);
            }
            if self.host.lock().worker_epoch != self.epoch {
                return None;
            }
            // The sender lives as long as the host.
            let _ = changed.changed().await;
        }
    }
}
