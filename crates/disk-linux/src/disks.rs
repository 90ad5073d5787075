//! [`Disks`] on scratch disks and the space accounting.

use crate::scratch::ScratchDisks;
use crate::space::Space;
use crate::volumes;
use async_trait::async_trait;
use camino::Utf8Path;
use model::volume::FileSystem;
use worker::ports::{Disks, LowSpace, PortError};

/// The worker's disks on a Linux file system.
#[derive(Clone, Debug)]
pub struct LinuxDisks {
    scratch: ScratchDisks,
    space: Space,
}

impl LinuxDisks {
    /// Disks from `scratch`, accounted by `space`; both are of one file system.
    pub fn new(scratch: ScratchDisks, space: Space) -> Self {
        Self { scratch, space }
    }
}

#[async_trait]
impl Disks for LinuxDisks {
    async fn create(&self, path: &Utf8Path, bytes: u64, kept: bool) -> Result<(), PortError> {
        match kept {
            true => self.scratch.create_kept(path, bytes).await?,
            false => self.scratch.create(path, bytes).await?,
        };
        self.space.note_created(path).await;
        Ok(())
    }

    async fn create_volume(
        &self,
        path: &Utf8Path,
        bytes: u64,
        fstype: FileSystem,
    ) -> Result<(), PortError> {
        volumes::create(path, bytes, fstype).await?;
        self.space.note_created(path).await;
        Ok(())
    }

    async fn book(&self, path: &Utf8Path, bytes: u64) -> Result<(), PortError> {
        self.space.book(path, bytes).await
    }

    fn unbook(&self, path: &Utf8Path) {
        self.space.unbook(path);
    }

    async fn free_space(&self) -> Result<u64, PortError> {
        self.space.free_space().await
    }

    async fn release_reserve(&self) -> Result<bool, PortError> {
        self.space.release_reserve().await
    }

    async fn low_space(&self) -> LowSpace {
        self.space.low_space().await
    }
}
