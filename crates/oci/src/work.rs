//! What jobs share: the store, threads to compute on, progress; and the last
//! step of every job.

use crate::blob::Blob;
use crate::config::OciConfig;
use crate::digest::Digest;
use crate::fault::{Result as Step, lost};
use crate::flatten::flatten;
use crate::hold::{Holds, Turns};
use crate::spool::{self, Expected, SharedBudget};
use crate::store::{Arrival, Store};
use camino::Utf8PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::{RwLock, Semaphore};
use worker::ports::{ImageConfig, ImageError, PortError, Progress};

/// What the jobs share.
pub(crate) struct Inner {
    pub(crate) config: OciConfig,
    pub(crate) rng: rt::Rng,
    /// Held by all work that makes files, against the one that sweeps them.
    pub(crate) gate: RwLock<()>,
    pub(crate) holds: Arc<Holds>,
    /// Whose turn it is to bring a blob; see [`crate::pull`].
    pub(crate) turns: Turns,
    clock: rt::Clock,
    store: Arc<Mutex<Store>>,
    /// Threads that may compute at once.
    cpu: Arc<Semaphore>,
    made: AtomicU64,
}

/// An image whose root is to be built.
pub(crate) struct Made {
    pub(crate) digest: Digest,
    pub(crate) manifest: Vec<u8>,
    pub(crate) config_bytes: Vec<u8>,
    pub(crate) run: ImageConfig,
}

/// Adds up the bytes of one step, from many threads. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Meter {
    progress: Progress,
    step: &'static str,
    done: Arc<AtomicU64>,
    all: u64,
}

impl Meter {
    /// A step of `all` bytes; 0 if unknown.
    pub(crate) fn new(progress: &Progress, step: &'static str, all: u64) -> Self {
        Self { progress: Arc::clone(progress), step, done: Arc::default(), all }
    }

    /// `n` more bytes are done.
    pub(crate) fn add(&self, n: u64) {
        let done = self.done.fetch_add(n, Ordering::Relaxed) + n;
        // A download that began anew was counted twice.
        let shown = if self.all == 0 { done } else { done.min(self.all) };
        (self.progress)(self.step, shown, self.all);
    }
}

/// A file that goes unless it is renamed away.
struct TempRoot(Utf8PathBuf);

impl Drop for TempRoot {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

impl Inner {
    /// Opens the store.
    pub(crate) fn open(config: OciConfig, clock: rt::Clock) -> Result<Self, PortError> {
        let store = Store::open(&config.dir)
            .map_err(|err| PortError::new(format!("open the image store {}", config.dir), err))?;
        let threads = std::thread::available_parallelism().map_or(2, usize::from);
        Ok(Self {
            holds: Holds::new(clock.clone(), config.grace),
            turns: Turns::default(),
            config,
            clock,
            rng: rt::Rng::from_os(),
            gate: RwLock::new(()),
            store: Arc::new(Mutex::new(store)),
            cpu: Arc::new(Semaphore::new(threads.clamp(1, 8))),
            made: AtomicU64::new(0),
        })
    }

    /// Does something with the store, on a thread that may block.
    pub(crate) async fn store<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Store) -> T + Send + 'static,
    ) -> Result<T, ImageError> {
        let store = Arc::clone(&self.store);
        let work = move || work(&mut store.lock().unwrap_or_else(PoisonError::into_inner));
        let told = tokio::task::spawn_blocking(work).await;
        told.map_err(|err| lost(err).of("store"))
    }

    /// Computes on a thread that may block, when one is free.
    pub(crate) async fn compute<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> Step<T> + Send + 'static,
    ) -> Step<T> {
        // The semaphore is never closed; if it were, there'd be no bound, no harm.
        let permit = Arc::clone(&self.cpu).acquire_owned().await.ok();
        let work = move || {
            let _permit = permit;
            work()
        };
        tokio::task::spawn_blocking(work).await.map_err(lost)?
    }

    /// The verified tar of a layer.
    pub(crate) async fn spool(
        &self,
        packed: Blob,
        expected: Expected,
        budget: SharedBudget,
        meter: &Meter,
    ) -> Step<Blob> {
        let (dir, meter) = (self.config.dir.join("tmp"), meter.clone());
        self.compute(move || {
            spool::layer(&packed, &expected, &budget, dir.as_std_path(), &|n| meter.add(n))
        })
        .await
    }

    /// Merges layers into a root image and makes the image exist.
    pub(crate) async fn finish(
        &self,
        made: Made,
        tars: Vec<Blob>,
        progress: &Progress,
    ) -> Step<()> {
        let n = self.made.fetch_add(1, Ordering::Relaxed);
        let root = format!("{}-{n}.squashfs", made.digest.short());
        let root = TempRoot(self.config.dir.join("tmp").join(root));
        let meter = Meter::new(progress, "pack", tars.iter().map(|tar| tar.len).sum());
        let (config, now_ms) = (self.config.clone(), self.clock.now_ms());
        let store = Arc::clone(&self.store);
        self.compute(move || {
            flatten(&tars, &root.0, &config, &|n| meter.add(n))?;
            let Made { digest, manifest, config_bytes, run } = made;
            let arrival =
                Arrival { digest, manifest, config: config_bytes, run, root: root.0.clone() };
            let mut store = store.lock().unwrap_or_else(PoisonError::into_inner);
            store.add(arrival, now_ms)
        })
        .await
    }
}
