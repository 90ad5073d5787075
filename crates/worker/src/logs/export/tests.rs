//! Exports to a sink in memory, over its failures and over restarts.

use crate::db::HostDb;
use crate::logs::export::{self, ExportMetrics};
use crate::logs::{LogLimits, LogStore};
use crate::ports::{BatchLimits, ExportedLine, LogSink, PortError, SendError, Taken};
use async_trait::async_trait;
use camino::Utf8PathBuf;
use prometheus_client::registry::Registry;
use rt::{Clock, FailureHandler, Rng, Tasks};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::sync::watch;

/// A receiver that takes lines, or does what a test wants.
#[derive(Default)]
struct Memory {
    taken: watch::Sender<Vec<String>>,
    /// Deliveries that fail.
    failures: Mutex<u32>,
    /// Deliveries that are taken although their outcome is never known.
    lost_answers: Mutex<u32>,
    tries: Mutex<u32>,
}

#[async_trait]
impl LogSink for Memory {
    fn name(&self) -> &str {
        "memory"
    }

    fn limits(&self) -> BatchLimits {
        let (wait, timeout) = (Duration::from_millis(100), Duration::from_secs(5));
        BatchLimits { lines: 10, bytes: 1 << 20, wait, timeout }
    }

    async fn send(&self, lines: &[ExportedLine]) -> Result<Taken, SendError> {
        *self.tries.lock().unwrap() += 1;
        assert!(lines.len() <= 11, "ten, and one for those that are lost");
        let down = |left: &Mutex<u32>| {
            let mut left = left.lock().unwrap();
            let is_down = *left > 0;
            *left = left.saturating_sub(1);
            is_down
        };
        if down(&self.failures) {
            return Err(SendError::Unavailable(PortError::plain("connection refused")));
        }
        if lines.iter().any(|line| line.entry.message.contains("poison")) {
            return Err(SendError::Refused(PortError::plain("bad line")));
        }
        let texts = lines.iter().map(|line| format!("{} {}", line.app, line.entry.message));
        self.taken.send_modify(|taken| taken.extend(texts));
        if down(&self.lost_answers) {
            std::future::pending::<()>().await;
        }
        Ok(Taken::default())
    }
}

impl Memory {
    async fn until(&self, count: usize) -> Vec<String> {
        let mut taken = self.taken.subscribe();
        // Without a timeout: paused time passes while threads of the database work.
        taken.wait_for(|taken| taken.len() >= count).await.unwrap().clone()
    }
}

/// A host that is started again.
struct Host {
    dir: tempfile::TempDir,
    clock: Clock,
    limits: LogLimits,
    sink: Arc<Memory>,
}

/// What runs of it.
struct Running {
    logs: Arc<LogStore>,
    db: HostDb,
    tasks: Tasks,
    registry: Registry,
}

impl Host {
    fn new(limits: LogLimits) -> Self {
        let (dir, clock) = (tempfile::tempdir().unwrap(), Clock::manual(1_000));
        Self { dir, clock, limits, sink: Arc::default() }
    }

    async fn start(&self) -> Running {
        let path = Utf8PathBuf::from_path_buf(self.dir.path().into()).unwrap();
        let failures = FailureHandler::abort;
        let db = HostDb::open(path.join("host.db").as_std_path(), failures()).unwrap();
        let (dir, clock) = (path.join("logs"), self.clock.clone());
        let logs = LogStore::open(dir, "here".into(), self.limits, clock, failures()).unwrap();
        let (logs, tasks, mut registry) = (Arc::new(logs), Tasks::new(), Registry::default());
        let metrics = ExportMetrics::new(&mut registry);
        let source = logs.export_source().await;
        let sinks: Vec<Arc<dyn LogSink>> = vec![self.sink.clone()];
        let with = (&db, Arc::new(|log: &str| format!("app of {log}")) as _, &Rng::seeded(1));
        export::start(&source, sinks, with, &metrics, &tasks).await.unwrap();
        Running { logs, db, tasks, registry }
    }
}

impl Running {
    /// As `kill -9` leaves it, but for what had been queued.
    async fn stop(self) {
        assert!(self.tasks.shutdown(Duration::from_secs(5)).await);
    }

    /// Returns once it is noted that a log has been exported up to this number.
    async fn exported(&self, log: &str, number: u64) {
        while self.db.log_cursors("memory").await.unwrap().get(log) != Some(&number) {
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    }

    fn metric(&self, name: &str) -> u64 {
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &self.registry).unwrap();
        let line = text.lines().find(|line| line.starts_with(name));
        line.unwrap().rsplit(' ').next().unwrap().parse().unwrap()
    }

    async fn write(&self, log: &str, numbers: std::ops::Range<u32>) {
        for n in numbers {
            self.logs.line("7", log, "app", &format!("{n:04}"));
        }
        self.logs.export_source().await;
    }
}

fn expected(log: &str, numbers: std::ops::Range<u32>) -> Vec<String> {
    numbers.map(|n| format!("app of {log} {n:04}")).collect()
}

fn of<'a>(taken: &'a [String], log: &str) -> Vec<&'a String> {
    taken.iter().filter(|line| line.starts_with(&format!("app of {log} "))).collect()
}

#[tokio::test(start_paused = true)]
async fn every_line_arrives_in_order_over_failures_and_restarts() {
    let host = Host::new(LogLimits::default());
    let first = host.start().await;
    *host.sink.failures.lock().unwrap() = 5;
    first.write("m1", 0..35).await;
    first.write("m2", 0..5).await;
    let taken = host.sink.until(40).await;
    assert_eq!(of(&taken, "m1"), expected("m1", 0..35).iter().collect::<Vec<_>>());
    assert_eq!(of(&taken, "m2"), expected("m2", 0..5).iter().collect::<Vec<_>>());
    assert_eq!(first.metric("updraft_log_export_failures_total"), 5);
    first.exported("m1", 35).await;
    first.exported("m2", 5).await;
    first.stop().await;
    // Written while no export ran, and before the next one.
    let second = host.start().await;
    second.write("m1", 35..50).await;
    let taken = host.sink.until(55).await;
    assert_eq!(of(&taken, "m1"), expected("m1", 0..50).iter().collect::<Vec<_>>());
    assert_eq!(taken.len(), 55, "nothing is repeated");
    second.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_delivery_whose_answer_is_lost_is_repeated_and_no_more_than_that() {
    let host = Host::new(LogLimits::default());
    let first = host.start().await;
    first.write("m1", 0..10).await;
    host.sink.until(10).await;
    *host.sink.lost_answers.lock().unwrap() = 1;
    first.write("m1", 10..14).await;
    host.sink.until(14).await;
    // Killed before it knows that they have been taken.
    first.stop().await;
    let second = host.start().await;
    second.write("m1", 14..16).await;
    let taken = host.sink.until(20).await;
    let repeated = [expected("m1", 0..14), expected("m1", 10..16)].concat();
    assert_eq!(taken, repeated);
    second.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_line_that_is_refused_is_counted_and_holds_up_no_other() {
    let host = Host::new(LogLimits::default());
    let running = host.start().await;
    running.logs.line("7", "m1", "app", "before");
    running.logs.line("7", "m1", "app", "poison");
    running.logs.line("7", "m1", "app", "after");
    let taken = host.sink.until(2).await;
    assert_eq!(taken, ["app of m1 before", "app of m1 after"]);
    running.write("m1", 0..1).await;
    host.sink.until(3).await;
    let lost = "updraft_log_export_lost_lines_total{sink=\"memory\",reason=\"refused\"}";
    assert_eq!(running.metric(lost), 1);
    running.stop().await;
}

#[tokio::test(start_paused = true)]
async fn lines_that_the_retention_removes_first_are_counted() {
    let host = Host::new(LogLimits { log_bytes: 1 << 20, ..LogLimits::default() });
    *host.sink.failures.lock().unwrap() = u32::MAX;
    let running = host.start().await;
    let text = "x".repeat(4000);
    for n in 0..1000 {
        running.logs.line("7", "m1", "app", &format!("{n:04} {text}"));
        if n % 50 == 49 {
            running.logs.export_source().await;
        }
    }
    *host.sink.failures.lock().unwrap() = 0;
    let mut taken = host.sink.taken.subscribe();
    let last = |taken: &Vec<String>| taken.iter().any(|line| line.contains("m1 0999 "));
    let taken = taken.wait_for(last).await.unwrap().clone();
    let gap = taken.iter().position(|line| line.contains("were removed before")).unwrap();
    let lost: usize = taken[gap]["app of m1 ".len()..].split(' ').next().unwrap().parse().unwrap();
    assert_eq!(lost + taken.len() - 1, 1000, "each is delivered or counted");
    let name = "updraft_log_export_lost_lines_total{sink=\"memory\",reason=\"removed\"}";
    assert_eq!(running.metric(name), lost as u64);
    running.stop().await;
}

#[tokio::test(start_paused = true)]
async fn the_log_of_a_destroyed_machine_is_kept_until_it_is_exported() {
    let host = Host::new(LogLimits::default());
    *host.sink.failures.lock().unwrap() = 3;
    let running = host.start().await;
    let text = "x".repeat(1000);
    for n in 0..300 {
        running.logs.line("7", "m1", "app", &format!("{n:04} {text}"));
    }
    running.logs.trim("m1");
    let taken = host.sink.until(300).await;
    assert_eq!(of(&taken, "m1").len(), 300);
    // What is left of it is cut then, and its cursor goes with it.
    running.exported("m1", 300).await;
    let size = async || running.logs.export_source().await.index.get("m1").unwrap().bytes();
    while size().await > 64 << 10 {
        tokio::time::sleep(Duration::from_secs(1)).await;
        running.logs.sweep();
    }
    running.logs.remove("m1");
    running.write("m2", 0..1).await;
    host.sink.until(301).await;
    running.exported("m2", 1).await;
    assert!(!running.db.log_cursors("memory").await.unwrap().contains_key("m1"));
    running.stop().await;
}
