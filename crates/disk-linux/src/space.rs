//! Space accounting: bookings of sparse disks, a reserve file, a low-water mark.
//!
//! Invariant: what the booked disks may still grow by is at most the free space
//! times the factor for overcommit at the time of each booking. The free space is
//! asked of the file system each time; nothing here is durable but the reserve
//! file, so a restarted daemon books its disks again.

use crate::reflink::free_space;
use camino::{Utf8Path, Utf8PathBuf};
use rustix::fs::FallocateFlags;
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use worker::ports::{LowSpace, PortError};

/// Name of the reserve file in the directory.
const RESERVE: &str = "reserve";

/// Settings of [`Space`].
#[derive(Clone, Debug)]
pub struct SpaceConfig {
    /// The directory whose file system holds disks and databases.
    pub dir: Utf8PathBuf,
    /// How many times the free space may be booked. 1: every disk can be filled.
    pub overcommit: u32,
    /// Bytes of the reserve file.
    pub reserve: u64,
    /// Below this many free bytes, the disk that grows most is named.
    pub low_water: u64,
    /// A disk that has grown by less than this is not named: others take the space.
    pub min_growth: u64,
    /// How often the free space is compared with the low-water mark.
    pub interval: Duration,
}

impl SpaceConfig {
    /// The usual settings: 20 times overcommitted, since most machines write a
    /// few MiB of their 8 GiB; a reserve of 128 MiB, a low-water mark of 512 MiB, and
    /// 64 MiB of growth for a disk to be named.
    pub fn new(dir: Utf8PathBuf) -> Self {
        let interval = Duration::from_secs(1);
        let (reserve, low_water, min_growth) = (128 << 20, 512 << 20, 64 << 20);
        Self { dir, overcommit: 20, reserve, low_water, min_growth, interval }
    }
}

/// The bookings of one directory. Clones share them.
#[derive(Clone, Debug)]
pub struct Space(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    config: SpaceConfig,
    disks: Mutex<BTreeMap<Utf8PathBuf, Booking>>,
    /// Held while disks are measured for a booking. `disks` is not locked
    /// meanwhile, since asynchronous tasks lock it.
    booking: Mutex<()>,
}

#[derive(Clone, Copy, Debug)]
struct Booking {
    /// Bytes that the disk may grow to.
    size: u64,
    /// Bytes that were allocated when growth was last measured from.
    baseline: u64,
}

/// Bytes that each disk takes.
type Sizes = BTreeMap<Utf8PathBuf, u64>;

impl Space {
    /// No bookings yet. Makes the reserve file if there is space for it and for
    /// the low-water mark beside it, and the file system supports `fallocate`.
    ///
    /// # Errors
    /// The directory cannot be created.
    pub fn open(config: SpaceConfig) -> Result<Self, PortError> {
        let failed = |err| PortError::new(format!("open the space of {}", config.dir), err);
        fs::create_dir_all(&config.dir).map_err(failed)?;
        let space = Self(Arc::new(Shared {
            config: config.clone(),
            disks: Mutex::default(),
            booking: Mutex::default(),
        }));
        if let Err(err) = space.0.restore_reserve() {
            let dir = &config.dir;
            tracing::warn!(%dir, %err, "no reserve: a full disk may keep machines from stopping");
        }
        Ok(space)
    }

    /// See [`worker::ports::Disks::book`].
    ///
    /// # Errors
    /// There is not enough space, or the file system cannot be asked.
    pub async fn book(&self, path: &Utf8Path, bytes: u64) -> Result<(), PortError> {
        let (shared, path) = (self.0.clone(), path.to_owned());
        let attempted = format!("book {} MiB for disk {path}", bytes >> 20);
        let booked = tokio::task::spawn_blocking(move || shared.book(&path, bytes)).await;
        let failed = |err: io::Error| PortError::new(attempted.clone(), err);
        booked.map_err(|err| failed(io::Error::other(err)))?.map_err(failed)
    }

    /// See [`worker::ports::Disks::unbook`].
    pub fn unbook(&self, path: &Utf8Path) {
        self.0.lock().remove(path);
    }

    /// See [`worker::ports::Disks::free_space`].
    ///
    /// # Errors
    /// The file system cannot be asked.
    pub async fn free_space(&self) -> Result<u64, PortError> {
        let dir = self.0.config.dir.clone();
        let attempted = format!("read the free space of {dir}");
        let free = tokio::task::spawn_blocking(move || free_space(&dir)).await;
        free.map_err(io::Error::other).flatten().map_err(|err| PortError::new(attempted, err))
    }

    /// The disk at `path` has just been made: its growth is measured from here, also if it
    /// replaced another file.
    pub async fn note_created(&self, path: &Utf8Path) {
        let disk = path.to_owned();
        let now = tokio::task::spawn_blocking(move || allocated(&disk)).await;
        let now = now.map_err(io::Error::other).flatten();
        if let (Some(booking), Ok(now)) = (self.0.lock().get_mut(path), now) {
            booking.baseline = now;
        }
    }

    /// See [`worker::ports::Disks::release_reserve`].
    ///
    /// # Errors
    /// The reserve file cannot be removed.
    pub async fn release_reserve(&self) -> Result<bool, PortError> {
        let path = self.0.reserve_path();
        let attempted = format!("remove the reserve file {path}");
        let removed = tokio::task::spawn_blocking(move || fs::remove_file(path)).await;
        match removed.map_err(io::Error::other).flatten() {
            Ok(()) => {
                let dir = &self.0.config.dir;
                tracing::warn!(%dir, "the disk is full: the reserve is released; free some space");
                Ok(true)
            }
            Err(err) if err.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(err) => Err(PortError::new(attempted, err)),
        }
    }

    /// See [`worker::ports::Disks::low_space`]. Between two looks it also makes
    /// the reserve file again once there is space.
    pub async fn low_space(&self) -> LowSpace {
        let mut interval = tokio::time::interval(self.0.config.interval);
        interval.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        // The first tick is immediate; a caller's loop must not spin.
        interval.tick().await;
        let mut logged = None;
        loop {
            interval.tick().await;
            let shared = self.0.clone();
            let checked = tokio::task::spawn_blocking(move || shared.check()).await;
            match checked.map_err(io::Error::other).flatten() {
                // Not while it is checked: a caller that has left got no answer.
                Ok(Some((low, sizes))) => {
                    self.0.measure_from(&sizes);
                    return low;
                }
                Ok(None) => logged = None,
                Err(err) => {
                    let (dir, error) = (&self.0.config.dir, rt::chain(&err));
                    // Once, not at every look.
                    if logged.as_ref() != Some(&error) {
                        tracing::warn!(%dir, error, "cannot check the free space");
                        logged = Some(error);
                    }
                }
            }
        }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<Utf8PathBuf, Booking>> {
        // Each change of the map is one insert or remove.
        self.disks.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn reserve_path(&self) -> Utf8PathBuf {
        self.config.dir.join(RESERVE)
    }

    fn book(&self, path: &Utf8Path, size: u64) -> io::Result<()> {
        let _one = self.booking.lock().unwrap_or_else(PoisonError::into_inner);
        let free = free_space(&self.config.dir)?;
        let limit = free.saturating_mul(u64::from(self.config.overcommit));
        let baseline = allocated(path)?;
        // A copy: what is unbooked while it is measured counts once more.
        let disks = self.lock().clone();
        let others = disks.iter().filter(|(other, _)| *other != path);
        let booked = others.map(|(other, disk)| growth_left(other, disk.size)).sum::<u64>();
        let wanted = size.saturating_sub(baseline);
        if booked.saturating_add(wanted) > limit {
            return Err(io::Error::new(
                io::ErrorKind::StorageFull,
                format!(
                    "it may grow by {} MiB and the other disks by {} MiB, which is more than {} \
                     times the {} MiB that are free in {}: destroy machines, free space, or raise \
                     the overcommit of disks",
                    wanted >> 20,
                    booked >> 20,
                    self.config.overcommit,
                    free >> 20,
                    self.config.dir
                ),
            ));
        }
        self.lock().insert(path.to_owned(), Booking { size, baseline });
        Ok(())
    }

    /// Below the low-water mark, the disk that has grown most, and what all disks take now.
    /// Once it is reported, the growth of all is measured from these sizes: what the disks
    /// took earlier is no reason to stop the next machine.
    fn check(&self) -> io::Result<Option<(LowSpace, Sizes)>> {
        let free = free_space(&self.config.dir)?;
        if free >= self.config.low_water {
            self.restore_reserve()?;
            return Ok(None);
        }
        let disks = self.lock().clone();
        let now = |(path, disk): (&Utf8PathBuf, &Booking)| {
            (path.clone(), allocated(path).unwrap_or(disk.baseline))
        };
        let sizes: Sizes = disks.iter().map(now).collect();
        let growth = disks.iter().map(|(path, disk)| {
            (sizes.get(path).map_or(0, |now| now.saturating_sub(disk.baseline)), path)
        });
        let enough = |(grown, _): &(u64, _)| *grown >= self.config.min_growth.max(1);
        let named = growth.max().filter(enough);
        let named = named.map(|(grown, disk)| LowSpace { free, disk: disk.clone(), grown });
        Ok(named.map(|low| (low, sizes)))
    }

    /// The growth of these disks is measured from these sizes.
    fn measure_from(&self, sizes: &Sizes) {
        let mut disks = self.lock();
        for (path, now) in sizes {
            if let Some(booking) = disks.get_mut(path) {
                booking.baseline = *now;
            }
        }
    }

    /// Makes the reserve file if it does not exist and space allows.
    fn restore_reserve(&self) -> io::Result<()> {
        let (path, size) = (self.reserve_path(), self.config.reserve);
        let exists = fs::metadata(&path).is_ok_and(|file| file.blocks() * 512 >= size);
        let needed = self.config.low_water.saturating_add(size);
        if size == 0 || exists || free_space(&self.config.dir)? < needed {
            return Ok(());
        }
        let file = File::options().write(true).create(true).truncate(true).open(&path)?;
        match rustix::fs::fallocate(&file, FallocateFlags::empty(), 0, size) {
            Ok(()) => Ok(()),
            Err(err) => {
                // A part of a reserve would pass for the whole of one.
                fs::remove_file(&path)?;
                Err(err.into())
            }
        }
    }
}

fn growth_left(path: &Utf8Path, size: u64) -> u64 {
    // A disk that cannot be read counts in full.
    size.saturating_sub(allocated(path).unwrap_or(0))
}

/// Bytes that a file takes; 0 if it does not exist.
fn allocated(path: &Utf8Path) -> io::Result<u64> {
    match fs::metadata(path) {
        Ok(file) => Ok(file.blocks() * 512),
        Err(err) if err.kind() == io::ErrorKind::NotFound => Ok(0),
        Err(err) => Err(err),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_disk_is_unbooked_while_a_booking_measures_disks() {
        let dir = tempfile::tempdir().unwrap();
        let dir = Utf8PathBuf::from_path_buf(dir.path().to_owned()).unwrap();
        let config = SpaceConfig { reserve: 0, ..SpaceConfig::new(dir.clone()) };
        let space = Space::open(config).unwrap();
        space.0.book(&dir.join("a"), 1).unwrap();
        // As long as a stat takes on a disk that hangs.
        let _measured = space.0.booking.lock().unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(space.note_created(&dir.join("a")));
        space.unbook(&dir.join("a"));
        assert!(space.0.lock().is_empty());
    }
}
