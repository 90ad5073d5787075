//! Pulls one image from its registry into the store.

use crate::config::settings::OciConfig;
use crate::content::blob::Blob;
use crate::content::digest::Digest;
use crate::content::unpack::{Expected, SharedBudget};
use crate::error::{self, Error};
use crate::jobs::job::Job;
use crate::jobs::progress::ProgressMeter;
use crate::jobs::shared::{Jobs, NewImage};
use crate::manifest::document::ImageManifest;
use crate::reference::ImageName;
use crate::registry::repository::{Repository, WantedBlob};
use crate::store::catalog::Store;
use camino::Utf8PathBuf;
use std::sync::Arc;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use worker::ports::{ImageError, PortError, Progress};

/// The state that the tasks of one pull share.
struct Pull {
    jobs: Arc<Jobs>,
    job: Arc<Job>,
    repository: Repository,
    name: String,
    downloads: Semaphore,
    budget: SharedBudget,
    fetched: ProgressMeter,
    unpacked: ProgressMeter,
}

/// Pulls the image `digest` from the repository of `name`.
pub(crate) async fn pull(
    jobs: Arc<Jobs>,
    name: ImageName,
    digest: Digest,
    progress: Progress,
) -> Result<(), ImageError> {
    let deadline = jobs.config.pull_deadline;
    let work = pull_admitted(jobs, name.clone(), digest, progress);
    tokio::time::timeout(deadline, work).await.unwrap_or_else(|_| {
        let problem = format!("pull {} within {} s", name.canonical(), deadline.as_secs());
        Err(ImageError::Failed(PortError::plain(problem).transient()))
    })
}

async fn pull_admitted(
    jobs: Arc<Jobs>,
    name: ImageName,
    digest: Digest,
    progress: Progress,
) -> Result<(), ImageError> {
    let job = jobs.begin(&jobs.pulls).await?;
    let known = digest.to_string();
    if jobs.store(move |store| store.has(&known)).await? {
        return Ok(());
    }
    let shown = name.canonical();
    let refuse = |error: Error| error.for_image(&shown);
    let settings = &jobs.config;
    let repository = Repository::new(&name, settings, &jobs.rng)?;
    let manifest = repository.manifest(&digest, settings).await?;
    check_size(&manifest.image, settings).map_err(refuse)?;
    let (config_bytes, config) = repository.config(&manifest.image, settings).await?;
    if let Some(left_out) = config.left_out() {
        tracing::info!(image = %shown, "{left_out}");
        progress(&left_out, 0, 0);
    }
    let expected = config.expected(&manifest.image).map_err(refuse)?;
    let sizes: Vec<_> = manifest.image.layers.iter().map(|layer| layer.size).collect();
    let total = sizes.iter().sum();
    require_space(&jobs, &job, total).await.map_err(refuse)?;
    let pull = Arc::new(Pull {
        repository,
        name: shown.clone(),
        downloads: Semaphore::new(settings.parallel_layers.max(1)),
        budget: jobs.budget(&job),
        fetched: ProgressMeter::new(&progress, "download", total),
        unpacked: ProgressMeter::new(&progress, "unpack", total),
        jobs: Arc::clone(&jobs),
        job: Arc::clone(&job),
    });
    let tars = layers(&pull, expected.clone(), sizes.clone()).await?;
    let image =
        NewImage { digest, manifest: manifest.bytes, config_bytes, run: config.image_config() };
    jobs.finish(&job, image, tars, &progress).await.map_err(refuse)?;
    for (layer, size) in expected.iter().zip(sizes) {
        let Some(digest) = &layer.digest else { continue };
        // Another pull that has the lock removes it; `collect` removes the rest.
        if let Some(_lock) = jobs.blob_locks.try_lock(digest.hex())
            && let Err(Error::Failed(error)) = jobs.remove_file(partial(&jobs, digest, size)).await
        {
            tracing::warn!(error = %rt::chain(&error), "a downloaded layer stays until the next garbage collection");
        }
    }
    Ok(())
}

/// Refuses an image beyond the limits before its layers are fetched.
fn check_size(image: &ImageManifest, config: &OciConfig) -> Result<(), Error> {
    let (layers, limit) = (image.layers.len(), config.limits.layers);
    if layers > limit {
        return Err(Error::refused(format!("its {layers} layers exceed the limit of {limit}")));
    }
    let bytes = image.layers.iter().fold(0u64, |sum, layer| sum.saturating_add(layer.size));
    let limit = config.limits.unpacked_bytes;
    if bytes > limit {
        return Err(Error::refused(format!(
            "its layers of {bytes} bytes exceed the limit of {limit} bytes"
        )));
    }
    Ok(())
}

/// Refuses an image whose layers have no room: as downloaded, unpacked, and in
/// the root image, each of which takes at least the downloaded size as a rule.
async fn require_space(jobs: &Jobs, job: &Arc<Job>, layer_bytes: u64) -> Result<(), Error> {
    let (space, needed) = (Arc::clone(&job.space), layer_bytes.saturating_mul(3));
    jobs.compute(job, move || space.ensure(needed, "pull an image")).await
}

/// The tars of all layers, lowest first. A blob that occurs twice is fetched once.
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
        let done = done.map_err(|err| error::lost(err).for_image(&pull.name)).flatten();
        match done {
            Ok((n, tar)) => tars[n] = Some(tar),
            Err(error) => {
                // The other tasks end with the set; their downloads stay for the
                // next attempt.
                pull.jobs.close(tars).await;
                return Err(error);
            }
        }
    }
    Ok(first.into_iter().filter_map(|at| tars[at].clone()).collect())
}

impl Pull {
    /// Downloads and unpacks a layer; one task at a time per blob, over all
    /// pulls. The next one finds the whole file and only reads it. The first may
    /// still be reading it too, since a layer that is not compressed is used in
    /// place: so a whole file is never written again, only unlinked.
    async fn layer(&self, expected: &Expected, size: u64) -> Result<Blob, ImageError> {
        let digest = expected.digest.clone();
        let digest = digest.unwrap_or_else(|| expected.diff_id.clone());
        // Taken before the permit to download: a task that waits for the permit
        // keeps no task of its own pull from finishing, so no two pulls wait for
        // each other.
        let _lock = self.jobs.blob_locks.lock(digest.hex()).await;
        let partial = partial(&self.jobs, &digest, size);
        let progress = |n| self.fetched.add(n);
        let (digest, job) = (&digest, &self.job);
        let wanted = WantedBlob { digest, size, job, progress: &progress };
        let mut restarted = false;
        loop {
            let permit = self.downloads.acquire().await;
            let fetched = self.repository.blob(&wanted, partial.as_std_path()).await?;
            drop(permit);
            let budget = Arc::clone(&self.budget);
            let unpacked = self
                .jobs
                .unpack(&self.job, fetched.blob, expected.clone(), budget, &self.unpacked)
                .await;
            match unpacked {
                Ok(tar) => return Ok(tar),
                Err(error @ Error::Refused(_)) => {
                    let removed = self.jobs.remove_file(partial.clone()).await;
                    if !fetched.resumed || restarted {
                        return Err(error.for_image(&self.name));
                    }
                    removed.map_err(|error| error.for_image(&self.name))?;
                    // The part from an earlier attempt may be what is damaged.
                    restarted = true;
                }
                Err(error) => return Err(error.for_image(&self.name)),
            }
        }
    }
}

fn partial(jobs: &Jobs, digest: &Digest, size: u64) -> Utf8PathBuf {
    Store::partial(&jobs.config.dir, digest, size)
}
