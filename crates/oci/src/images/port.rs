//! The implementation of the port.

use crate::config::settings::OciConfig;
use crate::content::digest::Digest;
use crate::error::{Error, Result as Step, failed, lost};
use crate::images::import::import;
use crate::images::removal::remove;
use crate::jobs::shared::Jobs;
use crate::jobs::singleflight::Singleflight;
use crate::manifest::image_config::check_user;
use crate::reference::{ImageName, Requested};
use crate::registry::pull::pull;
use crate::registry::repository::Repository;
use crate::store::catalog::Store;
use crate::store::records::NameSource;
use async_trait::async_trait;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;
use worker::ports::{
    ImageArchive, ImageError, ImageSummary, Images, PortError, Progress, Resolved, RootImage,
};

/// The deadline for a registry to resolve a name that has an image in the store.
const RESOLVE_KNOWN: Duration = Duration::from_secs(10);
/// The deadline for a registry to resolve any other name.
const RESOLVE: Duration = Duration::from_secs(60);

/// The container images of this host, in a directory of their own.
pub struct OciImages {
    jobs: Arc<Jobs>,
    pulls: Singleflight,
    tasks: rt::Tasks,
}

/// The labels of an image's config.
type Labels = BTreeMap<String, String>;

/// The digest that the store has recorded for a requested name.
struct StoredName {
    /// The name or digest comes from an import, so no registry is asked.
    imported: bool,
    digest: Option<Digest>,
}

impl fmt::Debug for OciImages {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OciImages").field("config", &self.jobs.config).finish_non_exhaustive()
    }
}

impl Drop for OciImages {
    fn drop(&mut self) {
        self.tasks.stop();
    }
}

impl OciImages {
    /// Opens the store, creates it if absent, and removes the files of jobs that
    /// a crash has interrupted. Only one process may have a store open. Blocks.
    ///
    /// # Errors
    /// The directory cannot be created or read.
    pub fn open(config: OciConfig, clock: rt::Clock) -> Result<Self, PortError> {
        let jobs = Jobs::open(config, clock)?;
        let (pulls, tasks) = (Singleflight::default(), rt::Tasks::new());
        Ok(Self { jobs: Arc::new(jobs), pulls, tasks })
    }

    /// The digest that the registry gives for a name, with the image's labels;
    /// `known`, the digest of last time, if the registry is unreachable.
    async fn ask_registry(
        &self,
        name: &ImageName,
        known: Option<Digest>,
    ) -> Result<(Digest, Labels), ImageError> {
        let deadline = if known.is_some() { RESOLVE_KNOWN } else { RESOLVE };
        let answer = tokio::time::timeout(deadline, self.fetch_digest(name)).await;
        let answer = answer.unwrap_or_else(|_| {
            let problem = format!("ask {} about {}: no answer", name.host(), name.canonical());
            Err(ImageError::Failed(PortError::plain(problem).transient()))
        });
        match (answer, known) {
            (Ok((digest, labels)), _) => {
                let (canonical, found) = (name.canonical(), digest.clone());
                let record = move |store: &mut Store| {
                    store.names.set(&canonical, &found, NameSource::Pulled)
                };
                self.jobs.store(record).await??;
                Ok((digest, labels))
            }
            (Err(ImageError::Failed(error)), Some(known)) => {
                let name = name.canonical();
                tracing::warn!(%name, error = %rt::chain(&error), "registry unreachable, using its last answer");
                let labels = self.labels(&known).await?.unwrap_or_default();
                Ok((known, labels))
            }
            (Err(error), _) => Err(error),
        }
    }

    async fn fetch_digest(&self, name: &ImageName) -> Result<(Digest, Labels), ImageError> {
        let repository = Repository::new(name, &self.jobs.config, &self.jobs.rng)?;
        let found = repository.resolve(&self.jobs.config).await?;
        let labels = match self.labels(&found.digest).await? {
            Some(labels) => labels,
            None => {
                let (_, config) = repository.config(&found.image, &self.jobs.config).await?;
                config.image_config().labels
            }
        };
        Ok((found.digest, labels))
    }

    /// Removes partial downloads that no pull has written since `before_ms`.
    async fn sweep_partial(&self, before_ms: u64) -> Result<u64, ImageError> {
        let jobs = Arc::clone(&self.jobs);
        let sweep = move || {
            let lock = |hex: &str| jobs.blob_locks.try_lock(hex);
            Store::sweep_partial(&jobs.config.dir, before_ms, lock)
        };
        let swept = tokio::task::spawn_blocking(sweep).await.map_err(lost)?;
        Ok(swept.map_err(failed("remove partial downloads"))?)
    }

    /// The labels of an image in the store.
    async fn labels(&self, digest: &Digest) -> Result<Option<Labels>, ImageError> {
        let digest = digest.to_string();
        self.jobs.store(move |store| store.labels(&digest)).await
    }

    /// What the store has of a name, and the name as the image was imported, if it was.
    async fn stored(&self, name: ImageName) -> Result<(ImageName, StoredName), ImageError> {
        let look_up = async |name: &ImageName| {
            let (canonical, exact) = (name.canonical(), name.digest());
            self.jobs.store(move |store| stored_name(store, &canonical, exact)).await
        };
        if let Some(plain) = name.without_local() {
            let known = look_up(&plain).await?;
            if known.imported {
                return Ok((plain, known));
            }
        }
        let known = look_up(&name).await?;
        Ok((name, known))
    }

    async fn resolve_digest(
        &self,
        reference: &str,
        digest: Digest,
    ) -> Result<Resolved, ImageError> {
        let _guard = self.jobs.guards.guard(&digest.to_string());
        let labels = self.labels(&digest).await?.ok_or_else(|| not_here(reference))?;
        Ok(Resolved {
            registry: "local".into(),
            repository: String::new(),
            tag: String::new(),
            digest: digest.to_string(),
            labels,
        })
    }
}

/// The time `age` before `now_ms`, in milliseconds since the epoch.
fn before(now_ms: u64, age: Duration) -> u64 {
    now_ms.saturating_sub(u64::try_from(age.as_millis()).unwrap_or(u64::MAX))
}

/// Looks a name up in the store; `exact` is the digest within the name.
fn stored_name(store: &Store, canonical: &str, exact: Option<Digest>) -> StoredName {
    let record = store.names.get(canonical);
    let exact = exact.filter(|digest| store.has(&digest.to_string()));
    let imported = match (record, &exact) {
        (Some(record), _) => record.source == NameSource::Imported,
        (None, Some(exact)) => store.names.is_imported(&exact.to_string()),
        (None, None) => false,
    };
    let named = record.and_then(|record| Digest::parse(&record.digest));
    let named = named.filter(|digest| imported || store.has(&digest.to_string()));
    StoredName { imported, digest: exact.or(named) }
}

fn not_here(reference: &str) -> ImageError {
    let detail = ": no image of this digest is on this host".into();
    ImageError::NotFound { reference: reference.into(), detail }
}

/// Refuses an image whose `USER` no process can have, for images that were
/// stored before this was checked.
fn check(root: RootImage, reference: &str) -> Result<RootImage, ImageError> {
    check_user(&root.config.user).map_err(|error| error.for_image(reference))?;
    Ok(root)
}

#[async_trait]
impl Images for OciImages {
    async fn resolve(&self, reference: &str) -> Result<Resolved, ImageError> {
        let name = match Requested::parse(reference)? {
            Requested::Name(name) => name,
            Requested::Digest(digest) => return self.resolve_digest(reference, digest).await,
        };
        let (name, StoredName { imported, digest }) = self.stored(name).await?;
        let (digest, labels) = match digest {
            Some(digest) if imported || name.digest().is_some() => {
                let labels = self.labels(&digest).await?.unwrap_or_default();
                (digest, labels)
            }
            known => self.ask_registry(&name, known).await?,
        };
        let (registry, repository) = match imported {
            true => ("local".into(), name.local_repository()),
            false => (name.host().to_owned(), name.repository().to_owned()),
        };
        let (tag, digest) = (name.tag().into(), digest.to_string());
        Ok(Resolved { registry, repository, tag, digest, labels })
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
        let _guard = self.jobs.guards.guard(digest);
        let wanted = parsed.clone();
        let now_ms = self.jobs.now_ms();
        let find = move |store: &mut Store| {
            store.note_use(&wanted.to_string(), now_ms);
            store.image(&wanted)
        };
        if let Some(root) = self.jobs.store(find).await? {
            return check(root, reference);
        }
        let Requested::Name(name) = Requested::parse(reference)? else {
            return Err(not_here(reference));
        };
        let jobs = Arc::clone(&self.jobs);
        let (from, wanted) = (name.clone(), parsed.clone());
        let job = |progress| pull(jobs, from, wanted, progress);
        self.pulls.join(&self.tasks, digest, progress, job).await?;
        let canonical = name.canonical();
        let record = move |store: &mut Store| {
            if store.names.get(&canonical).is_none() {
                store.names.set(&canonical, &parsed, NameSource::Pulled)?;
            }
            Ok::<_, Error>(store.image(&parsed))
        };
        let root = self.jobs.store(record).await??.ok_or_else(|| not_here(reference))?;
        check(root, reference)
    }

    async fn import(
        &self,
        archive: ImageArchive<'_>,
        progress: Progress,
    ) -> Result<ImageSummary, ImageError> {
        import(&self.jobs, archive, progress).await
    }

    async fn list(&self) -> Result<Vec<ImageSummary>, ImageError> {
        self.jobs.store(|store| store.list()).await
    }

    async fn remove(&self, reference: &str, keep: &BTreeSet<String>) -> Result<bool, ImageError> {
        let (text, keep) = (reference.to_owned(), keep.clone());
        let guards = Arc::clone(&self.jobs.guards);
        self.jobs.store(move |store| remove(store, &text, &keep, &guards)).await?
    }

    async fn collect(&self, keep: &BTreeSet<String>) -> Result<u64, ImageError> {
        let mut keep = keep.clone();
        let guards = Arc::clone(&self.jobs.guards);
        // While a job runs, its files look like those of interrupted jobs.
        let idle = self.jobs.running.try_write().ok();
        let alone = idle.is_some();
        let (now_ms, config) = (self.jobs.now_ms(), &self.jobs.config);
        let since = before(now_ms, config.keep_pulled);
        let work = move |store: &mut Store| -> Step<u64> {
            keep.extend(guards.guarded());
            let mut freed = store.collect(&keep, now_ms, since)?;
            if alone {
                let sweep = store.sweep();
                freed += sweep.map_err(failed("remove the files of interrupted image jobs"))?;
            }
            Ok(freed)
        };
        let freed = self.jobs.store(work).await??;
        drop(idle);
        Ok(freed + self.sweep_partial(before(now_ms, config.keep_partial)).await?)
    }
}
