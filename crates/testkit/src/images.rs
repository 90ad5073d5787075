//! A fake of the image port: an image is a name with a config, its root image a small file.

use crate::CrashPoints;
use async_trait::async_trait;
use camino::{Utf8Path, Utf8PathBuf};
use std::collections::{BTreeMap, BTreeSet};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::watch;
use worker::ports::{
    ImageArchive, ImageConfig, ImageError, ImageSummary, Images, PortError, Progress, Resolved,
    RootImage,
};

/// A registry and the image store of a host in one.
#[derive(Clone, Debug)]
pub struct FakeImages(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    dir: Utf8PathBuf,
    points: CrashPoints,
    store: Mutex<Store>,
    /// Pulls wait while this is `false`.
    open: watch::Sender<bool>,
}

#[derive(Debug, Default)]
struct Store {
    /// The registry: content by reference.
    registry: BTreeMap<String, Content>,
    /// Imported images: content by reference.
    imported: BTreeMap<String, Content>,
    /// Imported images without a name, by digest, until they are collected.
    unnamed: BTreeMap<String, Content>,
    /// Locks of the running pulls by digest.
    pulls: BTreeMap<String, Arc<tokio::sync::Mutex<()>>>,
    pulled: u64,
    arrivals: u64,
}

#[derive(Clone, Debug)]
struct Content {
    digest: String,
    config: ImageConfig,
    /// The position in the order of imports.
    at: u64,
}

impl FakeImages {
    /// Images whose root images are kept in `dir`.
    ///
    /// # Panics
    /// The directory cannot be made.
    pub fn new(dir: &Utf8Path, points: CrashPoints) -> Self {
        std::fs::create_dir_all(dir).expect("make the directory of a fake");
        Self(Arc::new(Inner {
            dir: dir.into(),
            points,
            store: Mutex::default(),
            open: watch::Sender::new(true),
        }))
    }

    /// Adds an image to the registry.
    pub fn publish(&self, reference: &str, config: ImageConfig) {
        let content = Content { digest: digest(reference), config, at: 0 };
        self.lock().registry.insert(reference.into(), content);
    }

    /// Makes pulls wait until [`Self::release_pulls`].
    pub fn hold_pulls(&self) {
        self.0.open.send_replace(false);
    }

    /// Lets pulls continue.
    pub fn release_pulls(&self) {
        self.0.open.send_replace(true);
    }

    /// The number of completed pulls.
    pub fn pulled(&self) -> u64 {
        self.lock().pulled
    }

    fn lock(&self) -> MutexGuard<'_, Store> {
        self.0.store.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn find(&self, reference: &str) -> Option<(Content, bool)> {
        let store = self.lock();
        let imported = store.imported.get(reference).map(|content| (content.clone(), true));
        imported.or_else(|| store.registry.get(reference).map(|c| (c.clone(), false)))
    }

    fn by_digest(&self, digest: &str) -> Option<Content> {
        let store = self.lock();
        let named = store.imported.values().chain(store.registry.values());
        let mut all = named.chain(store.unnamed.values());
        all.find(|content| content.digest == digest).cloned()
    }

    fn root_path(&self, digest: &str) -> Utf8PathBuf {
        self.0.dir.join(format!("{}.squashfs", digest.trim_start_matches("sha256:")))
    }

    fn write_root(&self, digest: &str) -> Result<Utf8PathBuf, ImageError> {
        let path = self.root_path(digest);
        let written = rt::fs::write_atomic(path.as_std_path(), digest.as_bytes(), 0o644);
        written.map_err(|err| PortError::new(format!("write root image {path}"), err))?;
        Ok(path)
    }

    async fn pull(&self, digest: &str) -> Result<(), ImageError> {
        // The sender lives as long as `self`.
        let _ = self.0.open.subscribe().wait_for(|open| *open).await;
        self.0.points.pass("images: pulling").await;
        self.write_root(digest)?;
        self.lock().pulled += 1;
        Ok(())
    }
}

fn digest(of: impl Hash) -> String {
    let mut hasher = DefaultHasher::new();
    of.hash(&mut hasher);
    format!("sha256:{:064x}", hasher.finish())
}

fn not_found(reference: &str) -> ImageError {
    ImageError::NotFound { reference: reference.into(), detail: ": the registry has none".into() }
}

#[async_trait]
impl Images for FakeImages {
    async fn resolve(&self, reference: &str) -> Result<Resolved, ImageError> {
        if reference.contains(char::is_whitespace) {
            let problem = "it has blanks".into();
            return Err(ImageError::BadReference { reference: reference.into(), problem });
        }
        let (content, imported) = self.find(reference).ok_or_else(|| not_found(reference))?;
        let (repository, tag) = reference.rsplit_once(':').unwrap_or((reference, "latest"));
        Ok(Resolved {
            registry: if imported { "local" } else { "registry.test" }.into(),
            repository: repository.into(),
            tag: tag.into(),
            digest: content.digest,
            labels: content.config.labels,
        })
    }

    async fn ensure(
        &self,
        reference: &str,
        digest: &str,
        progress: Progress,
    ) -> Result<RootImage, ImageError> {
        self.0.points.pass("images: before ensure").await;
        let content = self.by_digest(digest).ok_or_else(|| not_found(reference))?;
        let path = self.root_path(digest);
        let pull = self.lock().pulls.entry(digest.into()).or_default().clone();
        let alone = pull.lock().await;
        if !path.exists() {
            self.pull(digest).await?;
        }
        drop(alone);
        progress("root image", 1, 1);
        self.0.points.pass("images: after ensure").await;
        let document = path.with_extension("json");
        rt::fs::write_atomic(document.as_std_path(), b"{}", 0o644)
            .map_err(|err| PortError::new(format!("write {document}"), err))?;
        Ok(RootImage { path, fstype: "squashfs".into(), config: content.config, document })
    }

    async fn import(
        &self,
        archive: ImageArchive<'_>,
        progress: Progress,
    ) -> Result<ImageSummary, ImageError> {
        let ImageArchive { path, name, file_name } = archive;
        let attempted = || format!("open image archive {}", file_name.unwrap_or("archive"));
        let bytes = std::fs::read(path).map_err(|err| PortError::new(attempted(), err))?;
        let digest = digest(&bytes);
        self.write_root(&digest)?;
        let name = name.or(file_name).map_or_else(|| digest.clone(), str::to_owned);
        let mut store = self.lock();
        store.arrivals += 1;
        let at = store.arrivals;
        let content = Content { digest: digest.clone(), config: ImageConfig::default(), at };
        store.imported.insert(name.clone(), content);
        drop(store);
        progress("import", bytes.len() as u64, bytes.len() as u64);
        let size = digest.len() as u64;
        Ok(ImageSummary { references: vec![name], digest, size, created_ms: at })
    }

    async fn list(&self) -> Result<Vec<ImageSummary>, ImageError> {
        let store = self.lock();
        let mut list: Vec<ImageSummary> = Vec::new();
        for (name, content) in store.imported.iter().chain(&store.registry) {
            if !self.root_path(&content.digest).exists() {
                continue;
            }
            match list.iter_mut().find(|image| image.digest == content.digest) {
                Some(image) => image.references.push(name.clone()),
                None => list.push(ImageSummary {
                    references: vec![name.clone()],
                    digest: content.digest.clone(),
                    size: content.digest.len() as u64,
                    created_ms: content.at,
                }),
            }
        }
        for content in store.unnamed.values() {
            let known = list.iter().any(|image| image.digest == content.digest);
            if !known && self.root_path(&content.digest).exists() {
                list.push(ImageSummary {
                    references: Vec::new(),
                    digest: content.digest.clone(),
                    size: content.digest.len() as u64,
                    created_ms: content.at,
                });
            }
        }
        list.sort_by_key(|image| std::cmp::Reverse(image.created_ms));
        Ok(list)
    }

    async fn remove(&self, reference: &str, keep: &BTreeSet<String>) -> Result<bool, ImageError> {
        if keep.contains(reference) {
            let problem = "machines use it".into();
            return Err(ImageError::InUse { reference: reference.into(), problem });
        }
        let there = {
            let mut store = self.lock();
            let (kept, removed): (BTreeMap<_, _>, BTreeMap<_, _>) =
                std::mem::take(&mut store.imported)
                    .into_iter()
                    .partition(|(name, content)| name != reference && content.digest != reference);
            store.imported = kept;
            let any = !removed.is_empty();
            let contents = removed.into_values().map(|content| (content.digest.clone(), content));
            store.unnamed.extend(contents);
            any
        };
        self.collect(keep).await?;
        Ok(there)
    }

    async fn collect(&self, keep: &BTreeSet<String>) -> Result<u64, ImageError> {
        let named: BTreeSet<Utf8PathBuf> = {
            let store = self.lock();
            let digests = store.imported.values().map(|content| &content.digest).chain(keep);
            let roots = digests.map(|digest| self.root_path(digest));
            roots.flat_map(|root| [root.with_extension("json"), root]).collect()
        };
        let failed = |err| PortError::new("collect images", err);
        let mut freed = 0;
        for entry in self.0.dir.read_dir_utf8().map_err(failed)?.flatten() {
            if !named.contains(entry.path()) {
                freed += entry.metadata().map_or(0, |meta| meta.len());
                std::fs::remove_file(entry.path()).map_err(failed)?;
            }
        }
        self.lock().unnamed.retain(|digest, _| self.root_path(digest).exists());
        Ok(freed)
    }
}
