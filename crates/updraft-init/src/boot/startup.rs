//! From the kernel's first call to the open agent port.

use super::mounts;
use crate::agent::guest_api::GuestApi;
use crate::agent::port::Port;
use crate::boot::modules::{self, ModuleOrder};
use crate::boot::prepare::PrepareContext;
use crate::boot::uevent::Uevents;
use crate::boot::virtio::Virtio;
use crate::system::clock::Stages;
use crate::system::{kernel_log, memory, network};
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

/// The results of boot that the event loop uses.
pub(crate) struct Booted {
    /// The connection to the host.
    pub(crate) port: Port,
    /// The Machines API's sockets.
    pub(crate) api: GuestApi,
    /// For the thread that applies the configuration.
    pub(crate) context: PrepareContext,
}

/// Does everything that needs no configuration: in a template it is done once for all
/// machines.
pub(crate) fn boot() -> Result<Booted, BootError> {
    let mut stages = Stages::begin();
    // SAFETY: umask cannot fail and takes any mode.
    unsafe { libc::umask(0o022) };
    let mut warnings = mounts::mount_first();
    fill_standard_streams();
    // No oom_score_adj: the kernel never picks pid 1 when memory runs out, and
    // children would inherit it.
    // No modules but those of the initramfs: otherwise the kernel would run modprobe
    // for every unknown protocol or file system that is asked for.
    let _ = std::fs::write("/proc/sys/kernel/modprobe", "\n");
    let order = ModuleOrder::read();
    let mut uevents = Uevents::subscribe();
    warnings.extend(modules::load(&order.early));
    stages.mark("modules");
    // No deadline here: without the port no failure can be reported, and the host
    // has a deadline.
    let path = uevents.wait(None, find_port).unwrap_or_default();
    let port = Port::open(&path).map_err(|err| BootError::OpenPort { path, err })?;
    drop(uevents);
    stages.mark("port");
    let virtio = Virtio::hold();
    warnings.extend(modules::load(&order.late));
    modules::free_initramfs();
    stages.mark("drivers");
    warnings.extend(mounts::mount_rest());
    memory::protect_working_set();
    let mut api = GuestApi::listen().unwrap_or_else(|error| {
        warnings.push(error);
        GuestApi::default()
    });
    let netlink = network::before_config(&mut warnings);
    warnings.extend(api.listen_tcp().err());
    for warning in &warnings {
        kernel_log::write(warning);
    }
    stages.mark("ready");
    let trees = mounts::Trees::open();
    Ok(Booted { port, api, context: PrepareContext { virtio, netlink, trees, stages, warnings } })
}

/// Finds the device of the agent port by its name.
fn find_port() -> Option<String> {
    let ports = std::fs::read_dir("/sys/class/virtio-ports").ok()?;
    ports.flatten().find_map(|entry| {
        let name = std::fs::read_to_string(entry.path().join("name")).ok()?;
        let device = format!("/dev/{}", entry.file_name().to_str()?);
        (name.trim_end() == guest_protocol::PORT && std::path::Path::new(&device).exists())
            .then_some(device)
    })
}

/// Opens descriptors 0 to 2, or a child would take the next file opened for one of
/// its standard streams.
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
