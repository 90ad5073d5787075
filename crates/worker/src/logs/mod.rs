//! Logs of this host's machines: local segment files first, then whoever follows.
//!
//! Bounds: per machine two segments of [`SEGMENT`] bytes, a line of [`LINE`]
//! bytes, and a rate of [`RATE`] bytes per second with a burst; what is beyond
//! is dropped and counted in a line of the log itself. Lines of a machine are
//! numbered; the numbers of dropped lines are left out, so a reader sees gaps.

mod guest;
mod lines;
mod segments;

pub(crate) use guest::GuestLog;

use lines::Splitter;
use segments::Segments;

use camino::Utf8PathBuf;
use futures_util::stream::{self, BoxStream, StreamExt};
use rt::Clock;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::{Semaphore, broadcast};
use wire::logs::{LogEntry, LogQuery};

/// Bytes of one segment file; two are kept per machine.
const SEGMENT: u64 = 4 << 20;
/// Longest line; longer ones are cut.
const LINE: usize = 16 << 10;
/// Bytes per second and machine that are kept.
const RATE: u64 = 1 << 20;
/// Lines that a slow follower may be behind.
const FOLLOW: usize = 4096;
/// Queries that read files at once.
const READERS: usize = 4;
/// Newest lines a query may ask for.
const MOST: usize = 10_000;

/// The logs of one host.
pub(crate) struct LogStore {
    dir: Utf8PathBuf,
    region: String,
    clock: Clock,
    machines: Mutex<HashMap<String, Arc<Mutex<MachineLog>>>>,
    /// Followers of each app that has any: one app's flood is not another's gap.
    live: Mutex<HashMap<String, broadcast::Sender<Arc<LogEntry>>>>,
    /// How far the logs of guests have come, by machine.
    positions: Mutex<HashMap<String, guest::Positions>>,
    /// Queries that read files at once.
    reading: Arc<Semaphore>,
}

struct MachineLog {
    app: String,
    segments: Segments,
    splitters: [Splitter; 3],
    next: u64,
    budget: Budget,
    /// Lines dropped here and bytes dropped in the guest, not told of yet.
    dropped: (u64, u64),
}

/// Whose words they are.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Voice {
    Stdout,
    Stderr,
    Init,
}

impl LogStore {
    pub(crate) fn open(dir: Utf8PathBuf, region: String, clock: Clock) -> std::io::Result<Self> {
        std::fs::create_dir_all(&dir)?;
        let (machines, live, positions) = Default::default();
        let reading = Arc::new(Semaphore::new(READERS));
        Ok(Self { dir, region, clock, machines, live, positions, reading })
    }

    /// Bytes of the guest, cut into lines here.
    pub(crate) fn bytes(&self, app: &str, machine: &str, voice: Voice, bytes: &[u8]) {
        let log = self.machine(app, machine);
        let mut log = lock(&log);
        let mut lines = Vec::new();
        log.splitters[voice as usize].feed(bytes, |line| lines.push(line));
        let (provider, level) = match voice {
            Voice::Stdout | Voice::Stderr => ("app", "info"),
            Voice::Init => ("init", "info"),
        };
        for line in lines {
            self.append(&mut log, machine, provider, level, line);
        }
    }

    /// One line of the platform's own (`runner`, `proxy`); not subject to the rate.
    pub(crate) fn line(&self, app: &str, machine: &str, provider: &str, line: &str) {
        let log = self.machine(app, machine);
        let mut line = line.to_owned();
        line.truncate(line.floor_char_boundary(LINE));
        let mut log = lock(&log);
        self.write(&mut log, machine, provider, "info", line);
    }

    /// The guest dropped this many bytes because nobody read them. Told with the
    /// next line, so that a guest cannot make lines of it.
    pub(crate) fn guest_dropped(&self, app: &str, machine: &str, bytes: u64) {
        let log = self.machine(app, machine);
        let mut log = lock(&log);
        log.dropped.1 = log.dropped.1.saturating_add(bytes);
    }

    /// The machine has ended: nothing comes after which a gap could be told.
    pub(crate) fn settle(&self, machine: &str) {
        let log = self.lock().get(machine).cloned();
        if let Some(log) = log {
            self.tell_of_gap(&mut lock(&log), machine);
        }
    }

    fn append(&self, log: &mut MachineLog, machine: &str, by: &str, level: &str, line: String) {
        if !log.budget.take(line.len() as u64 + 64, self.clock.now_ms()) {
            log.dropped.0 += 1;
            log.next += 1;
            return;
        }
        self.tell_of_gap(log, machine);
        self.write(log, machine, by, level, line);
    }

    fn tell_of_gap(&self, log: &mut MachineLog, machine: &str) {
        let (lines, bytes) = std::mem::take(&mut log.dropped);
        if lines > 0 {
            let text = format!("{lines} lines were dropped: more than {RATE} bytes/s");
            self.write(log, machine, "runner", "warn", text);
        }
        if bytes > 0 {
            let text = format!("{bytes} bytes of output were dropped in the guest: too fast");
            self.write(log, machine, "runner", "warn", text);
        }
    }

    fn write(&self, log: &mut MachineLog, machine: &str, by: &str, level: &str, message: String) {
        let entry = LogEntry {
            offset: log.next,
            timestamp: self.clock.now_ns(),
            provider: by.into(),
            level: level.into(),
            instance: machine.into(),
            region: self.region.clone(),
            message,
        };
        log.next += 1;
        // A full disk must not stop the machine; followers still see the line.
        if let Err(err) = log.segments.append(&entry) {
            tracing::debug!(machine, error = %err, "cannot write log segment");
        }
        let mut live = lock(&self.live);
        let unheard = live.get(&log.app).is_some_and(|to| to.send(Arc::new(entry)).is_err());
        if unheard {
            live.remove(&log.app);
        }
    }

    /// Lines as asked, of these machines; with `follow` it never ends by itself.
    pub(crate) async fn query(
        &self,
        machines: Vec<String>,
        app: &str,
        query: &LogQuery,
    ) -> BoxStream<'static, LogEntry> {
        // Subscribed before the files are read: a line may then come twice,
        // which the offsets tell, but is never missed.
        let live = query.follow.then(|| self.subscribe(app));
        let past = self.past(machines, query.clone()).await;
        let Some(live) = live else { return stream::iter(past).boxed() };
        let mut seen: HashMap<String, u64> = HashMap::new();
        for entry in &past {
            seen.insert(entry.instance.clone(), entry.offset);
        }
        let only = query.instance.clone();
        let wanted = move |entry: &LogEntry| {
            only.as_ref().is_none_or(|only| *only == entry.instance)
                && seen.get(&entry.instance).is_none_or(|last| entry.offset > *last)
        };
        stream::iter(past).chain(follow(live, wanted)).boxed()
    }

    fn subscribe(&self, app: &str) -> broadcast::Receiver<Arc<LogEntry>> {
        let mut live = lock(&self.live);
        let sender = live.entry(app.to_owned()).or_insert_with(|| broadcast::channel(FOLLOW).0);
        sender.subscribe()
    }

    /// The newest stored lines, oldest first. Holds one machine's files and what
    /// is wanted at a time; few read at once, beside the runtime.
    async fn past(&self, machines: Vec<String>, query: LogQuery) -> Vec<LogEntry> {
        // It is never closed.
        let Ok(turn) = self.reading.clone().acquire_owned().await else { return Vec::new() };
        let dir = self.dir.clone();
        let read = tokio::task::spawn_blocking(move || {
            let _turn = turn;
            let most = query.tail.map_or(MOST, |tail| (tail as usize).min(MOST));
            let mut newest: Vec<LogEntry> = Vec::new();
            for machine in &machines {
                let mut lines = segments::read(&dir, machine);
                lines.retain(|entry| is_wanted(entry, &query));
                newest.extend(lines.drain(lines.len().saturating_sub(most)..));
                newest.sort_by_key(|entry| (entry.timestamp, entry.offset));
                newest.drain(..newest.len().saturating_sub(most));
            }
            newest
        });
        read.await.unwrap_or_default()
    }

    /// Removes the log of a machine that is forgotten.
    pub(crate) fn remove(&self, machine: &str) {
        self.lock().remove(machine);
        lock(&self.positions).remove(machine);
        segments::remove(&self.dir, machine);
    }

    fn machine(&self, app: &str, machine: &str) -> Arc<Mutex<MachineLog>> {
        let mut machines = self.lock();
        let make = || {
            let segments = Segments::open(&self.dir, machine);
            let next = segments.last_offset().map_or(1, |last| last + 1);
            Arc::new(Mutex::new(MachineLog {
                app: app.into(),
                segments,
                splitters: Default::default(),
                next,
                budget: Budget::default(),
                dropped: (0, 0),
            }))
        };
        machines.entry(machine.into()).or_insert_with(make).clone()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<String, Arc<Mutex<MachineLog>>>> {
        lock(&self.machines)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn is_wanted(entry: &LogEntry, query: &LogQuery) -> bool {
    query.after.is_none_or(|after| entry.timestamp > after)
        && query.region.as_ref().is_none_or(|region| entry.region == *region)
}

fn follow(
    live: broadcast::Receiver<Arc<LogEntry>>,
    wanted: impl Fn(&LogEntry) -> bool + Send + 'static,
) -> impl futures_util::Stream<Item = LogEntry> + Send {
    stream::unfold((live, wanted), |(mut live, wanted)| async move {
        loop {
            match live.recv().await {
                Ok(entry) if wanted(&entry) => return Some(((*entry).clone(), (live, wanted))),
                Ok(_) => {}
                // A follower that is too slow goes on with what is newest.
                Err(broadcast::error::RecvError::Lagged(lines)) => {
                    tracing::debug!(lines, "a follower of a log is too slow");
                }
                Err(broadcast::error::RecvError::Closed) => return None,
            }
        }
    })
}

/// Bytes a machine may still log; refilled with time.
#[derive(Debug)]
struct Budget {
    left: u64,
    at_ms: u64,
}

impl Default for Budget {
    fn default() -> Self {
        Self { left: 4 * RATE, at_ms: 0 }
    }
}

impl Budget {
    fn take(&mut self, bytes: u64, now_ms: u64) -> bool {
        let gained = now_ms.saturating_sub(self.at_ms).min(10_000) * RATE / 1000;
        self.left = (self.left + gained).min(4 * RATE);
        self.at_ms = now_ms;
        let fits = self.left >= bytes;
        self.left -= if fits { bytes } else { 0 };
        fits
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn store(dir: &tempfile::TempDir, clock: &Clock) -> Arc<LogStore> {
        let path = Utf8PathBuf::from_path_buf(dir.path().into()).unwrap();
        Arc::new(LogStore::open(path, "here".into(), clock.clone()).unwrap())
    }

    async fn all(store: &Arc<LogStore>, query: LogQuery) -> Vec<String> {
        let machines = match &query.instance {
            Some(only) => vec![only.clone()],
            None => vec!["m1".to_owned(), "m2".to_owned()],
        };
        let lines = store.query(machines, "web", &query).await;
        lines.map(|e| e.message).collect::<Vec<_>>().await
    }

    #[tokio::test]
    async fn lines_are_cut_kept_and_filtered() {
        let (dir, clock) = (tempfile::tempdir().unwrap(), Clock::manual(0));
        let store = store(&dir, &clock);
        store.bytes("web", "m1", Voice::Stdout, b"one\ntw");
        clock.advance(std::time::Duration::from_millis(1));
        store.bytes("web", "m2", Voice::Stderr, b"other\n");
        clock.advance(std::time::Duration::from_millis(1));
        store.bytes("web", "m1", Voice::Stdout, b"o\r\n");
        assert_eq!(all(&store, LogQuery::default()).await, ["one", "other", "two"]);
        let only = LogQuery { instance: Some("m1".into()), tail: Some(1), ..LogQuery::default() };
        assert_eq!(all(&store, only).await, ["two"]);
        let after = LogQuery { after: Some(1_000_000), ..LogQuery::default() };
        assert_eq!(all(&store, after).await, ["two"]);
    }

    #[tokio::test]
    async fn a_flood_is_bounded_and_counted() {
        let (dir, clock) = (tempfile::tempdir().unwrap(), Clock::manual(0));
        let store = store(&dir, &clock);
        let line = [b"x".repeat(1000), b"\n".to_vec()].concat();
        for _ in 0..20_000 {
            store.bytes("web", "m1", Voice::Stdout, &line);
        }
        clock.advance(std::time::Duration::from_secs(5));
        store.bytes("web", "m1", Voice::Stdout, b"after\n");
        let lines = all(&store, LogQuery::default()).await;
        assert!(lines.len() < 10_000);
        assert_eq!(lines.last().unwrap(), "after");
        let dropped: u64 =
            lines[lines.len() - 2].split(' ').next().unwrap().parse().expect("a count");
        assert_eq!(dropped as usize + lines.len() - 2, 20_000);
    }

    #[tokio::test]
    async fn what_the_guest_dropped_is_one_line_at_the_end() {
        let (dir, clock) = (tempfile::tempdir().unwrap(), Clock::manual(0));
        let store = store(&dir, &clock);
        for _ in 0..1000 {
            store.guest_dropped("web", "m1", 3);
        }
        store.settle("m1");
        let lines = all(&store, LogQuery::default()).await;
        assert_eq!(lines, ["3000 bytes of output were dropped in the guest: too fast"]);
    }

    #[tokio::test]
    async fn a_follower_misses_nothing_and_a_new_store_goes_on_counting() {
        let (dir, clock) = (tempfile::tempdir().unwrap(), Clock::manual(0));
        let first = store(&dir, &clock);
        first.bytes("web", "m1", Voice::Stdout, b"a\n");
        drop(first);
        let second = store(&dir, &clock);
        let query = LogQuery { follow: true, ..LogQuery::default() };
        let mut lines = second.query(vec!["m1".to_owned()], "web", &query).await;
        second.bytes("web", "m1", Voice::Stdout, b"b\n");
        let got = [lines.next().await.unwrap(), lines.next().await.unwrap()];
        assert_eq!(got.each_ref().map(|e| (e.offset, e.message.as_str())), [(1, "a"), (2, "b")]);
    }
}
