//! From the kernel's first call to the open agent port.

use crate::clock::Stages;
use crate::modules::{self, ModuleOrder};
use crate::port::Port;
use crate::uevent::Uevents;
use rustix::fs::{Mode, OFlags};
use rustix::mount::MountFlags;
use std::os::fd::IntoRawFd;

/// Why there is no agent port.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BootError {
    /// The port is there and cannot be opened.
    #[error("open agent port {path}: {err}")]
    OpenPort {
        /// Its device.
        path: String,
        /// Why; in the message, since the kernel log shows one line.
        err: rustix::io::Errno,
    },
}

/// What boot hands to the loop.
pub(crate) struct Booted {
    /// The way to the host.
    pub(crate) port: Port,
    /// Modules for when the orders are here.
    pub(crate) late_modules: Vec<String>,
    /// Subscribed before any driver was loaded.
    pub(crate) uevents: Uevents,
    /// Time since init began.
    pub(crate) stages: Stages,
    /// What went wrong on the way, for the log.
    pub(crate) complaints: String,
}

/// Mounts what drivers need, loads those of the first stage and opens the port.
pub(crate) fn boot() -> Result<Booted, BootError> {
    let mut stages = Stages::begin();
    // SAFETY: umask cannot fail and takes any mode.
    unsafe { libc::umask(0o022) };
    let plain = MountFlags::NOSUID | MountFlags::NOEXEC;
    for (fstype, target) in [("proc", "/proc"), ("sysfs", "/sys"), ("devtmpfs", "/dev")] {
        let _ = std::fs::create_dir(target);
        let flags = if fstype == "devtmpfs" { MountFlags::NOSUID } else { plain };
        // Already mounted (CONFIG_DEVTMPFS_MOUNT) is as good.
        let _ = rustix::mount::mount(fstype, target, fstype, flags, None);
    }
    fill_standard_streams();
    // No oom_score_adj: the kernel never picks pid 1 when memory runs out, and
    // children would inherit it.
    let order = ModuleOrder::read();
    let mut uevents = Uevents::subscribe();
    let complaints = modules::load(&order.early);
    if !complaints.is_empty() {
        kernel_message(&complaints);
    }
    stages.mark("modules");
    // No deadline of our own: without the port there is nobody to tell, and the
    // host has one.
    let path = uevents.wait(None, find_port).unwrap_or_default();
    let port = Port::open(&path).map_err(|err| BootError::OpenPort { path, err })?;
    stages.mark("port");
    Ok(Booted { port, late_modules: order.late, uevents, stages, complaints })
}

/// The device of the port that carries our name.
fn find_port() -> Option<String> {
    let ports = std::fs::read_dir("/sys/class/virtio-ports").ok()?;
    ports.flatten().find_map(|entry| {
        let name = std::fs::read_to_string(entry.path().join("name")).ok()?;
        let device = format!("/dev/{}", entry.file_name().to_str()?);
        (name.trim_end() == wire::guest::PORT && std::path::Path::new(&device).exists())
            .then_some(device)
    })
}

/// Descriptors 0 to 2 are always something, or the next file opened would be
/// taken for a standard stream by a child.
fn fill_standard_streams() {
    while let Ok(fd) = rustix::fs::open("/dev/null", OFlags::RDWR, Mode::empty()) {
        let raw = fd.into_raw_fd();
        if raw > 2 {
            // SAFETY: `raw` was just taken out of its owner.
            drop(unsafe { <std::os::fd::OwnedFd as std::os::fd::FromRawFd>::from_raw_fd(raw) });
            return;
        }
    }
}

/// Words for the kernel's log: the only place left before the port is open.
pub(crate) fn kernel_message(text: &str) {
    let _ = std::fs::write("/dev/kmsg", format!("updraft-init: {}\n", text.trim_end()));
}
