//! Images of the host.

use crate::context::{blocking, remove_file};
use crate::host::registry::{Host, UPLOADS, Worker};
use crate::ports::Resolved;
use crate::ports::{ImageArchive, ImageError, ImageSummary, Progress};
use async_trait::async_trait;
use futures_util::StreamExt;
use futures_util::stream::BoxStream;
use host_api::{CallContext, HostError, ImageUpload, Images};
use model::life::State;
use rt::clock::rfc3339;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use tokio::io::AsyncWriteExt;
use tokio::sync::mpsc;
use wire::machines::{ErrorBody, Image, ImageProgress, ImageRef};

impl Host {
    /// Digests that machines need, with the number of machines.
    fn images_in_use(&self) -> BTreeMap<String, u64> {
        let mut used = BTreeMap::new();
        for handle in self.handles() {
            let view = handle.view();
            if view.record.state != State::Destroyed {
                *used.entry(view.record.image.digest.clone()).or_default() += 1;
            }
        }
        used
    }
}

#[async_trait]
impl Images for Worker {
    async fn resolve_image(
        &self,
        context: CallContext,
        reference: String,
    ) -> Result<ImageRef, HostError> {
        let resolve = async {
            let resolved = self.0.context.images.resolve(&reference).await;
            resolved.map_err(|err| host_error(&err))
        };
        let Resolved { registry, repository, tag, digest, labels } =
            self.within(&context, resolve).await?;
        Ok(ImageRef { registry, repository, tag, digest, labels })
    }

    async fn import_image(
        &self,
        _context: CallContext,
        name: Option<String>,
        tar: ImageUpload,
    ) -> Result<BoxStream<'static, ImageProgress>, HostError> {
        let place = self.0.uploads.clone().try_acquire_owned().map_err(|_| {
            HostError::Busy(format!("{UPLOADS} images are uploaded already: try again later"))
        })?;
        let (sender, receiver) = mpsc::channel(64);
        let worker = self.clone();
        self.0.context.tasks.spawn_until_stop(async move {
            let _place = place;
            let import = worker.import(name, tar, sender.clone());
            let last = tokio::select! {
                imported = import => match imported {
                    Ok(image) => ImageProgress::Done { image },
                    Err(err) => ImageProgress::Failed {
                        error: ErrorBody {
                            error: err.to_string(),
                            status: "unknown".into(),
                            hint: None,
                        },
                    },
                },
                // The client has gone.
                () = sender.closed() => return,
            };
            let _ = sender.send(last).await;
        });
        let stream = futures_util::stream::unfold(receiver, |mut receiver| async move {
            receiver.recv().await.map(|progress| (progress, receiver))
        });
        Ok(stream.boxed())
    }

    async fn images(&self, context: CallContext) -> Result<Vec<Image>, HostError> {
        let used = self.0.images_in_use();
        let list = async {
            let list = self.0.context.images.list().await;
            list.map_err(|err| host_error(&err))
        };
        let list = self.within(&context, list).await?;
        Ok(list.into_iter().map(|summary| image(summary, &used)).collect())
    }

    async fn remove_image(
        &self,
        context: CallContext,
        reference: String,
    ) -> Result<bool, HostError> {
        let remove = async {
            let _images = self.0.images.write().await;
            let used: BTreeSet<String> = self.0.images_in_use().into_keys().collect();
            let removed = self.0.context.images.remove(&reference, &used).await;
            removed.map_err(|err| host_error(&err))
        };
        self.within(&context, remove).await
    }
}

impl Worker {
    /// Removes image data that nothing uses; returns the bytes freed.
    ///
    /// # Errors
    /// The image store cannot be changed.
    pub async fn collect_images(&self) -> Result<u64, HostError> {
        let _images = self.0.images.write().await;
        let used: BTreeSet<String> = self.0.images_in_use().into_keys().collect();
        self.0.context.images.collect(&used).await.map_err(|err| host_error(&err))
    }

    async fn import(
        &self,
        name: Option<String>,
        tar: ImageUpload,
        progress: mpsc::Sender<ImageProgress>,
    ) -> Result<Image, HostError> {
        let dir = self.0.context.config.data_dir.join("uploads");
        let spool = Spool(dir.join(format!("{:016x}.tar", self.0.context.rng.bits())));
        let spooled = spool_upload(&spool.0, tar).await;
        let report: Progress = Arc::new(move |name: &str, done, total| {
            // A slow client misses steps, not the result.
            let _ = progress.try_send(ImageProgress::Step { name: name.into(), done, total });
        });
        let outcome = match spooled {
            Ok(()) => {
                let archive =
                    ImageArchive { path: &spool.0, name: name.as_deref(), file_name: None };
                let imported = self.0.context.images.import(archive, report).await;
                imported.map_err(|err| host_error(&err))
            }
            Err(err) => Err(HostError::Internal(format!("receive image into {}: {err}", spool.0))),
        };
        drop(spool);
        outcome.map(|summary| image(summary, &self.0.images_in_use()))
    }
}

/// Free space that an upload leaves to machines and databases.
const SPACE_LEFT: u64 = 512 << 20;
/// Bytes between two looks at the free space.
const SPACE_STEP: u64 = 16 << 20;

/// The file of an upload, removed when the upload ends, also if its client leaves. What a
/// crash leaves is removed at the next start.
struct Spool(camino::Utf8PathBuf);

impl Drop for Spool {
    fn drop(&mut self) {
        if let Err(err) = remove_file(&self.0) {
            tracing::warn!(file = %self.0, error = %err, "cannot remove an upload");
        }
    }
}

/// Fails if an upload may not take more space in `dir`.
async fn require_space(dir: &camino::Utf8Path) -> std::io::Result<()> {
    let path = dir.to_owned();
    let stat = blocking(move || Ok(rustix::fs::statvfs(path.as_std_path())?)).await?;
    let free = stat.f_bavail.saturating_mul(stat.f_frsize);
    if free < SPACE_LEFT + SPACE_STEP {
        return Err(std::io::Error::new(
            std::io::ErrorKind::StorageFull,
            format!("only {} MiB are free: remove images or machines first", free >> 20),
        ));
    }
    Ok(())
}

async fn spool_upload(path: &camino::Utf8Path, mut tar: ImageUpload) -> std::io::Result<()> {
    /// An image may unpack to 8 GiB; nothing sensible is larger packed.
    const MOST: u64 = 16 << 30;
    let dir = path.parent().unwrap_or(path);
    tokio::fs::create_dir_all(dir).await?;
    let (mut file, mut received) = (None, 0);
    loop {
        require_space(dir).await?;
        let file = match &mut file {
            Some(file) => file,
            None => file.insert(tokio::fs::File::create(path).await?),
        };
        let mut limited = tokio::io::AsyncReadExt::take(&mut tar, SPACE_STEP);
        let mut buffered = tokio::io::BufReader::with_capacity(256 << 10, &mut limited);
        let step = tokio::io::copy_buf(&mut buffered, file).await?;
        received += step;
        if received > MOST {
            return Err(std::io::Error::other(format!("it is larger than {MOST} bytes")));
        }
        if step < SPACE_STEP {
            return file.flush().await;
        }
    }
}

fn image(summary: ImageSummary, used: &BTreeMap<String, u64>) -> Image {
    Image {
        used_by: used.get(&summary.digest).copied().unwrap_or(0),
        references: summary.references,
        digest: summary.digest,
        size: summary.size,
        created_at: rfc3339(summary.created_ms),
    }
}

fn host_error(err: &ImageError) -> HostError {
    let text = rt::chain(err);
    match err {
        ImageError::BadReference { .. } | ImageError::Refused { .. } => HostError::Invalid(text),
        ImageError::InUse { .. } => HostError::Conflict(text),
        ImageError::NotFound { .. } => HostError::NotFound(text),
        ImageError::Failed(_) => HostError::Internal(text),
    }
}
