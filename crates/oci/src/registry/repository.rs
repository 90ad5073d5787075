//! The manifests, configs and blobs of one repository.

use crate::config::settings::OciConfig;
use crate::content::blob::Blob;
use crate::content::digest::Digest;
use crate::content::unpack::verify;
use crate::error::{self, Error};
use crate::jobs::job::Job;
use crate::manifest::document::{ImageManifest, Manifest, shorten};
use crate::manifest::image_config::Config;
use crate::manifest::platform;
use crate::reference::ImageName;
use crate::registry::http::Http;
use crate::registry::response::interrupted;
use reqwest::StatusCode;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tokio::fs::{File, OpenOptions};
use tokio::io::{AsyncSeekExt, AsyncWriteExt, BufWriter};
use worker::ports::{ImageError, PortError};

/// The depth of indexes within indexes, counting the first.
const MAX_NESTING: usize = 4;
/// Manifests that are fetched in search of an image.
const MAX_MANIFESTS: usize = 16;
/// The longest pause between two attempts.
const MAX_PAUSE: Duration = Duration::from_secs(10);

/// One repository, for one pull.
pub(crate) struct Repository {
    http: Http,
    name: ImageName,
    attempts: u32,
    rng: rt::Rng,
}

/// The manifest of an image, with its digest and its bytes.
pub(crate) struct FetchedManifest {
    pub(crate) digest: Digest,
    pub(crate) bytes: Vec<u8>,
    pub(crate) image: ImageManifest,
}

impl Repository {
    /// The repository of `name`, with the login for its registry.
    pub(crate) fn new(
        name: &ImageName,
        config: &OciConfig,
        rng: &rt::Rng,
    ) -> Result<Self, ImageError> {
        let http = Http::new(name, config)?;
        let (name, rng) = (name.clone(), rng.clone());
        Ok(Self { http, name, attempts: config.attempts.max(1), rng })
    }

    /// The manifest that the name refers to now, for the platform of the guests.
    pub(crate) async fn resolve(&self, config: &OciConfig) -> Result<FetchedManifest, ImageError> {
        self.find_manifest(self.name.digest(), config).await
    }

    /// The manifest with the given digest, which is no index.
    pub(crate) async fn manifest(
        &self,
        digest: &Digest,
        config: &OciConfig,
    ) -> Result<FetchedManifest, ImageError> {
        let found = self.find_manifest(Some(digest.clone()), config).await?;
        if found.digest != *digest {
            let problem = format!("{digest} is an index of several images, not one");
            return Err(self.refused(Error::refused(problem)));
        }
        Ok(found)
    }

    /// The best image at a digest, or at the name's tag: an index is searched
    /// for an image, artifacts are left out.
    async fn find_manifest(
        &self,
        from: Option<Digest>,
        config: &OciConfig,
    ) -> Result<FetchedManifest, ImageError> {
        // The next candidate is the last; each has its depth.
        let mut candidates = vec![(from, 0)];
        let mut artifacts = Vec::new();
        for _ in 0..MAX_MANIFESTS {
            let Some((wanted, nesting)) = candidates.pop() else { break };
            let (digest, bytes) = self.manifest_document(wanted, config).await?;
            match Manifest::parse(&bytes).map_err(|error| self.refused(error))? {
                Manifest::Image(image) => return Ok(FetchedManifest { digest, bytes, image }),
                Manifest::Artifact(media_type) => artifacts.push(media_type),
                Manifest::Index(_) if nesting + 1 == MAX_NESTING => {
                    return Err(self.refused(Error::refused("its indexes are nested too deeply")));
                }
                Manifest::Index(listed) => {
                    let best_first = platform::candidates(&listed, config.guest_cpu)
                        .map_err(|error| self.refused(error))?;
                    for candidate in best_first.into_iter().rev() {
                        if candidate.artifact_type.is_empty() {
                            let digest = candidate.digest().map_err(|error| self.refused(error))?;
                            candidates.push((Some(digest), nesting + 1));
                        } else {
                            artifacts.push(shorten(&candidate.artifact_type));
                        }
                    }
                }
            }
        }
        artifacts.dedup();
        artifacts.truncate(MAX_MANIFESTS);
        let problem = match candidates.is_empty() {
            true => format!("it holds no image, only artifacts: {}", artifacts.join(", ")),
            false => format!("none of its first {MAX_MANIFESTS} manifests is an image"),
        };
        Err(self.refused(Error::refused(problem)))
    }

    /// A manifest or an index, verified.
    async fn manifest_document(
        &self,
        wanted: Option<Digest>,
        config: &OciConfig,
    ) -> Result<(Digest, Vec<u8>), ImageError> {
        let at = wanted.as_ref().map_or_else(|| self.tag().to_owned(), Digest::to_string);
        let limit = config.limits.manifest_bytes;
        let bytes = self.document(&format!("manifests/{at}"), limit, "manifest").await?;
        let digest = Digest::of(&bytes);
        if let Some(wanted) = &wanted {
            verify("manifest", wanted, &digest).map_err(|error| self.refused(error))?;
        }
        Ok((digest, bytes))
    }

    fn tag(&self) -> &str {
        match self.name.tag() {
            "" => "latest",
            tag => tag,
        }
    }

    async fn document(&self, path: &str, limit: u64, what: &str) -> Result<Vec<u8>, ImageError> {
        let mut retries = self.retries();
        loop {
            match self.http.document(path, limit, what).await {
                Ok(bytes) => return Ok(bytes),
                Err(error) => retries.wait(error).await?,
            }
        }
    }

    /// The config of an image, with its bytes.
    pub(crate) async fn config(
        &self,
        image: &ImageManifest,
        config: &OciConfig,
    ) -> Result<(Vec<u8>, Config), ImageError> {
        let limit = config.limits.config_bytes;
        let refuse = |error| self.refused(error);
        let digest = image.config.digest().map_err(refuse)?;
        let bytes = self.document(&format!("blobs/{digest}"), limit, "config").await?;
        verify("config", &digest, &Digest::of(&bytes)).map_err(refuse)?;
        let parsed = Config::parse(&bytes).map_err(refuse)?;
        Ok((bytes, parsed))
    }

    /// Downloads a blob into the file `partial`, from the end of what the file
    /// has. The blob's length is verified, its digest is not.
    pub(crate) async fn blob(
        &self,
        wanted: &WantedBlob<'_>,
        partial: &Path,
    ) -> Result<FetchedBlob, ImageError> {
        let WantedBlob { size, progress, .. } = *wanted;
        let mut options = OpenOptions::new();
        let options = options.read(true).write(true).create(true).truncate(false);
        let mut file = options.open(partial).await.map_err(disk_error)?;
        let mut have = file.metadata().await.map_err(disk_error)?.len();
        if have > size {
            file.set_len(0).await.map_err(disk_error)?;
            have = 0;
        }
        let resumed = have > 0;
        progress(have);
        let mut retries = self.retries();
        while have < size {
            let before = have;
            match self.fetch_range(wanted, &mut file, &mut have).await {
                Ok(()) => {}
                Err(error @ ImageError::Refused { .. }) => {
                    let _ = tokio::fs::remove_file(partial).await;
                    return Err(error);
                }
                Err(error) => {
                    if have > before {
                        retries = self.retries();
                    }
                    retries.wait(error).await?;
                }
            }
        }
        let blob = Blob::whole(file.into_std().await).map_err(disk_error)?;
        Ok(FetchedBlob { blob, resumed })
    }

    /// Appends the bytes of one response to the file, from `have` on, which is
    /// advanced by them.
    async fn fetch_range(
        &self,
        wanted: &WantedBlob<'_>,
        file: &mut File,
        have: &mut u64,
    ) -> Result<(), ImageError> {
        let WantedBlob { digest, size, job, progress } = *wanted;
        let mut response =
            self.http.get(&format!("blobs/{digest}"), *have, "fetch a layer").await?;
        if response.status() != StatusCode::PARTIAL_CONTENT {
            *have = 0;
        }
        file.set_len(*have).await.map_err(disk_error)?;
        file.seek(io::SeekFrom::Start(*have)).await.map_err(disk_error)?;
        let mut out = BufWriter::with_capacity(256 << 10, file);
        let mut end = Ok(());
        loop {
            let chunk = match response.chunk().await {
                Ok(Some(chunk)) => chunk,
                Ok(None) => break,
                Err(err) => {
                    end = Err(interrupted("fetch a layer", err));
                    break;
                }
            };
            if *have + chunk.len() as u64 > size {
                let problem = format!("blob {digest} is longer than the {size} bytes promised");
                return Err(self.refused(Error::refused(problem)));
            }
            if job.space.count(chunk.len() as u64) {
                self.extend_space(job).await?;
            }
            out.write_all(&chunk).await.map_err(disk_error)?;
            *have += chunk.len() as u64;
            progress(chunk.len() as u64);
        }
        out.flush().await.map_err(disk_error)?;
        match end {
            Ok(()) if *have < size => {
                let problem = format!("fetch blob {digest}: the registry sent too few bytes");
                Err(ImageError::Failed(PortError::plain(problem).transient()))
            }
            end => end,
        }
    }

    /// Makes sure that the job may write on.
    async fn extend_space(&self, job: &Arc<Job>) -> Result<(), ImageError> {
        let job = Arc::clone(job);
        let extend = move || job.space.extend("fetch a layer");
        let extended = tokio::task::spawn_blocking(extend).await.map_err(error::lost).flatten();
        extended.map_err(|error| self.refused(error))
    }

    fn retries(&self) -> Retries {
        let backoff = rt::Backoff::new(Duration::from_millis(200), MAX_PAUSE);
        Retries { left: self.attempts - 1, backoff, rng: self.rng.clone() }
    }

    fn refused(&self, error: Error) -> ImageError {
        error.for_image(&self.name.canonical())
    }
}

fn disk_error(err: io::Error) -> ImageError {
    PortError::new("write a downloaded layer", err).into()
}

/// A blob that a job needs.
pub(crate) struct WantedBlob<'a> {
    pub(crate) digest: &'a Digest,
    pub(crate) size: u64,
    pub(crate) job: &'a Arc<Job>,
    /// Called with the number of bytes that each chunk has.
    pub(crate) progress: &'a (dyn Fn(u64) + Sync),
}

/// A downloaded blob.
pub(crate) struct FetchedBlob {
    pub(crate) blob: Blob,
    /// Whether an earlier download has left a part, which may be damaged.
    pub(crate) resumed: bool,
}

/// The attempts that are left.
struct Retries {
    left: u32,
    backoff: rt::Backoff,
    rng: rt::Rng,
}

impl Retries {
    /// Waits before the next attempt, if `error` is transient and attempts are left.
    async fn wait(&mut self, error: ImageError) -> Result<(), ImageError> {
        match &error {
            ImageError::Failed(cause) if cause.transient && self.left > 0 => {
                tracing::debug!(error = %rt::chain(&error), "will try again");
                self.left -= 1;
                tokio::time::sleep(self.backoff.pause(&self.rng)).await;
                Ok(())
            }
            _ => Err(error),
        }
    }
}
