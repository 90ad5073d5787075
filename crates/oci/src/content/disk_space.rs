//! Space of the store's file system. A job books the bytes that it expects to
//! write and measures the free space while it writes.
//!
//! Invariant: at the time of each booking, all bytes that are booked and not
//! written yet fit on the disk beside the reserve. So jobs that begin at the same
//! moment cannot all be promised the same space.

use crate::error::{Error, Result, failed};
use camino::Utf8PathBuf;
use std::fmt;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use worker::ports::PortError;

/// Bytes that a job may write between two measurements of the free space.
pub(crate) const STEP: u64 = 8 << 20;

/// Measures the free bytes of the file system.
type Measure = Box<dyn Fn() -> io::Result<u64> + Send + Sync>;

/// The file system of the store, with the bookings of all running jobs.
pub(crate) struct DiskSpace {
    measure: Measure,
    /// Bytes that jobs leave free.
    reserve: u64,
    /// Held while the free space is measured and a booking is added.
    booking: Mutex<()>,
    /// Bytes that are booked and not written yet. Not locked during input or
    /// output, since asynchronous tasks count what they write.
    booked: Mutex<u64>,
}

/// The bytes that one job has booked; given back when it is dropped.
pub(crate) struct SpaceBooking {
    disk: Arc<DiskSpace>,
    state: Mutex<BookingState>,
}

#[derive(Default)]
struct BookingState {
    /// Bytes that are booked and not written yet.
    left: u64,
    /// Bytes that were written since the free space was measured.
    unmeasured: u64,
}

impl fmt::Debug for SpaceBooking {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SpaceBooking").finish_non_exhaustive()
    }
}

impl DiskSpace {
    /// The file system of `dir`, where jobs leave `reserve` bytes free.
    pub(crate) fn new(dir: Utf8PathBuf, reserve: u64) -> Arc<Self> {
        let measure = move || {
            let stat = rustix::fs::statvfs(dir.as_std_path())?;
            Ok(stat.f_bavail.saturating_mul(stat.f_frsize))
        };
        Self::measured_by(Box::new(measure), reserve)
    }

    fn measured_by(measure: Measure, reserve: u64) -> Arc<Self> {
        Arc::new(Self { measure, reserve, booking: Mutex::default(), booked: Mutex::default() })
    }

    /// A booking of nothing yet.
    pub(crate) fn job(self: &Arc<Self>) -> SpaceBooking {
        SpaceBooking { disk: Arc::clone(self), state: Mutex::default() }
    }

    /// Adds `more` bytes to a booking that has `left`. Refuses unless the file
    /// system has room for all bookings, or, if nothing is added, for one step of
    /// this booking. Blocks.
    fn book(&self, left: u64, more: u64, purpose: &str) -> Result<()> {
        let _one = self.booking.lock().unwrap_or_else(PoisonError::into_inner);
        // Read before the measurement: what is written in between counts twice,
        // never not at all.
        let booked = *self.booked.lock().unwrap_or_else(PoisonError::into_inner);
        let free = (self.measure)().map_err(failed("measure the free space of the image store"))?;
        let others = if more == 0 { 0 } else { booked.saturating_sub(left) };
        let needed = if more == 0 { left.min(STEP) } else { left.saturating_add(more) };
        self.check(free, others, needed, purpose)?;
        let mut booked = self.booked.lock().unwrap_or_else(PoisonError::into_inner);
        *booked = booked.saturating_add(more);
        Ok(())
    }

    fn check(&self, free: u64, others: u64, needed: u64, purpose: &str) -> Result<()> {
        if needed.saturating_add(others).saturating_add(self.reserve) <= free {
            return Ok(());
        }
        let running = match others {
            0 => String::new(),
            bytes => format!(", {} MiB are booked by other images", bytes.div_ceil(1 << 20)),
        };
        Err(Error::Failed(PortError::plain(format!(
            "{purpose}: the disk of the image store has {} MiB free, {} MiB are needed{running} \
             and {} MiB are kept in reserve; remove images that are not used, or enlarge the disk",
            free >> 20,
            needed.div_ceil(1 << 20),
            self.reserve >> 20
        ))))
    }

    fn give_back(&self, bytes: u64) {
        let mut booked = self.booked.lock().unwrap_or_else(PoisonError::into_inner);
        *booked = booked.saturating_sub(bytes);
    }
}

impl SpaceBooking {
    /// Raises the booking to `bytes` that are still to be written. Blocks.
    ///
    /// # Errors
    /// The file system has no room for them beside the other bookings and the
    /// reserve; `purpose` begins the message.
    pub(crate) fn ensure(&self, bytes: u64, purpose: &str) -> Result<()> {
        let left = self.state().left;
        let more = bytes.saturating_sub(left);
        // Not locked meanwhile: asynchronous tasks count what they write.
        self.disk.book(left, more, purpose)?;
        let mut state = self.state();
        state.left = state.left.saturating_add(more);
        state.unmeasured = 0;
        Ok(())
    }

    /// Counts `n` bytes as written. Returns whether [`SpaceBooking::extend`] has
    /// to be called before more is written. Does not block.
    #[must_use]
    pub(crate) fn count(&self, n: u64) -> bool {
        let mut state = self.state();
        let taken = n.min(state.left);
        state.left -= taken;
        state.unmeasured = state.unmeasured.saturating_add(n);
        self.disk.give_back(taken);
        state.left == 0 || state.unmeasured >= STEP
    }

    /// Measures the free space, and books one step more if nothing is left.
    /// Blocks.
    ///
    /// # Errors
    /// As of [`SpaceBooking::ensure`].
    pub(crate) fn extend(&self, purpose: &str) -> Result<()> {
        let left = self.state().left;
        self.ensure(if left == 0 { STEP } else { left }, purpose)
    }

    /// Counts `n` bytes that are about to be written. Blocks.
    ///
    /// # Errors
    /// As of [`SpaceBooking::ensure`].
    pub(crate) fn write(&self, n: u64, purpose: &str) -> Result<()> {
        if self.count(n) { self.extend(purpose) } else { Ok(()) }
    }

    fn state(&self) -> std::sync::MutexGuard<'_, BookingState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for SpaceBooking {
    fn drop(&mut self) {
        self.disk.give_back(self.state().left);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicU64, Ordering};

    const MIB: u64 = 1 << 20;

    /// A disk whose free space the test sets.
    fn disk(free_mib: u64, reserve_mib: u64) -> (Arc<DiskSpace>, Arc<AtomicU64>) {
        let free = Arc::new(AtomicU64::new(free_mib * MIB));
        let now = Arc::clone(&free);
        let measure = Box::new(move || Ok(now.load(Ordering::Relaxed)));
        (DiskSpace::measured_by(measure, reserve_mib * MIB), free)
    }

    fn problem(refused: Result<()>) -> String {
        match refused {
            Err(Error::Failed(error)) => error.to_string(),
            other => panic!("it has no room: {other:?}"),
        }
    }

    #[test]
    fn a_job_without_room_is_refused_with_the_numbers() {
        let (disk, _) = disk(300, 100);
        assert!(disk.job().ensure(200 * MIB, "unpack").is_ok());
        assert_eq!(
            problem(disk.job().ensure(200 * MIB + 1, "unpack")),
            "unpack: the disk of the image store has 300 MiB free, 201 MiB are needed and 100 MiB \
             are kept in reserve; remove images that are not used, or enlarge the disk"
        );
        assert!(disk.job().ensure(u64::MAX, "unpack").is_err());
    }

    #[test]
    fn jobs_that_begin_at_once_are_not_promised_the_same_space() {
        let (disk, free) = disk(300, 100);
        let (first, second) = (disk.job(), disk.job());
        first.ensure(150 * MIB, "pull").unwrap();
        let text = problem(second.ensure(60 * MIB, "pull"));
        assert!(text.contains("60 MiB are needed, 150 MiB are booked by other images"), "{text}");
        second.ensure(50 * MIB, "pull").unwrap();
        // What the first has written is no longer booked, and no longer free.
        for _ in 0..100 {
            first.write(MIB, "pull").unwrap();
            free.fetch_sub(MIB, Ordering::Relaxed);
        }
        assert!(second.ensure(51 * MIB, "pull").is_err());
        // What it has not written is free again with its end.
        drop(first);
        second.ensure(100 * MIB, "pull").unwrap();
    }

    #[test]
    fn a_job_that_outgrows_its_booking_ends_before_the_reserve() {
        let (disk, free) = disk(200, 100);
        let job = disk.job();
        job.ensure(10 * MIB, "unpack").unwrap();
        let mut written = 0;
        while job.write(MIB, "unpack").is_ok() {
            free.fetch_sub(MIB, Ordering::Relaxed);
            written += 1;
        }
        assert!((80..=100).contains(&written), "{written} MiB");
    }

    #[test]
    fn a_job_ends_when_others_have_filled_the_disk_whatever_it_has_booked() {
        let (disk, free) = disk(1000, 100);
        let job = disk.job();
        job.ensure(500 * MIB, "fetch").unwrap();
        job.write(STEP, "fetch").unwrap();
        // A machine writes to its own disk.
        free.store(100 * MIB, Ordering::Relaxed);
        assert!(!job.count(STEP - 1), "it is measured after one step only");
        assert!(job.count(1));
        assert!(job.extend("fetch").is_err());
    }
}
