//! Writable disks that are empty files.

use crate::CrashPoints;
use async_trait::async_trait;
use camino::{Utf8Path, Utf8PathBuf};
use model::volume::FileSystem;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::Notify;
use worker::ports::{Disks, LowSpace, PortError};

/// Makes sparse files without a file system on them, and accounts them against
/// a limit that the test sets.
#[derive(Clone, Debug, Default)]
pub struct FakeDisks {
    points: CrashPoints,
    host: Arc<Mutex<Host>>,
    low: Arc<Notify>,
}

#[derive(Debug, Default)]
struct Host {
    booked: BTreeMap<Utf8PathBuf, u64>,
    limit: Option<u64>,
    free: Option<u64>,
    reserve_released: bool,
    low: Option<LowSpace>,
}

impl FakeDisks {
    /// Disks whose calls pass `points`.
    pub fn new(points: CrashPoints) -> Self {
        Self { points, ..Self::default() }
    }

    /// Disks that are booked now, with their sizes in bytes.
    pub fn booked(&self) -> BTreeMap<Utf8PathBuf, u64> {
        self.lock().booked.clone()
    }

    /// Forgets all bookings, as a new daemon does.
    pub fn unbook_all(&self) {
        self.lock().booked.clear();
    }

    /// Refuses bookings beyond this many bytes in total.
    pub fn limit_bookings(&self, bytes: u64) {
        self.lock().limit = Some(bytes);
    }

    /// Makes `free_space` return this.
    pub fn set_free_space(&self, bytes: u64) {
        self.lock().free = Some(bytes);
    }

    /// Whether the reserve was released.
    pub fn reserve_released(&self) -> bool {
        self.lock().reserve_released
    }

    /// Makes `low_space` return this.
    pub fn report_low_space(&self, low: LowSpace) {
        self.lock().low = Some(low);
        self.low.notify_one();
    }

    fn lock(&self) -> MutexGuard<'_, Host> {
        self.host.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl Disks for FakeDisks {
    async fn create(&self, path: &Utf8Path, bytes: u64, _kept: bool) -> Result<(), PortError> {
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

    async fn create_volume(
        &self,
        path: &Utf8Path,
        bytes: u64,
        _fstype: FileSystem,
    ) -> Result<(), PortError> {
        let failed = |err| PortError::new(format!("make the volume {path}"), err);
        if path.exists() {
            return Err(failed(std::io::ErrorKind::AlreadyExists.into()));
        }
        self.points.pass("volume: before create").await;
        let temp = Utf8PathBuf::from(format!("{path}.new"));
        let file = std::fs::File::create(&temp).map_err(failed)?;
        self.points.pass("volume: half created").await;
        file.set_len(bytes).and_then(|()| std::fs::rename(&temp, path)).map_err(failed)?;
        self.points.pass("volume: after create").await;
        Ok(())
    }

    async fn book(&self, path: &Utf8Path, bytes: u64) -> Result<(), PortError> {
        let mut host = self.lock();
        let others = host.booked.iter().filter(|(other, _)| *other != path);
        let booked = others.map(|(_, bytes)| bytes).sum::<u64>();
        if let Some(limit) = host.limit.filter(|limit| booked + bytes > *limit) {
            let problem = format!("book disk {path}: {booked} of {limit} bytes are booked");
            return Err(PortError::plain(problem));
        }
        host.booked.insert(path.to_owned(), bytes);
        Ok(())
    }

    fn unbook(&self, path: &Utf8Path) {
        self.lock().booked.remove(path);
    }

    async fn free_space(&self) -> Result<u64, PortError> {
        Ok(self.lock().free.unwrap_or(u64::MAX))
    }

    async fn release_reserve(&self) -> Result<bool, PortError> {
        Ok(!std::mem::replace(&mut self.lock().reserve_released, true))
    }

    async fn low_space(&self) -> LowSpace {
        loop {
            let notified = self.low.notified();
            let low = self.lock().low.take();
            if let Some(low) = low {
                return low;
            }
            notified.await;
        }
    }
}
