//! Images of the host.

use crate::context::{blocking, remove_file};
use crate::db::UnreadableRow;
use crate::host::registry::{Host, Worker};
use crate::host::uploads;
use crate::ports::Resolved;
use crate::ports::{ImageArchive, ImageError, ImageSummary, Progress};
use async_trait::async_trait;
use camino::{Utf8Path, Utf8PathBuf};
use futures_util::StreamExt;
use futures_util::stream::BoxStream;
use host_api::{CallContext, HostError, ImageUpload, Images, ImportName};
use model::life::State;
use rt::clock::rfc3339;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use tokio::sync::mpsc;
use wire::machines::{ErrorBody, Image, ImageProgress, ImageRef};

impl Host {
    /// Digests that machines need, with the number of machines.
    fn images_in_use(&self) -> BTreeMap<String, u64> {
        let mut used = BTreeMap::new();
        let unreadable = self.unreadable().iter().filter(|row| row.may_exist());
        let parts = unreadable.map(|row| &row.parts);
        let digests = parts.flat_map(|parts| parts.digest.iter().chain(&parts.container_digests));
        for digest in digests.cloned() {
            *used.entry(digest).or_default() += 1;
        }
        for handle in self.handles() {
            let view = handle.view();
            if view.record.state != State::Destroyed {
                for digest in view.record.digests() {
                    *used.entry(digest.to_owned()).or_default() += 1;
                }
            }
        }
        used
    }

    /// Refuses to remove images while it is not known which ones a machine needs.
    fn refuse_if_image_unknown(&self) -> Result<(), HostError> {
        let unknown = |row: &&UnreadableRow| row.may_exist() && row.parts.digest.is_none();
        match self.unreadable().iter().find(unknown) {
            None => Ok(()),
            Some(row) => Err(HostError::Conflict(format!(
                "no image is removed: the record of machine {} cannot be read on its host, so \
                 the image that it needs is not known",
                row.id
            ))),
        }
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
        name: ImportName,
        tar: ImageUpload,
    ) -> Result<BoxStream<'static, ImageProgress>, HostError> {
        let place = self.0.uploads.admit()?;
        let (sender, receiver) = mpsc::channel(64);
        let worker = self.clone();
        self.0.context.tasks.spawn_until_stop(async move {
            let _place = place;
            let import = worker.import(name, tar, sender.clone());
            let last = tokio::select! {
                imported = import => match imported {
                    Ok(image) => ImageProgress::Done { image },
                    Err(err) => {
                        ImageProgress::Failed { error: ErrorBody::unknown(err.to_string()) }
                    }
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
            self.0.refuse_if_image_unknown()?;
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
    /// The image store cannot be changed, or it is not known which images machines need.
    pub async fn collect_images(&self) -> Result<u64, HostError> {
        self.0.refuse_if_image_unknown()?;
        let _images = self.0.images.write().await;
        let used: BTreeSet<String> = self.0.images_in_use().into_keys().collect();
        self.0.context.images.collect(&used).await.map_err(|err| host_error(&err))
    }

    async fn import(
        &self,
        name: ImportName,
        tar: ImageUpload,
        progress: mpsc::Sender<ImageProgress>,
    ) -> Result<Image, HostError> {
        let dir = self.0.context.config.data_dir.join("uploads");
        let spool = Spool(dir.join(format!("{:016x}.tar", self.0.context.rng.bits())));
        let spooled = uploads::spool(self.0.context.disks.as_ref(), &spool.0, tar).await;
        let report: Progress = Arc::new(move |name: &str, done, total| {
            // A slow client misses steps, not the result.
            let _ = progress.try_send(ImageProgress::Step { name: name.into(), done, total });
        });
        let outcome = match spooled {
            Ok(()) => {
                let ImportName { name, file_name } = &name;
                let (name, file_name) = (name.as_deref(), file_name.as_deref());
                let archive = ImageArchive { path: &spool.0, name, file_name };
                let imported = self.0.context.images.import(archive, report).await;
                imported.map_err(|err| host_error(&err))
            }
            Err(err) => Err(err),
        };
        spool.remove().await;
        outcome.map(|summary| image(summary, &self.0.images_in_use()))
    }
}

/// The file of an upload, removed when the upload ends, also if its client leaves. What a
/// crash leaves is removed at the next start.
struct Spool(Utf8PathBuf);

impl Spool {
    /// Removes the file beside the async threads: it may have many gigabytes.
    async fn remove(mut self) {
        let path = std::mem::take(&mut self.0);
        // It reports its failure itself.
        let removal = move || {
            remove_spooled(&path);
            Ok(())
        };
        let _ = blocking(removal).await;
    }
}

impl Drop for Spool {
    fn drop(&mut self) {
        let path = std::mem::take(&mut self.0);
        if path.as_str().is_empty() {
            return;
        }
        match tokio::runtime::Handle::try_current() {
            Ok(runtime) => drop(runtime.spawn_blocking(move || remove_spooled(&path))),
            Err(_) => remove_spooled(&path),
        }
    }
}

fn remove_spooled(path: &Utf8Path) {
    if let Err(err) = remove_file(path) {
        tracing::warn!(file = %path, error = %err, "cannot remove an upload");
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
