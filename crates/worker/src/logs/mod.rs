//! Logs of this host's machines and apps: written to local segment files by one
//! thread (`writer`), sent to followers (`live`), and queried here.
//!
//! Bounds: per log two segments of [`SEGMENT`] bytes, a line of [`LINE`] bytes, a rate
//! with a burst (`budget`), and [`QUEUED`] bytes that wait for the writer; what is
//! beyond is dropped and counted in a line of the log itself. Lines of a log are
//! numbered; the numbers of dropped lines are left out, so a reader sees gaps.

mod budget;
#[cfg(test)]
mod fuzz_tests;
mod guest;
mod lines;
mod live;
mod pages;
mod query;
mod segments;
mod writer;

pub(crate) use guest::{Channel, GuestLog, LogStream, Meta};
pub(crate) use query::TooManyQueries;

use camino::Utf8PathBuf;
use futures_util::stream::BoxStream;
use guest::Numbered;
use live::Live;
use pages::Reader;
use query::{Past, Queries};
use rt::failure::panic_message;
use rt::{Clock, FailureHandler};
use std::collections::{BTreeSet, HashMap};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::Ordering;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use wire::logs::{LogEntry, LogQuery};
use writer::{Job, LogId, Queued, Writer};

/// Bytes of one segment file; two are kept per log.
const SEGMENT: u64 = 4 << 20;
/// Longest line; longer ones are cut.
const LINE: usize = 16 << 10;
/// Bytes of one machine that may wait for the writer.
const QUEUED: usize = 512 << 10;
/// Jobs that may wait for the writer.
const JOBS: usize = 4096;
/// The logs of one host.
pub(crate) struct LogStore {
    clock: Clock,
    live: Arc<Live>,
    reader: Reader,
    queries: Arc<Queries>,
    queued: Mutex<HashMap<String, Arc<Queued>>>,
    /// `None` only while it is dropped.
    jobs: Option<SyncSender<Job>>,
    thread: Option<JoinHandle<()>>,
}

impl LogStore {
    pub(crate) fn open(
        dir: Utf8PathBuf,
        region: String,
        clock: Clock,
        failures: FailureHandler,
    ) -> std::io::Result<Self> {
        std::fs::create_dir_all(&dir)?;
        let (jobs, queue) = sync_channel(JOBS);
        let live = Arc::new(Live::default());
        let writer = Writer::new(dir.clone(), region, live.clone());
        let thread = std::thread::Builder::new().name("log-writer".into()).spawn(move || {
            if let Err(panic) = catch_unwind(AssertUnwindSafe(|| writer.run(&queue))) {
                failures.report("the writer of the logs", panic_message(&*panic));
            }
        })?;
        let (jobs, thread) = (Some(jobs), Some(thread));
        let (reader, queries) = (Reader::new(dir), Arc::default());
        Ok(Self { clock, live, reader, queries, queued: Mutex::default(), jobs, thread })
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

    /// The machine is destroyed: only the end of its log is kept.
    pub(crate) fn trim(&self, machine: &str) {
        self.send_or_drop(Job::Trim { log: machine.into() });
    }

    /// Removes the log of a machine whose record is removed.
    pub(crate) fn remove(&self, machine: &str) {
        self.lock().remove(machine);
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

    /// Lines as asked, of these machines and of the app itself; with `follow` the
    /// stream does not end by itself. It holds one page, and reads the next one when the
    /// last line of that has been taken.
    pub(crate) async fn query(
        &self,
        machines: Vec<String>,
        app: &str,
        query: &LogQuery,
    ) -> Result<BoxStream<'static, LogEntry>, TooManyQueries> {
        let place = self.queries.admit(app)?;
        // Subscribed before the files are read: a line may then come twice,
        // which the offsets show, but is never missed.
        let live = query.follow.then(|| self.live.follow(app));
        let own = query.instance.is_none().then(|| app_log(app));
        let logs = machines.into_iter().chain(own).collect();
        self.flush().await;
        let past = Past::begin(self.reader.clone(), logs, query.clone()).await;
        Ok(query::lines(past, live, place))
    }

    /// Returns once what was logged before is written.
    async fn flush(&self) {
        let jobs = self.jobs.clone();
        let flush = tokio::task::spawn_blocking(move || {
            let (answer, flushed) = sync_channel(1);
            if jobs.is_some_and(|jobs| jobs.send(Job::Flush(answer)).is_ok()) {
                // Without an answer the writer has failed, which it has reported.
                let _ = flushed.recv();
            }
        });
        // It does not panic.
        let _ = flush.await;
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
    format!("app-{app}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::StreamExt;

    fn store(dir: &tempfile::TempDir, clock: &Clock) -> Arc<LogStore> {
        let path = Utf8PathBuf::from_path_buf(dir.path().into()).unwrap();
        Arc::new(
            LogStore::open(path, "here".into(), clock.clone(), FailureHandler::abort()).unwrap(),
        )
    }

    /// Returns once everything logged so far is written.
    async fn flush(store: &Arc<LogStore>) {
        let none = store.query(Vec::new(), "none", &LogQuery::default()).await.unwrap();
        assert_eq!(none.count().await, 0);
    }

    async fn all(store: &Arc<LogStore>, query: LogQuery) -> Vec<String> {
        let machines = match &query.instance {
            Some(only) => vec![only.clone()],
            None => vec!["m1".to_owned(), "m2".to_owned()],
        };
        let lines = store.query(machines, "web", &query).await.unwrap();
        lines.map(|e| e.message).collect::<Vec<_>>().await
    }

    #[tokio::test]
    async fn lines_are_cut_kept_and_filtered() {
        let (dir, clock) = (tempfile::tempdir().unwrap(), Clock::manual(0));
        let store = store(&dir, &clock);
        store.bytes("web", "m1", LogStream::Stdout, b"one\ntw");
        clock.advance(std::time::Duration::from_millis(1));
        store.bytes("web", "m2", LogStream::Stderr, b"other\n");
        clock.advance(std::time::Duration::from_millis(1));
        store.bytes("web", "m1", LogStream::Stdout, b"o\r\n");
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
        let lines = [b"x".repeat(1000), b"\n".to_vec()].concat().repeat(100);
        for _ in 0..200 {
            store.bytes("web", "m1", LogStream::Stdout, &lines);
            // So that nothing is dropped before it reaches the writer.
            flush(&store).await;
        }
        clock.advance(std::time::Duration::from_secs(5));
        store.bytes("web", "m1", LogStream::Stdout, b"after\n");
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
        store.end_streams("m1");
        let lines = all(&store, LogQuery::default()).await;
        assert_eq!(lines, ["3000 bytes of output were dropped: too fast"]);
    }

    #[tokio::test]
    async fn a_follower_misses_nothing_and_a_new_store_continues_the_count() {
        let (dir, clock) = (tempfile::tempdir().unwrap(), Clock::manual(0));
        let first = store(&dir, &clock);
        first.bytes("web", "m1", LogStream::Stdout, b"a\n");
        drop(first);
        let second = store(&dir, &clock);
        let query = LogQuery { follow: true, ..LogQuery::default() };
        let mut lines = second.query(vec!["m1".to_owned()], "web", &query).await.unwrap();
        second.bytes("web", "m1", LogStream::Stdout, b"b\n");
        let got = [lines.next().await.unwrap(), lines.next().await.unwrap()];
        assert_eq!(got.each_ref().map(|e| (e.offset, e.message.as_str())), [(1, "a"), (2, "b")]);
    }

    #[tokio::test]
    async fn empty_lines_have_a_cost() {
        let (dir, clock) = (tempfile::tempdir().unwrap(), Clock::manual(0));
        let store = store(&dir, &clock);
        for _ in 0..16 {
            store.bytes("web", "m1", LogStream::Stdout, &[b'\n'; 4096]);
            flush(&store).await;
        }
        let kept = all(&store, LogQuery { after: Some(-1), ..LogQuery::default() }).await.len();
        assert_eq!(kept, 10_000, "a page");
        store.end_streams("m1");
        let last = all(&store, LogQuery { tail: Some(1), ..LogQuery::default() }).await;
        let dropped = 16 * 4096 - (4 << 20) / 256;
        assert_eq!(last, [format!("{dropped} lines were dropped: more than 1048576 bytes/s")]);
    }

    #[tokio::test]
    async fn more_than_may_wait_is_dropped_and_counted() {
        let (dir, clock) = (tempfile::tempdir().unwrap(), Clock::manual(0));
        let store = store(&dir, &clock);
        store.bytes("web", "m1", LogStream::Stdout, &vec![b'x'; QUEUED + 1]);
        store.bytes("web", "m1", LogStream::Stdout, b"next\n");
        let text = format!("{} bytes of output were dropped: too fast", QUEUED + 1);
        assert_eq!(all(&store, LogQuery::default()).await, [text, "next".into()]);
    }

    #[tokio::test]
    async fn pages_continue_where_the_last_one_ended() {
        let (dir, clock) = (tempfile::tempdir().unwrap(), Clock::manual(1));
        let store = store(&dir, &clock);
        for n in 0..12_000 {
            store.line("web", "m1", "runner", &n.to_string());
            clock.advance(std::time::Duration::from_nanos(1));
            if n % 4000 == 3999 {
                flush(&store).await;
            }
        }
        let (mut after, mut got) = (0, Vec::new());
        loop {
            let query = LogQuery { after: Some(after), ..LogQuery::default() };
            let page = store.query(vec!["m1".into()], "web", &query).await.unwrap();
            let page: Vec<_> = page.collect().await;
            let Some(last) = page.last() else { break };
            after = last.timestamp;
            got.extend(page.into_iter().map(|entry| entry.message));
        }
        let expected: Vec<_> = (0..12_000).map(|n| n.to_string()).collect();
        assert!(got == expected, "{} lines", got.len());
    }

    #[tokio::test]
    async fn a_follower_that_comes_back_gets_all_that_it_has_missed() {
        let (dir, clock) = (tempfile::tempdir().unwrap(), Clock::manual(1));
        let store = store(&dir, &clock);
        for n in 0..12_000 {
            store.line("web", "m1", "runner", &n.to_string());
            if n % 4000 == 3999 {
                flush(&store).await;
            }
        }
        // All lines are of one moment, as those of one piece of output are.
        let query = LogQuery { after: Some(0), follow: true, ..LogQuery::default() };
        let lines = store.query(vec!["m1".into()], "web", &query).await.unwrap();
        store.line("web", "m1", "runner", "12000");
        let lines: Vec<_> = lines.take(12_001).map(|entry| entry.message).collect().await;
        let expected: Vec<_> = (0..=12_000).map(|n| n.to_string()).collect();
        assert!(lines == expected, "{} lines", lines.len());
    }

    #[tokio::test]
    async fn a_page_is_bounded_in_bytes_and_a_follower_gets_one_after_the_other() {
        let (dir, clock) = (tempfile::tempdir().unwrap(), Clock::manual(1));
        let store = store(&dir, &clock);
        let long = "x".repeat(LINE - 5);
        for n in 0..500 {
            store.line("web", "m1", "runner", &format!("{n:05}{long}"));
            if n % 100 == 99 {
                flush(&store).await;
            }
        }
        let number = |entry: LogEntry| entry.message[..5].parse::<usize>().unwrap();
        let page = LogQuery { after: Some(0), ..LogQuery::default() };
        let lines = store.query(vec!["m1".into()], "web", &page).await.unwrap();
        let lines: Vec<_> = lines.map(number).collect().await;
        let expected = (4 << 20) / (LINE + 128);
        assert_eq!(lines, (0..expected).collect::<Vec<_>>());
        let newest = LogQuery { tail: Some(10_000), ..LogQuery::default() };
        let lines = store.query(vec!["m1".into()], "web", &newest).await.unwrap();
        let lines: Vec<_> = lines.map(number).collect().await;
        assert_eq!(lines, (500 - expected..500).collect::<Vec<_>>());
        let all = LogQuery { follow: true, ..page };
        let mut lines = store.query(vec!["m1".into()], "web", &all).await.unwrap().map(number);
        assert_eq!(lines.next().await, Some(0));
        // Nothing beyond the first page is held: the rest is read when it is asked for.
        for file in ["m1.log", "m1.log.1"] {
            let _ = std::fs::remove_file(dir.path().join(file));
        }
        store.line("web", "m1", "runner", "00500");
        let rest: Vec<_> = lines.take(expected).collect().await;
        assert_eq!(rest, (1..expected).chain([500]).collect::<Vec<_>>());
    }

    #[tokio::test]
    async fn queries_of_one_app_are_bounded_in_number() {
        let (dir, clock) = (tempfile::tempdir().unwrap(), Clock::manual(1));
        let store = store(&dir, &clock);
        let query = LogQuery { follow: true, ..LogQuery::default() };
        let mut followers = Vec::new();
        for _ in 0..query::QUERIES {
            followers.push(store.query(vec!["m1".into()], "web", &query).await.unwrap());
        }
        let refused = store.query(vec!["m1".into()], "web", &query).await;
        assert_eq!(refused.map(drop), Err(TooManyQueries));
        assert!(store.query(vec!["m9".into()], "other", &query).await.is_ok());
        followers.pop();
        assert!(store.query(vec!["m1".into()], "web", &query).await.is_ok());
    }

    #[tokio::test]
    async fn numbered_output_that_is_dropped_is_counted() {
        let (dir, clock) = (tempfile::tempdir().unwrap(), Clock::manual(0));
        let store = store(&dir, &clock);
        let boot = Some(model::id::BootId::new(1, 1));
        let append = |offset, data: &[u8]| {
            let (app, machine, stream) = ("web", "m1", LogStream::Stdout);
            let (acknowledge, acknowledged) = tokio::sync::oneshot::channel();
            let (channel, meta) = (stream.into(), None);
            let log = GuestLog { app, machine, boot, channel, meta, offset, data };
            store.append_guest(&log, |stored| acknowledge.send(stored).unwrap_or_default());
            acknowledged
        };
        let flood = vec![b'x'; QUEUED + 1];
        assert!(append(0, &flood).await.is_err(), "it is not acknowledged by itself");
        let end = flood.len() as u64;
        assert_eq!(append(end, b"next\n").await, Ok(end + 5), "the guest may forget both");
        let text = format!("{} bytes of output were dropped: too fast", flood.len());
        assert_eq!(all(&store, LogQuery::default()).await, [text, "next".into()]);
    }

    #[tokio::test]
    async fn what_cannot_be_written_is_not_acknowledged_until_it_is() {
        let (dir, clock) = (tempfile::tempdir().unwrap(), Clock::manual(0));
        let store = store(&dir, &clock);
        // No file can be written there.
        let blocked = dir.path().join("m1.log");
        std::fs::create_dir(&blocked).unwrap();
        let boot = Some(model::id::BootId::new(1, 1));
        let append = |offset, data| {
            let (app, machine, stream) = ("web", "m1", LogStream::Stdout);
            let (acknowledge, acknowledged) = tokio::sync::oneshot::channel();
            let (channel, meta) = (stream.into(), None);
            let log = GuestLog { app, machine, boot, channel, meta, offset, data };
            store.append_guest(&log, |stored| acknowledge.send(stored).unwrap_or_default());
            acknowledged
        };
        let mut first = append(0, b"one\n");
        flush(&store).await;
        assert!(first.try_recv().is_err());
        std::fs::remove_dir(&blocked).unwrap();
        assert_eq!(append(4, b"two\n").await, Ok(8));
        assert_eq!(first.await, Ok(4));
        assert_eq!(all(&store, LogQuery::default()).await, ["one", "two"]);
    }

    #[tokio::test]
    async fn a_follower_gets_only_what_it_asked_for() {
        let (dir, clock) = (tempfile::tempdir().unwrap(), Clock::manual(5));
        let store = store(&dir, &clock);
        let elsewhere =
            LogQuery { follow: true, region: Some("nowhere".into()), ..LogQuery::default() };
        let late = LogQuery { follow: true, after: Some(5), ..LogQuery::default() };
        let mut elsewhere = store.query(vec!["m1".into()], "web", &elsewhere).await.unwrap();
        let mut late = store.query(vec!["m1".into()], "web", &late).await.unwrap();
        store.line("web", "m1", "runner", "at five");
        clock.advance(std::time::Duration::from_nanos(1));
        store.line("web", "m1", "runner", "at six");
        assert_eq!(late.next().await.unwrap().message, "at six");
        // Both have been sent by now.
        let next = futures_util::poll!(elsewhere.next());
        assert!(next.is_pending(), "another region's follower gets nothing");
    }

    #[tokio::test]
    async fn an_unfinished_last_line_is_kept_and_a_destroyed_machines_log_is_cut() {
        let (dir, clock) = (tempfile::tempdir().unwrap(), Clock::manual(0));
        let store = store(&dir, &clock);
        store.bytes("web", "m1", LogStream::Stderr, b"begin\npanic: out of cheese");
        store.end_streams("m1");
        assert_eq!(all(&store, LogQuery::default()).await, ["begin", "panic: out of cheese"]);
        for n in 0..2000 {
            store.line("web", "m1", "runner", &format!("{n:0100}"));
        }
        all(&store, LogQuery::default()).await;
        store.trim("m1");
        let lines = all(&store, LogQuery::default()).await;
        assert!((100..1000).contains(&lines.len()), "{} lines", lines.len());
        assert_eq!(*lines.last().unwrap(), format!("{:0100}", 1999));
        store.retain(BTreeSet::new(), BTreeSet::new());
        assert!(all(&store, LogQuery::default()).await.is_empty());
    }

    #[tokio::test]
    async fn numbered_output_is_stored_once_also_over_a_restart() {
        let (dir, clock) = (tempfile::tempdir().unwrap(), Clock::manual(0));
        let boot = Some(model::id::BootId::new(1, 1));
        let append = |store: &LogStore, offset, data: &'static [u8]| {
            let (app, machine, stream) = ("web", "m1", LogStream::Stdout);
            let (acknowledge, acknowledged) = tokio::sync::oneshot::channel();
            let (channel, meta) = (stream.into(), None);
            let log = GuestLog { app, machine, boot, channel, meta, offset, data };
            store.append_guest(&log, |stored| acknowledge.send(stored).unwrap());
            acknowledged
        };
        let first = store(&dir, &clock);
        assert_eq!(append(&first, 0, b"one\ntw").await, Ok(4));
        assert_eq!(append(&first, 4, b"two\n").await, Ok(8));
        // Both lines are written; that the second is was never acknowledged.
        drop(first);
        let second = store(&dir, &clock);
        assert_eq!(append(&second, 4, b"two\nthree\n").await, Ok(14));
        assert_eq!(all(&second, LogQuery::default()).await, ["one", "two", "three"]);
    }

    #[tokio::test]
    async fn an_app_has_a_log_of_its_own() {
        let (dir, clock) = (tempfile::tempdir().unwrap(), Clock::manual(0));
        let store = store(&dir, &clock);
        store.append("web", None, ("proxy", "error"), "no machine");
        clock.advance(std::time::Duration::from_nanos(1));
        store.line("web", "m1", "runner", "started");
        assert_eq!(all(&store, LogQuery::default()).await, ["no machine", "started"]);
        let only = LogQuery { instance: Some("m1".into()), ..LogQuery::default() };
        assert_eq!(all(&store, only).await, ["started"]);
    }
}
