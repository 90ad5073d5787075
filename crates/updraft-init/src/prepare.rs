//! From orders to a root file system in which the main process can start.
//!
//! Runs on a thread of its own, so that the host is heard meanwhile. What the
//! app cannot do without fails the orders; the rest is a line in the log.

use crate::clock::{self, Stages};
use crate::uevent::Uevents;
use crate::{files, modules, mounts, net, swap};
use std::os::fd::OwnedFd;
use std::path::Path;
use std::time::{Duration, Instant};
use wire::guest::{Device, Orders};

/// Longest wait for the devices of the orders; they are there in milliseconds.
const DEVICES: Duration = Duration::from_secs(20);

/// What is needed from boot.
pub(crate) struct Means {
    /// Modules of the second stage.
    pub(crate) late_modules: Vec<String>,
    /// Device announcements.
    pub(crate) uevents: Uevents,
    /// Time since init began.
    pub(crate) stages: Stages,
}

/// A guest that is ready for its main process.
pub(crate) struct Prepared {
    /// Directory of the scratch disk.
    pub(crate) scratch: OwnedFd,
    /// Stamps so far.
    pub(crate) stages: Stages,
}

/// Carries out all of the orders but the main process.
pub(crate) fn prepare(
    orders: &Orders,
    means: Means,
    log: &mut dyn FnMut(String),
) -> Result<Prepared, String> {
    let Means { late_modules, mut uevents, mut stages } = means;
    stages.mark("orders");
    if let Err(err) = clock::set(orders.now) {
        log(format!("cannot set the clock: {err}"));
    }
    if let Err(err) = clock::add_entropy(&orders.entropy) {
        log(format!("cannot add entropy: {err}"));
    }
    let complaints = modules::load(&late_modules);
    complaints.lines().map(str::to_owned).for_each(&mut *log);
    stages.mark("drivers");
    wait_for_devices(orders, &mut uevents)?;
    stages.mark("devices");
    net::configure(orders.net.as_ref())?;
    let _ = rustix::system::sethostname(orders.hostname.as_bytes());
    stages.mark("network");
    let scratch = mounts::enter_root(&orders.root, &orders.scratch)?;
    stages.mark("root");
    mounts::mount_kernel().into_iter().for_each(&mut *log);
    stages.mark("mounts");
    files::write_all(orders)?;
    if orders.swap_mib > 0
        && let Err(error) = swap::make(&scratch, orders.swap_mib)
    {
        log(error);
    }
    stages.mark("files");
    Ok(Prepared { scratch, stages })
}

fn wait_for_devices(orders: &Orders, uevents: &mut Uevents) -> Result<(), String> {
    let deadline = Some(Instant::now() + DEVICES);
    let missing = |name: &str| format!("{name} did not appear within {} s", DEVICES.as_secs());
    for Device { path, .. } in [&orders.root, &orders.scratch] {
        let there = || (path.is_empty() || Path::new(path).exists()).then_some(());
        uevents.wait(deadline, there).ok_or_else(|| missing(path))?;
    }
    if orders.net.is_some() {
        let there = || net::interface_index();
        uevents.wait(deadline, there).ok_or_else(|| missing(net::INTERFACE))?;
    }
    Ok(())
}
