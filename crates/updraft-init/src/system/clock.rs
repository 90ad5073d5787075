//! The guest's clock and entropy: both come from the host, since a guest that
//! was restored from a template has the template's clock and random state.

use rustix::fs::{Mode, OFlags};
use rustix::time::{ClockId, Timespec};
use std::os::fd::AsRawFd;
use std::time::Instant;

/// Stamps of the stages of a start, in milliseconds since init began; in a guest
/// of a template, since it was configured.
pub(crate) struct Stages {
    began: Instant,
    stamps: Vec<(String, f64)>,
}

impl Stages {
    /// Starts the time.
    pub(crate) fn begin() -> Self {
        Self { began: Instant::now(), stamps: Vec::new() }
    }

    /// Starts the time again: a template's own start is no part of a machine's.
    pub(crate) fn restart(&mut self) {
        *self = Self::begin();
    }

    /// Records that a stage has ended.
    pub(crate) fn mark(&mut self, stage: &str) {
        let ms = self.began.elapsed().as_secs_f64() * 1e3;
        self.stamps.push((stage.to_owned(), (ms * 1e3).round() / 1e3));
    }

    /// All stamps so far.
    pub(crate) fn stamps(&self) -> Vec<(String, f64)> {
        self.stamps.clone()
    }
}

/// Steps the clock to `nanos` since the epoch.
pub(crate) fn set(nanos: i64) -> rustix::io::Result<()> {
    const SECOND: i64 = 1_000_000_000;
    let time = Timespec { tv_sec: nanos.div_euclid(SECOND), tv_nsec: nanos.rem_euclid(SECOND) };
    rustix::time::clock_settime(ClockId::Realtime, time)
}

/// `struct rand_pool_info` with room for the 64 bytes of the configuration.
#[repr(C)]
struct PoolInfo {
    entropy_count: libc::c_int,
    buf_size: libc::c_int,
    buf: [u8; 64],
}

/// Adds the host's entropy to the kernel's pool, credited, and reseeds the kernel's
/// generator at once: two guests of one template must not draw the same numbers.
pub(crate) fn add_entropy(seed: &[u8]) -> rustix::io::Result<()> {
    const RNDADDENTROPY: libc::c_ulong = 0x4008_5203;
    const RNDRESEEDCRNG: libc::c_ulong = 0x5207;
    let mut info = PoolInfo { entropy_count: 0, buf_size: 0, buf: [0; 64] };
    let len = seed.len().min(info.buf.len());
    info.buf[..len].copy_from_slice(&seed[..len]);
    info.buf_size = len as libc::c_int;
    info.entropy_count = info.buf_size * 8;
    let device = rustix::fs::open("/dev/urandom", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty())?;
    // SAFETY: both requests are documented in random(4); `info` has the layout
    // of `struct rand_pool_info` with `buf_size` valid bytes behind the header.
    let (added, reseeded) = unsafe {
        (
            libc::ioctl(device.as_raw_fd(), RNDADDENTROPY as _, &raw const info),
            libc::ioctl(device.as_raw_fd(), RNDRESEEDCRNG as _),
        )
    };
    if added < 0 || reseeded < 0 {
        return Err(last_errno());
    }
    Ok(())
}

/// The calling thread's errno.
pub(crate) fn last_errno() -> rustix::io::Errno {
    let err = std::io::Error::last_os_error();
    rustix::io::Errno::from_io_error(&err).unwrap_or(rustix::io::Errno::IO)
}
