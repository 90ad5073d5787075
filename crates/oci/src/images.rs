//! The port itself.

use crate::blob::Blob;
use crate::config::OciConfig;
use crate::digest::Digest;
use crate::fault::{Fault, Result as Step, failed, lost};
use crate::flatten::flatten;
use crate::flight::Flights;
use crate::import::{self, Found};
use crate::pull::pull;
use crate::reference::{Asked, ImageName};
use crate::registry::Registry;
use crate::source::Source;
use crate::spool::{self, Budget, Expected, SharedBudget};
use crate::store::{Arrival, Origin, Store};
use async_trait::async_trait;
use camino::{Utf8Path, Utf8PathBuf};
use std::collections::BTreeSet;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::{RwLock, Semaphore};
use tokio::task::JoinSet;
use worker::ports::{
    ImageConfig, ImageError, ImageSummary, Images, PortError, Progress, Resolved, RootImage,
};

/// How long a registry is asked about a name whose image is here already.
const ASK_CACHED: Duration = Duration::from_secs(10);
/// How long it is asked about any other.
const ASK: Duration = Duration::from_secs(60);

/// Container images of this host, in a directory that it owns.
pub struct OciImages {
    inner: Arc<Inner>,
    flights: Flights,
    tasks: rt::Tasks,
}

/// What the jobs share.
pub(crate) struct Inner {
    pub(crate) config: OciConfig,
    pub(crate) rng: rt::Rng,
    /// Held by all work that makes files, against the one that sweeps them.
    pub(crate) gate: RwLock<()>,
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

impl fmt::Debug for OciImages {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OciImages").field("config", &self.inner.config).finish_non_exhaustive()
    }
}

impl Drop for OciImages {
    fn drop(&mut self) {
        self.tasks.stop();
    }
}

impl OciImages {
    /// Opens the store, makes it if absent, and removes the remains of work
    /// that a crash interrupted. One process at a time may have a store open.
    ///
    /// # Errors
    /// If the directory can't be made or read.
    pub fn open(config: OciConfig, clock: rt::Clock) -> Result<Self, PortError> {
        let store = Store::open(&config.dir)
            .map_err(|err| PortError::new(format!("open the image store {}", config.dir), err))?;
        let threads = std::thread::available_parallelism().map_or(2, usize::from);
        let inner = Inner {
            config,
            clock,
            rng: rt::Rng::from_os(),
            gate: RwLock::new(()),
            store: Arc::new(Mutex::new(store)),
            cpu: Arc::new(Semaphore::new(threads.clamp(1, 8))),
            made: AtomicU64::new(0),
        };
        Ok(Self { inner: Arc::new(inner), flights: Flights::default(), tasks: rt::Tasks::new() })
    }

    /// What the registry says a name stands for; what it said before, if it
    /// can't be reached.
    async fn ask(&self, name: &ImageName, known: Option<Digest>) -> Result<Digest, ImageError> {
        let inner = &self.inner;
        let patience = if known.is_some() { ASK_CACHED } else { ASK };
        let asked =
            async { Registry::new(name, &inner.config, &inner.rng)?.digest(&inner.config).await };
        let told = tokio::time::timeout(patience, asked).await.unwrap_or_else(|_| {
            let problem = format!("ask {} about {}: no answer", name.host(), name.canonical());
            Err(ImageError::Failed(PortError::plain(problem).transient()))
        });
        match (told, known) {
            (Ok(digest), _) => {
                let canonical = name.canonical();
                let found = digest.clone();
                inner
                    .store(move |store| store.set_name(&canonical, &found, Origin::Pulled))
                    .await??;
                Ok(digest)
            }
            (Err(ImageError::Failed(error)), Some(known)) => {
                let name = name.canonical();
                tracing::warn!(%name, error = %rt::chain(&error), "registry unreachable, using what it said before");
                Ok(known)
            }
            (Err(error), _) => Err(error),
        }
    }

    async fn build(&self, found: Found, progress: &Progress) -> Step<()> {
        let inner = &self.inner;
        let budget = Arc::new(Budget::new(inner.config.limits.unpacked_bytes));
        let all = found.layers.iter().map(|(blob, _)| blob.len).sum();
        let meter = Meter::new(progress, "unpack", all);
        let mut tasks = JoinSet::new();
        let count = found.layers.len();
        for (n, (blob, expected)) in found.layers.into_iter().enumerate() {
            let (inner, budget, meter) = (Arc::clone(inner), Arc::clone(&budget), meter.clone());
            tasks.spawn(async move {
                inner.spool(blob, expected, budget, &meter).await.map(|tar| (n, tar))
            });
        }
        let mut tars: Vec<Option<Blob>> = vec![None; count];
        while let Some(done) = tasks.join_next().await {
            let (n, tar) = done.map_err(lost)??;
            tars[n] = Some(tar);
        }
        let run = found.config.image_config();
        let (manifest, config_bytes) = (found.manifest, found.config_bytes);
        let made = Made { digest: found.digest, manifest, config_bytes, run };
        inner.finish(made, tars.into_iter().flatten().collect(), progress).await
    }

    /// Registers what an archive holds. Says the first image's digest.
    async fn register(
        &self,
        found: Vec<Found>,
        name: Option<&str>,
        progress: &Progress,
        shown: &str,
    ) -> Result<String, ImageError> {
        let mut first = None;
        for image in found {
            let digest = image.digest.clone();
            let mut names: Vec<_> =
                import::names(name, &image)?.iter().map(ImageName::canonical).collect();
            if names.is_empty() {
                tracing::warn!(%digest, "imported image has no name, use its digest (or import with --name)");
                names.push(digest.to_string());
            }
            let known = digest.to_string();
            if !self.inner.store(move |store| store.has(&known)).await? {
                self.build(image, progress).await.map_err(|fault| fault.of(shown))?;
            }
            let named = digest.clone();
            let record = move |store: &mut Store| {
                names.iter().try_for_each(|name| store.set_name(name, &named, Origin::Imported))
            };
            self.inner.store(record).await?.map_err(|fault| fault.of(shown))?;
            first.get_or_insert(digest.to_string());
        }
        let empty = || Fault::refused("it holds no image").of(shown);
        first.ok_or_else(empty)
    }
}

impl Inner {
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
    async fn compute<T: Send + 'static>(
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

/// Failures of the store concern no image in particular.
impl From<Fault> for ImageError {
    fn from(fault: Fault) -> Self {
        fault.of("store")
    }
}

fn not_here(reference: &str) -> ImageError {
    let detail = ": no image of this digest is on this host".into();
    ImageError::NotFound { reference: reference.into(), detail }
}

#[async_trait]
impl Images for OciImages {
    async fn resolve(&self, reference: &str) -> Result<Resolved, ImageError> {
        let name = match Asked::parse(reference)? {
            Asked::Name(name) => name,
            Asked::Digest(digest) => {
                let digest = digest.to_string();
                let known = digest.clone();
                if !self.inner.store(move |store| store.has(&known)).await? {
                    return Err(not_here(reference));
                }
                let (registry, empty) = ("local".into(), String::new());
                return Ok(Resolved { registry, repository: empty.clone(), tag: empty, digest });
            }
        };
        let (canonical, exact) = (name.canonical(), name.digest());
        let look = move |store: &mut Store| {
            let record = store.name(&canonical).cloned();
            let exact = exact.filter(|digest| store.has(&digest.to_string()));
            let ours = match (&record, &exact) {
                (Some(record), _) => record.origin == Origin::Imported,
                (None, Some(exact)) => store.is_imported(&exact.to_string()),
                (None, None) => false,
            };
            let named = record.as_ref().and_then(|record| Digest::parse(&record.digest));
            let named = named.filter(|digest| ours || store.has(&digest.to_string()));
            (ours, exact.or(named))
        };
        let (ours, known) = self.inner.store(look).await?;
        let digest = match known {
            Some(known) if ours || name.digest().is_some() => known,
            known => self.ask(&name, known).await?,
        };
        let (registry, repository) = match ours {
            true => ("local".into(), name.local_repository()),
            false => (name.host().to_owned(), name.repository().to_owned()),
        };
        Ok(Resolved { registry, repository, tag: name.tag().into(), digest: digest.to_string() })
    }

    async fn ensure(
        &self,
        reference: &str,
        digest: &str,
        progress: Progress,
    ) -> Result<RootImage, ImageError> {
        let parsed = Digest::parse(digest).ok_or_else(|| ImageError::BadReference {
            reference: digest.into(),
            problem: "it is not of the form sha256:<64 hex digits>".into(),
        })?;
        let wanted = parsed.clone();
        if let Some(root) = self.inner.store(move |store| store.image(&wanted)).await? {
            return Ok(root);
        }
        let Asked::Name(name) = Asked::parse(reference)? else { return Err(not_here(reference)) };
        let inner = Arc::clone(&self.inner);
        let (from, wanted) = (name.clone(), parsed.clone());
        let job = |progress| pull(inner, from, wanted, progress);
        self.flights.join(&self.tasks, digest, progress, job).await?;
        let canonical = name.canonical();
        let known = move |store: &mut Store| {
            if store.name(&canonical).is_none() {
                store.set_name(&canonical, &parsed, Origin::Pulled)?;
            }
            Ok::<_, Fault>(store.image(&parsed))
        };
        self.inner.store(known).await??.ok_or_else(|| not_here(reference))
    }

    async fn import(
        &self,
        path: &Utf8Path,
        name: Option<&str>,
        progress: Progress,
    ) -> Result<ImageSummary, ImageError> {
        if let Some(given) = name
            && ImageName::parse(given)?.digest().is_some()
        {
            let problem = "a name for an import has a tag, not a digest".into();
            return Err(ImageError::BadReference { reference: given.into(), problem });
        }
        let _working = self.inner.gate.read().await;
        let (from, config) = (path.to_owned(), self.inner.config.clone());
        let meter = Meter::new(&progress, "read", 0);
        let read = move || {
            let tmp = config.dir.join("tmp");
            let source = Source::open(&from, &config.limits, &tmp, &|n| meter.add(n))?;
            import::find(&source, &import::stem(&from), &config)
        };
        let shown = path.as_str();
        let found = self.inner.compute(read).await.map_err(|fault| fault.of(shown))?;
        if name.is_some() && found.len() > 1 {
            let names: Vec<_> = found.iter().flat_map(|image| image.names.clone()).collect();
            let problem = format!(
                "it holds {} images, one name can't be given to all: {}",
                found.len(),
                names.join(", ")
            );
            return Err(Fault::refused(problem).of(shown));
        }
        let digest = self.register(found, name, &progress, shown).await?;
        let told = digest.clone();
        let summary = self.inner.store(move |store| store.summary(&digest)).await?;
        summary.ok_or_else(|| not_here(&told))
    }

    async fn list(&self) -> Result<Vec<ImageSummary>, ImageError> {
        self.inner.store(|store| store.list()).await
    }

    async fn remove(&self, reference: &str, keep: &BTreeSet<String>) -> Result<bool, ImageError> {
        let (text, keep) = (reference.to_owned(), keep.clone());
        self.inner.store(move |store| remove(store, &text, &keep)).await?
    }

    async fn collect(&self, keep: &BTreeSet<String>) -> Result<u64, ImageError> {
        let keep = keep.clone();
        // While work is under way its files can't be told from remains.
        let idle = self.inner.gate.try_write().ok();
        let alone = idle.is_some();
        let work = move |store: &mut Store| -> Step<u64> {
            let mut freed = store.collect(&keep)?;
            if alone {
                let sweep = store.sweep().and_then(|n| Ok(n + store.sweep_partial()?));
                freed += sweep.map_err(failed("remove remains of image work"))?;
            }
            Ok(freed)
        };
        let freed = self.inner.store(work).await??;
        drop(idle);
        Ok(freed)
    }
}

/// Removes a name, or all names of a digest, and the data if nobody needs it.
fn remove(store: &mut Store, text: &str, keep: &BTreeSet<String>) -> Result<bool, ImageError> {
    let by_digest = match Asked::parse(text) {
        Ok(Asked::Digest(digest)) => Some(digest),
        Ok(Asked::Name(name)) => {
            if let Some(digest) = store.remove_name(&name.canonical())? {
                store.release(&digest, keep)?;
                return Ok(true);
            }
            name.digest()
        }
        Err(_) => None,
    };
    let digest = match by_digest {
        Some(digest) => digest,
        None => match &store.digests_from(text)[..] {
            // As `image list` shortens it; fewer digits are too easily mistaken.
            [digest] if text.len() >= 7 => digest.clone(),
            [_, _, ..] if text.len() >= 7 => {
                let problem = "several digests begin with it".into();
                return Err(ImageError::BadReference { reference: text.into(), problem });
            }
            _ => return Asked::parse(text).map(|_| false),
        },
    };
    if !store.has(&digest.to_string()) {
        return Ok(false);
    }
    store.remove_names_of(&digest.to_string())?;
    store.release(&digest.to_string(), keep)?;
    Ok(true)
}
