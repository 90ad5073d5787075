//! Writable disks that are empty files.

use crate::CrashPoints;
use async_trait::async_trait;
use camino::Utf8Path;
use worker::ports::{Disks, PortError};

/// Makes sparse files without a file system on them.
#[derive(Clone, Debug, Default)]
pub struct FakeDisks {
    points: CrashPoints,
}

impl FakeDisks {
    /// Disks whose calls pass `points`.
    pub fn new(points: CrashPoints) -> Self {
        Self { points }
    }
}

#[async_trait]
impl Disks for FakeDisks {
    async fn create(&self, path: &Utf8Path, bytes: u64) -> Result<(), PortError> {
        self.points.pass("disk: before create").await;
        // Like the real one: made beside and renamed, so a crash leaves no half disk.
        let temp = path.with_extension("tmp");
        let failed = |err| PortError::new(format!("create disk {path}"), err);
        let file = std::fs::File::create(&temp).map_err(failed)?;
        self.points.pass("disk: half created").await;
        let made = file.set_len(bytes).and_then(|()| std::fs::rename(&temp, path));
        if made.is_err() {
            // The error that matters is the one above.
            let _ = std::fs::remove_file(&temp);
        }
        made.map_err(failed)?;
        self.points.pass("disk: after create").await;
        Ok(())
    }
}
