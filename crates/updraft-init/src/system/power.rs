//! Power off.

use crate::boot::volumes;
use crate::container::roots;
use crate::process::signals;
use rustix::mount::MountFlags;
use rustix::system::RebootCommand;
use std::os::fd::{AsRawFd, OwnedFd};
use std::time::{Duration, Instant};

/// Longest wait for killed processes; one in uninterruptible sleep may never end.
const EXIT_TIMEOUT: Duration = Duration::from_secs(2);

/// Kills all processes, makes the disks read-only and powers off.
pub(crate) fn off(scratch: Option<&OwnedFd>) -> ! {
    signals::kill_everything();
    let deadline = Instant::now() + EXIT_TIMEOUT;
    while Instant::now() < deadline && children_left() {
        if signals::reap().is_none() {
            std::thread::sleep(Duration::from_millis(1));
        }
    }
    rustix::fs::sync();
    volumes::unmount_all();
    if let Some(scratch) = scratch {
        // The overlays first: they write to the disk below them.
        let flags = MountFlags::RDONLY;
        for root in std::fs::read_dir(roots::root("")).into_iter().flatten().flatten() {
            let _ = rustix::mount::mount_remount(root.path(), flags, "");
        }
        let _ = rustix::mount::mount_remount("/", flags, "");
        let _ = rustix::mount::mount_remount(
            format!("/proc/self/fd/{}", scratch.as_raw_fd()),
            flags,
            "",
        );
    }
    let _ = rustix::system::reboot(RebootCommand::PowerOff);
    // No way to power off (no ACPI): a reset ends QEMU with `-action reboot=shutdown`.
    let _ = rustix::system::reboot(RebootCommand::Restart);
    loop {
        std::thread::park();
    }
}

fn children_left() -> bool {
    // SAFETY: a null info is allowed; nothing is reaped with WNOWAIT.
    let found = unsafe {
        let mut info: libc::siginfo_t = std::mem::zeroed();
        libc::waitid(libc::P_ALL, 0, &raw mut info, libc::WEXITED | libc::WNOHANG | libc::WNOWAIT)
    };
    found == 0
}
