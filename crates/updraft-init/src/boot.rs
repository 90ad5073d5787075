//! From the kernel's first call to the open agent port.

use crate::api::Api;
use crate::clock::Stages;
use crate::modules::{self, ModuleOrder};
use crate::port::Port;
use crate::prepare::Means;
use crate::uevent::Uevents;
use crate::virtio::Virtio;
use crate::{mounts, net};
use rustix::fs::{Mode, OFlags};
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
    /// Where the app will ask its host.
    pub(crate) api: Api,
    /// For when the orders are here.
    pub(crate) means: Means,
}

/// From the first instruction to "waits for orders". All that needs no orders is
/// done here, since here it is done once for all machines of a template.
pub(crate) fn boot() -> Result<Booted, BootError> {
    let mut stages = Stages::begin();
    // SAFETY: umask cannot fail and takes any mode.
    unsafe { libc::umask(0o022) };
    let mut complaints = mounts::mount_first();
    fill_standard_streams();
    // No oom_score_adj: the kernel never picks pid 1 when memory runs out, and
    // children would inherit it.
    // No modules but ours: without this the kernel would look for a program that
    // loads one whenever something is asked of it that it does not know.
    let _ = std::fs::write("/proc/sys/kernel/modprobe", "\n");
    let order = ModuleOrder::read();
    let mut uevents = Uevents::subscribe();
    complaints.extend(modules::load(&order.early));
    stages.mark("modules");
    // No deadline of our own: without the port there is nobody to tell, and the
    // host has one.
    let path = uevents.wait(None, find_port).unwrap_or_default();
    let port = Port::open(&path).map_err(|err| BootError::OpenPort { path, err })?;
    drop(uevents);
    stages.mark("port");
    let virtio = Virtio::hold();
    complaints.extend(modules::load(&order.late));
    modules::forget();
    stages.mark("drivers");
    complaints.extend(mounts::mount_rest());
    let api = Api::listen().unwrap_or_else(|error| {
        complaints.push(error);
        Api::default()
    });
    let netlink = net::before_orders();
    for complaint in &complaints {
        kernel_message(complaint);
    }
    stages.mark("ready");
    let trees = mounts::Trees::open();
    Ok(Booted { port, api, means: Means { virtio, netlink, trees, stages, complaints } })
}

/// The device of the port that carries our name.
fn find_port() -> Option<String> {
    let ports = std::fs::read_dir("/sys/class/virtio-ports").ok()?;
    ports.flatten().find_map(|entry| {
        let name = std::fs::read_to_string(entry.path().join("name")).ok()?;
        let device = format!("/dev/{}", entry.file_name().to_str()?);
        (name.trim_end() == guest_protocol::PORT && std::path::Path::new(&device).exists())
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
