//! Uploads of image archives: how many the host receives at a time, and the room
//! that they leave on its disk.

use crate::ports::Disks;
use camino::{Utf8Path, Utf8PathBuf};
use host_api::{HostError, ImageUpload};
use std::sync::Arc;
use tokio::fs::File;
use tokio::io::{AsyncReadExt, AsyncWriteExt, BufReader, copy_buf};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Uploads at a time; each may take as much of the disk as an image.
const MAX_UPLOADS: usize = 4;
/// An image may unpack to 8 GiB; nothing sensible is larger packed.
const MAX_BYTES: u64 = 16 << 30;
/// Bytes that stay free for the disks of machines and the records of the host: as many as
/// pulls and imports leave, more than the free space below which machines are stopped.
const MIN_FREE: u64 = 640 << 20;
/// Bytes that are received between two looks at the free space.
const STEP: u64 = 16 << 20;
const BUFFER: usize = 256 << 10;

/// Counts the uploads that are under way.
#[derive(Debug)]
pub(super) struct Uploads(Arc<Semaphore>);

impl Default for Uploads {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(MAX_UPLOADS)))
    }
}

impl Uploads {
    /// A place for one more upload, until the permit is dropped.
    ///
    /// # Errors
    /// The host receives as many already as it takes.
    pub(super) fn admit(&self) -> Result<OwnedSemaphorePermit, HostError> {
        self.0.clone().try_acquire_owned().map_err(|_| {
            HostError::Busy(format!(
                "receive image: the host receives {MAX_UPLOADS} already; import it again once one \
                 of them is done"
            ))
        })
    }
}

/// Receives an archive into a file.
///
/// # Errors
/// It breaks off or is too large, or the disk has no room for it.
pub(super) async fn spool(
    disks: &dyn Disks,
    path: &Utf8Path,
    tar: ImageUpload,
) -> Result<(), HostError> {
    let failed = |err| HostError::Internal(format!("receive image into {path}: {err}"));
    let dir = path.parent().map(Utf8PathBuf::from).unwrap_or_default();
    tokio::fs::create_dir_all(&dir).await.map_err(failed)?;
    let mut file = File::create(path).await.map_err(failed)?;
    let (mut tar, mut received) = (BufReader::with_capacity(BUFFER, tar), 0);
    loop {
        require_space(disks, received).await?;
        let count = copy_buf(&mut (&mut tar).take(STEP), &mut file).await.map_err(failed)?;
        received += count;
        if received > MAX_BYTES {
            let rule = format!("receive image: it is larger than {MAX_BYTES} bytes");
            return Err(HostError::Invalid(rule));
        }
        if count < STEP {
            return file.flush().await.map_err(failed);
        }
    }
}

async fn require_space(disks: &dyn Disks, received: u64) -> Result<(), HostError> {
    let free = disks.free_space().await;
    let free = free.map_err(|err| HostError::Internal(rt::chain(&err)))?;
    if free >= MIN_FREE + STEP {
        return Ok(());
    }
    Err(HostError::NoCapacity(format!(
        "receive image: after {received} bytes of it {} MiB of the host's disk are free, and \
         {} MiB have to stay so: remove images or destroy machines",
        free >> 20,
        MIN_FREE >> 20,
    )))
}
