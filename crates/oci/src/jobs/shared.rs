//! The state that jobs share: configuration, store, threads for blocking work, limits;
//! and the last step of every job.

use crate::config::settings::OciConfig;
use crate::content::blob::Blob;
use crate::content::digest::Digest;
use crate::content::disk_space::DiskSpace;
use crate::content::unpack::{self, Budget, Expected, SharedBudget};
use crate::error::{Result as Step, failed, lost};
use crate::flatten::merge::flatten;
use crate::jobs::admission::Admission;
use crate::jobs::blob_locks::BlobLocks;
use crate::jobs::gc_guard::GcGuards;
use crate::jobs::job::Job;
use crate::jobs::progress::ProgressMeter;
use crate::store::catalog::{StagedImage, Store};
use camino::Utf8PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::{RwLock, Semaphore};
use worker::ports::{ImageConfig, ImageError, PortError, Progress};

/// The state that jobs share.
pub(crate) struct Jobs {
    pub(crate) config: OciConfig,
    pub(crate) rng: rt::Rng,
    /// Jobs read-lock it while they have files; garbage collection removes files
    /// of no job only under the write lock.
    pub(crate) running: Arc<RwLock<()>>,
    disk: Arc<DiskSpace>,
    pub(crate) guards: Arc<GcGuards>,
    pub(crate) blob_locks: BlobLocks,
    pub(crate) imports: Admission,
    pub(crate) pulls: Admission,
    clock: rt::Clock,
    store: Arc<Mutex<Store>>,
    /// Threads that may compute at the same time.
    cpu: Arc<Semaphore>,
    roots: AtomicU64,
}

/// An image whose root image is to be built.
pub(crate) struct NewImage {
    pub(crate) digest: Digest,
    pub(crate) manifest: Vec<u8>,
    pub(crate) config_bytes: Vec<u8>,
    pub(crate) run: ImageConfig,
}

/// Removes the file, unless it has been renamed.
struct TempRoot(Utf8PathBuf);

impl Drop for TempRoot {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

impl Jobs {
    /// Opens the store. Blocks.
    pub(crate) fn open(config: OciConfig, clock: rt::Clock) -> Result<Self, PortError> {
        let store = Store::open(&config.dir)
            .map_err(|err| PortError::new(format!("open the image store {}", config.dir), err))?;
        let threads = std::thread::available_parallelism().map_or(2, usize::from);
        Ok(Self {
            guards: GcGuards::new(clock.clone(), config.grace),
            blob_locks: BlobLocks::default(),
            imports: Admission::new("imports", config.parallel_imports, config.queued_jobs),
            pulls: Admission::new("pulls", config.parallel_pulls, config.queued_jobs),
            disk: DiskSpace::new(config.dir.clone(), config.disk_reserve_bytes),
            config,
            clock,
            rng: rt::Rng::from_os(),
            running: Arc::default(),
            store: Arc::new(Mutex::new(store)),
            cpu: Arc::new(Semaphore::new(threads.clamp(1, 8))),
            roots: AtomicU64::new(0),
        })
    }

    /// Waits until a job of the kind that `admission` bounds may run.
    ///
    /// # Errors
    /// Too many jobs wait already.
    pub(crate) async fn begin(&self, admission: &Admission) -> Result<Arc<Job>, ImageError> {
        let permit = admission.admit().await?;
        let running = Arc::clone(&self.running).read_owned().await;
        let space = Arc::new(self.disk.job());
        Ok(Arc::new(Job { _permit: permit, _running: running, space }))
    }

    /// Runs `work` with the store, on a thread for blocking work.
    pub(crate) async fn store<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Store) -> T + Send + 'static,
    ) -> Result<T, ImageError> {
        let store = Arc::clone(&self.store);
        let work = move || work(&mut store.lock().unwrap_or_else(PoisonError::into_inner));
        let outcome = tokio::task::spawn_blocking(work).await;
        outcome.map_err(|err| lost(err).for_image("store"))
    }

    /// Runs `work` of a job on a thread for blocking work, when one of a few is
    /// free. The job runs until the thread has ended, also if its task is dropped.
    pub(crate) async fn compute<T: Send + 'static>(
        &self,
        job: &Arc<Job>,
        work: impl FnOnce() -> Step<T> + Send + 'static,
    ) -> Step<T> {
        // The semaphore is never closed.
        let permit = Arc::clone(&self.cpu).acquire_owned().await.ok();
        let job = Arc::clone(job);
        let work = move || {
            let _held = (permit, job);
            work()
        };
        tokio::task::spawn_blocking(work).await.map_err(lost)?
    }

    /// Drops files on a thread for blocking work: the kernel frees the blocks of
    /// a large unnamed file when it is closed.
    pub(crate) async fn close<T: Send + 'static>(&self, files: T) {
        // A panic is impossible, and a stopped runtime drops them, too.
        let _ = tokio::task::spawn_blocking(move || drop(files)).await;
    }

    /// The budget for the unpacked layers of one image.
    pub(crate) fn budget(&self, job: &Job) -> SharedBudget {
        Arc::new(Budget::new(self.config.limits.unpacked_bytes, &self.tmp(), &job.space))
    }

    /// Milliseconds since the epoch.
    pub(crate) fn now_ms(&self) -> u64 {
        self.clock.now_ms()
    }

    /// The directory for files of jobs.
    pub(crate) fn tmp(&self) -> Utf8PathBuf {
        self.config.dir.join("tmp")
    }

    /// The verified tar of a layer.
    pub(crate) async fn unpack(
        &self,
        job: &Arc<Job>,
        packed: Blob,
        expected: Expected,
        budget: SharedBudget,
        meter: &ProgressMeter,
    ) -> Step<Blob> {
        let meter = meter.clone();
        self.compute(job, move || unpack::layer(&packed, &expected, &budget, &|n| meter.add(n)))
            .await
    }

    /// Merges layers into a root image and adds the image to the store.
    pub(crate) async fn finish(
        &self,
        job: &Arc<Job>,
        image: NewImage,
        tars: Vec<Blob>,
        progress: &Progress,
    ) -> Step<()> {
        let n = self.roots.fetch_add(1, Ordering::Relaxed);
        let root = self.tmp().join(format!("{}-{n}.squashfs", image.digest.short()));
        let meter = ProgressMeter::new(progress, "pack", tars.iter().map(|tar| tar.len).sum());
        let (config, now_ms) = (self.config.clone(), self.clock.now_ms());
        let store = Arc::clone(&self.store);
        let space = Arc::clone(&job.space);
        self.compute(job, move || {
            let root = TempRoot(root);
            flatten(&tars, &root.0, &config, &space, &|n| meter.add(n))?;
            drop(tars);
            let NewImage { digest, manifest, config_bytes, run } = image;
            let staged =
                StagedImage { digest, manifest, config: config_bytes, run, root: root.0.clone() };
            let mut store = store.lock().unwrap_or_else(PoisonError::into_inner);
            store.add(staged, now_ms)
        })
        .await
    }

    /// Removes a file of a job.
    pub(crate) async fn remove_file(&self, path: Utf8PathBuf) -> Step<()> {
        match tokio::fs::remove_file(&path).await {
            Err(err) if err.kind() != std::io::ErrorKind::NotFound => {
                Err(failed("remove a downloaded layer")(err))
            }
            _ => Ok(()),
        }
    }
}
