//! One image from its registry into the store.

use crate::blob::Blob;
use crate::digest::Digest;
use crate::fault::{self, Fault};
use crate::import::check_counts;
use crate::reference::ImageName;
use crate::registry::Registry;
use crate::spool::{Budget, Expected, SharedBudget};
use crate::store::Store;
use crate::work::{Inner, Made, Meter};
use std::path::PathBuf;
use std::sync::Arc;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use worker::ports::{ImageError, PortError, Progress};

/// What the tasks of one pull share.
struct Pull {
    inner: Arc<Inner>,
    registry: Registry,
    name: String,
    downloads: Semaphore,
    budget: SharedBudget,
    fetched: Meter,
    unpacked: Meter,
}

/// Pulls the image `digest` from the repository of `name`.
pub(crate) async fn pull(
    inner: Arc<Inner>,
    name: ImageName,
    digest: Digest,
    progress: Progress,
) -> Result<(), ImageError> {
    let deadline = inner.config.pull_deadline;
    let work = pull_within(inner, name.clone(), digest, progress);
    tokio::time::timeout(deadline, work).await.unwrap_or_else(|_| {
        let problem = format!("pull {} within {} s", name.canonical(), deadline.as_secs());
        Err(ImageError::Failed(PortError::plain(problem).transient()))
    })
}

async fn pull_within(
    inner: Arc<Inner>,
    name: ImageName,
    digest: Digest,
    progress: Progress,
) -> Result<(), ImageError> {
    let _working = inner.gate.read().await;
    let known = digest.to_string();
    if inner.store(move |store| store.has(&known)).await? {
        return Ok(());
    }
    let shown = name.canonical();
    let refuse = |fault: Fault| fault.of(&shown);
    let settings = &inner.config;
    let registry = Registry::new(&name, settings, &inner.rng)?;
    let (manifest, image) = registry.manifest(&digest, settings).await?;
    check_counts(&image, settings).map_err(refuse)?;
    let (config_bytes, config) = registry.config(&image, settings).await?;
    let expected = image.expected(&config).map_err(refuse)?;
    let sizes: Vec<_> = image.layers.iter().map(|layer| layer.size).collect();
    let all = sizes.iter().sum();
    let pull = Arc::new(Pull {
        registry,
        name: shown.clone(),
        downloads: Semaphore::new(settings.parallel_layers.max(1)),
        budget: Arc::new(Budget::new(settings.limits.unpacked_bytes)),
        fetched: Meter::new(&progress, "download", all),
        unpacked: Meter::new(&progress, "unpack", all),
        inner: Arc::clone(&inner),
    });
    let tars = layers(&pull, expected.clone(), sizes.clone()).await?;
    let made = Made { digest, manifest, config_bytes, run: config.image_config() };
    inner.finish(made, tars, &progress).await.map_err(refuse)?;
    for (layer, size) in expected.iter().zip(sizes) {
        let Some(digest) = &layer.digest else { continue };
        // Who has the turn removes it; what stays is removed by `collect`.
        if let Some(_turn) = inner.turns.free(digest.hex()) {
            let _ = tokio::fs::remove_file(inner.partial(digest, size)).await;
        }
    }
    Ok(())
}

/// The tars of all layers, lowest first. The same blob twice is fetched once.
async fn layers(
    pull: &Arc<Pull>,
    expected: Vec<Expected>,
    sizes: Vec<u64>,
) -> Result<Vec<Blob>, ImageError> {
    let mut tasks = JoinSet::new();
    let mut first: Vec<usize> = Vec::new();
    for (n, (layer, size)) in expected.iter().zip(sizes).enumerate() {
        let same =
            |other: &Expected| other.digest == layer.digest && other.diff_id == layer.diff_id;
        let at = expected.iter().position(same).unwrap_or(n);
        first.push(at);
        if at == n {
            let (pull, layer) = (Arc::clone(pull), layer.clone());
            tasks.spawn(async move { pull.layer(&layer, size).await.map(|tar| (n, tar)) });
        }
    }
    let mut tars: Vec<Option<Blob>> = vec![None; first.len()];
    while let Some(done) = tasks.join_next().await {
        // The others are dropped with the set; what they fetched stays for the next try.
        let (n, tar) = done.map_err(|err| fault::lost(err).of(&pull.name))??;
        tars[n] = Some(tar);
    }
    Ok(first.into_iter().filter_map(|at| tars[at].clone()).collect())
}

impl Pull {
    /// One at a time per blob, over all pulls. The next finds the whole file
    /// and only reads it: the first may still be reading, too, as a layer that
    /// is not compressed is used where it is. A file that is whole is therefore
    /// never written again, only unlinked.
    async fn layer(&self, expected: &Expected, size: u64) -> Result<Blob, ImageError> {
        let digest = expected.digest.clone();
        let digest = digest.unwrap_or_else(|| expected.diff_id.clone());
        // Before the slot: who waits for a slot keeps nobody of this pull from
        // finishing, so no two pulls wait for each other.
        let _turn = self.inner.turns.wait(digest.hex()).await;
        let partial = self.inner.partial(&digest, size);
        let mut fresh = false;
        loop {
            let slot = self.downloads.acquire().await;
            let fetched =
                self.registry.blob(&digest, size, &partial, &|n| self.fetched.add(n)).await?;
            drop(slot);
            let budget = Arc::clone(&self.budget);
            let told =
                self.inner.spool(fetched.blob, expected.clone(), budget, &self.unpacked).await;
            match told {
                Ok(tar) => return Ok(tar),
                Err(fault @ Fault::Refused(_)) => {
                    let _ = tokio::fs::remove_file(&partial).await;
                    if !fetched.resumed || fresh {
                        return Err(fault.of(&self.name));
                    }
                    // The remains of an earlier try may be what is damaged.
                    fresh = true;
                }
                Err(fault) => return Err(fault.of(&self.name)),
            }
        }
    }
}

impl Inner {
    fn partial(&self, digest: &Digest, size: u64) -> PathBuf {
        Store::partial(&self.config.dir, digest, size).into_std_path_buf()
    }
}
