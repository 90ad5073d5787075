//! Logs of this host's machines and apps: written to local segment files by one
//! thread (`writer`), kept within limits (`retention`), read by queries and followers (`read`),
//! and exported (`export`).
//!
//! Bounds: per log the bytes and the age of [`LogLimits`], a line of [`LINE`] bytes, a rate
//! with a burst (`budget`), and [`QUEUED`] bytes that wait for the writer; what is
//! beyond is dropped and counted in a line of the log itself. Lines of a log are
//! numbered; the numbers of dropped lines are left out, so a reader sees gaps. Each line has a
//! later time than the one before it on this host, so a time is a place in all logs of the host.

mod budget;
pub(crate) mod export;
mod files;
#[cfg(test)]
mod fuzz_tests;
mod guest;
mod lines;
mod log;
mod read;
mod retention;
#[cfg(test)]
mod store_tests;
mod writer;

pub(crate) use guest::{Channel, GuestLog, LogStream, Meta};
pub(crate) use read::{LogNames, TooManyQueries};
pub use retention::LogLimits;

use camino::Utf8PathBuf;
use export::Marks;
pub(crate) use files::APP;
use files::Index;
use futures_util::FutureExt;
use futures_util::stream::BoxStream;
use guest::Numbered;
use lines::LINE;
use log::{LogId, Queued, Regions, Shared};
use read::{Answer, Live, Queries, Reader};
use rt::failure::panic_message;
use rt::{Clock, FailureHandler};
use std::collections::{BTreeSet, HashMap};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::Ordering;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;
use wire::logs::{LogEntry, LogQuery};
use writer::{Job, Writer};

/// Bytes of one machine that may wait for the writer.
const QUEUED: usize = 512 << 10;
/// Jobs that may wait for the writer.
const JOBS: usize = 4096;
/// How often what is too much or too old is removed.
const SWEEP_EVERY: Duration = Duration::from_secs(60);

/// The logs of one host.
pub(crate) struct LogStore {
    clock: Clock,
    dir: Utf8PathBuf,
    index: Arc<Index>,
    live: Arc<Live>,
    reader: Reader,
    queries: Arc<Queries>,
    marks: Arc<Marks>,
    queued: Mutex<HashMap<String, Arc<Queued>>>,
    regions: Arc<Regions>,
    /// `None` only while it is dropped.
    jobs: Option<Arc<SyncSender<Job>>>,
    thread: Option<JoinHandle<()>>,
}

impl LogStore {
    pub(crate) fn open(
        dir: Utf8PathBuf,
        region: String,
        limits: LogLimits,
        clock: Clock,
        failures: FailureHandler,
    ) -> std::io::Result<Self> {
        std::fs::create_dir_all(&dir)?;
        let (jobs, queue) = sync_channel(JOBS);
        let (index, live, marks) = (Arc::default(), Arc::default(), Arc::default());
        let regions = Arc::new(Regions { own: region, of_machines: Mutex::default() });
        let shared = Shared {
            dir: dir.clone(),
            regions: Arc::clone(&regions),
            limits,
            index: Arc::clone(&index),
            live: Arc::clone(&live),
            marks: Arc::clone(&marks),
        };
        let writer = Writer::new(shared);
        let thread = std::thread::Builder::new().name("log-writer".into()).spawn(move || {
            if let Err(panic) = catch_unwind(AssertUnwindSafe(|| writer.run(&queue))) {
                failures.report("the writer of the logs", panic_message(&*panic));
            }
        })?;
        let (jobs, thread) = (Some(Arc::new(jobs)), Some(thread));
        let reader = Reader::new(dir.clone(), Arc::clone(&index));
        let (queries, queued) = (Arc::default(), Mutex::default());
        Ok(Self { clock, dir, index, live, reader, queries, marks, queued, regions, jobs, thread })
    }

    /// The region that the lines of a machine name, before it has any; else it is the host's.
    pub(crate) fn set_region(&self, machine: &str, region: &str) {
        let mut regions = self.regions.of_machines.lock().unwrap_or_else(PoisonError::into_inner);
        regions.insert(machine.to_owned(), region.to_owned());
    }

    /// Output of a machine's guest.
    pub(crate) fn bytes(&self, app: &str, machine: &str, stream: LogStream, bytes: &[u8]) {
        self.send_bytes(of_machine(app, machine), stream.into(), bytes, None, None);
    }

    /// Output of a guest that numbers its bytes: what has been stored before is left
    /// out. `acknowledge` gets the offset before which everything of this stream is
    /// stored, or dropped and counted, after it has been written: the guest may forget it.
    pub(crate) fn append_guest(
        &self,
        log: &GuestLog<'_>,
        acknowledge: impl FnOnce(u64) + Send + 'static,
    ) {
        let numbered =
            Numbered { boot: log.boot, offset: log.offset, acknowledge: Box::new(acknowledge) };
        let (id, meta) = (of_machine(log.app, log.machine), log.meta.clone());
        self.send_bytes(id, log.channel, log.data, meta, Some(numbered));
    }

    fn send_bytes(
        &self,
        id: LogId,
        channel: Channel,
        bytes: &[u8],
        meta: Option<Meta>,
        numbered: Option<Numbered>,
    ) {
        // Of a unit that no guest can have.
        let Some(slot) = channel.slot() else { return };
        let queued = self.queued(&id.log);
        let length = bytes.len();
        let before = queued.bytes.fetch_add(length, Ordering::Relaxed);
        let (bytes, at_ns) = (bytes.to_vec(), self.clock.now_ns());
        let job = Job::Bytes { id, slot, bytes, meta, at_ns, numbered, queued: queued.clone() };
        // Dropped data is lost and counted, also if its guest numbers it: the
        // acknowledgement of what follows is one of all before it.
        if before + length > QUEUED || !self.try_send(job) {
            queued.bytes.fetch_sub(length, Ordering::Relaxed);
            queued.dropped_bytes.fetch_add(length as u64, Ordering::Relaxed);
        }
    }

    /// One line of the platform (`runner`, `proxy`) in a machine's log; not subject to
    /// the rate.
    pub(crate) fn line(&self, app: &str, machine: &str, provider: &str, line: &str) {
        self.add_line(of_machine(app, machine), provider, "info", line);
    }

    /// One line of the platform in the log of a machine, or of the app itself.
    pub(crate) fn append(
        &self,
        app: &str,
        machine: Option<&str>,
        (provider, level): (&str, &str),
        line: &str,
    ) {
        let id = machine.map_or_else(|| of_app(app), |machine| of_machine(app, machine));
        self.add_line(id, provider, level, line);
    }

    fn add_line(&self, id: LogId, provider: &str, level: &str, line: &str) {
        let (provider, level) = (provider.to_owned(), level.to_owned());
        let message = line[..line.floor_char_boundary(LINE)].to_owned();
        let at_ns = self.clock.now_ns();
        self.send_or_drop(Job::Line { id, provider, level, message, at_ns });
    }

    /// The guest dropped this many bytes because they were not read.
    pub(crate) fn guest_dropped(&self, app: &str, machine: &str, bytes: u64) {
        self.send_or_drop(Job::GuestDropped { id: of_machine(app, machine), bytes });
    }

    /// The machine's VM has ended: its last line is complete.
    pub(crate) fn end_streams(&self, machine: &str) {
        let at_ns = self.clock.now_ns();
        self.send_or_drop(Job::EndOfStreams { log: machine.into(), at_ns });
    }

    /// The machine is destroyed: only the end of its log is kept, once it has been exported.
    pub(crate) fn trim(&self, machine: &str) {
        let at_ns = self.clock.now_ns();
        self.send_or_drop(Job::Trim { log: machine.into(), at_ns });
    }

    /// Removes the log of a machine whose record is removed.
    pub(crate) fn remove(&self, machine: &str) {
        self.lock().remove(machine);
        let mut regions = self.regions.of_machines.lock().unwrap_or_else(PoisonError::into_inner);
        regions.remove(machine);
        drop(regions);
        self.send_or_drop(Job::Remove { log: machine.into() });
    }

    /// Removes the logs of all other machines and apps.
    pub(crate) fn retain(&self, machines: BTreeSet<String>, apps: BTreeSet<String>) {
        let apps = apps.iter().map(|app| app_log(app));
        let logs = machines.into_iter().chain(apps).collect();
        self.send_or_drop(Job::Retain { logs });
    }

    fn try_send(&self, job: Job) -> bool {
        self.jobs.as_ref().is_some_and(|jobs| jobs.try_send(job).is_ok())
    }

    fn send_or_drop(&self, job: Job) {
        if !self.try_send(job) {
            tracing::debug!("the writer of the logs is behind; a line of the platform is dropped");
        }
    }

    /// Removes what is too much or too old.
    pub(crate) fn sweep(&self) {
        self.send_or_drop(Job::Sweep { now_ns: self.clock.now_ns() });
    }

    /// Lines as asked, of these machines and of the app itself; with `follow` the
    /// stream does not end by itself. It holds one page, and reads the next one when the
    /// last line of that has been taken.
    pub(crate) async fn query(
        &self,
        machines: impl Into<LogNames>,
        app: &str,
        query: &LogQuery,
    ) -> Result<BoxStream<'static, LogEntry>, TooManyQueries> {
        let (place, query) = (self.queries.admit(app)?, query.clone());
        // Subscribed before the files are read, so that no line is missed in between.
        let live = query.follow.then(|| self.live.follow(app));
        let own = query.instance.is_none().then(|| app_log(app));
        let machines = machines.into();
        let names = LogNames::new(move || machines.list().into_iter().chain(own.clone()).collect());
        let reader = self.reader.clone();
        // Not held: the writer ends with the last sender.
        let jobs = self.jobs.as_ref().map(Arc::downgrade).unwrap_or_default();
        let flush = Arc::new(move || flush(jobs.upgrade()).boxed());
        Ok(Answer { reader, names, query, flush, live, _place: place }.stream().await)
    }

    /// Where exported lines come from, once the files have been looked through.
    pub(crate) async fn export_source(&self) -> export::Source {
        flush(self.jobs.clone()).await;
        let (dir, index, marks) = (self.dir.clone(), self.index.clone(), self.marks.clone());
        export::Source { dir, index, marks }
    }

    fn queued(&self, machine: &str) -> Arc<Queued> {
        self.lock().entry(machine.to_owned()).or_default().clone()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<String, Arc<Queued>>> {
        self.queued.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for LogStore {
    /// Writes what is queued.
    fn drop(&mut self) {
        self.jobs = None;
        if let Some(thread) = self.thread.take() {
            // It has reported its own panic.
            let _ = thread.join();
        }
    }
}

fn of_machine(app: &str, machine: &str) -> LogId {
    LogId { app: app.into(), log: machine.into(), instance: machine.into() }
}

fn of_app(app: &str) -> LogId {
    LogId { app: app.into(), log: app_log(app), instance: String::new() }
}

/// Name of an app's own log.
fn app_log(app: &str) -> String {
    format!("{APP}{app}")
}

/// Returns once what was logged before is written, with the time of the newest line.
async fn flush(jobs: Option<Arc<SyncSender<Job>>>) -> i64 {
    let flush = tokio::task::spawn_blocking(move || {
        let (answer, flushed) = sync_channel(1);
        // Without an answer the writer has failed, which it has reported, or has ended.
        jobs?.send(Job::Flush(answer)).ok()?;
        flushed.recv().ok()
    });
    // It does not panic. What is in the files is read all the same.
    flush.await.ok().flatten().unwrap_or(i64::MAX)
}

/// Removes what is too much or too old, again and again.
pub(crate) async fn sweep_regularly(logs: Arc<LogStore>) {
    loop {
        tokio::time::sleep(SWEEP_EVERY).await;
        logs.sweep();
    }
}
