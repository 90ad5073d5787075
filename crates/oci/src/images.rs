//! The port itself.

use crate::blob::Blob;
use crate::config::OciConfig;
use crate::digest::Digest;
use crate::fault::{Fault, Result as Step, failed, lost};
use crate::flight::Flights;
use crate::import::{self, Found};
use crate::pull::pull;
use crate::reference::{Asked, ImageName};
use crate::registry::Registry;
use crate::source::Source;
use crate::spool::Budget;
use crate::store::{Origin, Store};
use crate::work::{Inner, Made, Meter};
use async_trait::async_trait;
use camino::Utf8Path;
use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;
use tokio::task::JoinSet;
use worker::ports::{ImageError, ImageSummary, Images, PortError, Progress, Resolved, RootImage};

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
        let inner = Inner::open(config, clock)?;
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
                let _hold = self.inner.holds.hold(&digest);
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
        let _hold = self.inner.holds.hold(digest);
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
        let (text, mut keep) = (reference.to_owned(), keep.clone());
        let holds = Arc::clone(&self.inner.holds);
        let work = move |store: &mut Store| {
            keep.extend(holds.asked());
            remove(store, &text, &keep)
        };
        self.inner.store(work).await?
    }

    async fn collect(&self, keep: &BTreeSet<String>) -> Result<u64, ImageError> {
        let mut keep = keep.clone();
        let holds = Arc::clone(&self.inner.holds);
        // While work is under way its files can't be told from remains.
        let idle = self.inner.gate.try_write().ok();
        let alone = idle.is_some();
        let work = move |store: &mut Store| -> Step<u64> {
            keep.extend(holds.now());
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
