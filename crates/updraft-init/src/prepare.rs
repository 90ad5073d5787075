//! From orders to a root file system in which the main process can start.
//!
//! Runs on a thread of its own, made before there are orders, so that the host
//! is heard meanwhile. What the app cannot do without fails the orders; the rest
//! is a line in the log. In a guest of a template every instruction from here to
//! the main process is translated anew, so what could be done before was.

use crate::clock::{self, Stages};
use crate::files::OwnFiles;
use crate::herald::{Herald, News};
use crate::mounts::{LOWER, Trees, UPPER};
use crate::net::{self, Netlink};
use crate::uevent::Uevents;
use crate::virtio::{Kind, Virtio};
use crate::{files, mounts, swap};
use guest_protocol::{Device, Orders};
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::mpsc::Receiver;
use std::time::{Duration, Instant};

/// Longest wait for the devices of the orders; they are there in milliseconds.
const DEVICES: Duration = Duration::from_secs(20);

/// What is needed from boot.
pub(crate) struct Means {
    /// Devices whose drivers wait.
    pub(crate) virtio: Virtio,
    /// The way to the kernel's network, or why there is none.
    pub(crate) netlink: Result<Netlink, String>,
    /// Mounted for the root.
    pub(crate) trees: Trees,
    /// Time since init began.
    pub(crate) stages: Stages,
    /// What went wrong at boot, for the log of a machine.
    pub(crate) complaints: Vec<String>,
}

/// A guest that is ready for its main process.
pub(crate) struct Prepared {
    /// Directory of the scratch disk.
    pub(crate) scratch: OwnedFd,
    /// Stamps so far.
    pub(crate) stages: Stages,
    /// Devices that can wait until the main process runs.
    pub(crate) virtio: Virtio,
}

/// What the thread is asked for.
pub(crate) enum Job {
    /// Get ready for the freeze.
    Settle,
    /// Make the guest what these say.
    Orders(Box<Orders>),
    /// The main process runs: do what could wait.
    Rest(Virtio),
}

/// Does jobs until there will be no more.
pub(crate) fn serve(means: Means, jobs: &Receiver<Job>, herald: &Herald) {
    let mut means = Some(means);
    let mut settled = false;
    while let Ok(job) = jobs.recv() {
        match (job, &mut means) {
            (Job::Settle, Some(means)) => {
                settle(means);
                settled = true;
                herald.tell(News::Settled);
            }
            (Job::Orders(orders), means) => {
                let Some(mut means) = means.take() else { continue };
                if settled {
                    means.stages.begin_anew();
                }
                let mut log = |line| herald.tell(News::Log(line));
                herald.tell(News::Prepared(prepare(&orders, means, &mut log)));
            }
            (Job::Rest(virtio), _) => {
                // The app goes first.
                // SAFETY: takes any numbers; 0 is the calling thread.
                unsafe { libc::setpriority(libc::PRIO_PROCESS, 0, 19) };
                return virtio.let_go();
            }
            (Job::Settle, None) => {}
        }
    }
}

fn settle(means: &Means) {
    means.virtio.release();
    // Waits until the kernel's generator is ready, which patches code; else the
    // entropy of the orders would have it do that in each machine.
    let _ = rustix::rand::getrandom(&mut [0u8; 16][..], rustix::rand::GetRandomFlags::empty());
    // What boot has read and looked up but nobody will need: a template's memory
    // is kept. Then what the kernel does after a while is waited for: two grace
    // periods, as what the first frees may free more.
    let _ = std::fs::write("/proc/sys/vm/drop_caches", "1");
    for _ in 0..2 {
        // SAFETY: `membarrier` has no memory arguments; 1 is MEMBARRIER_CMD_GLOBAL.
        unsafe { libc::syscall(libc::SYS_membarrier, 1, 0, 0) };
    }
}

/// Carries out all of the orders but the main process.
fn prepare(orders: &Orders, means: Means, log: &mut dyn FnMut(String)) -> Result<Prepared, String> {
    let Means { mut virtio, netlink, trees, mut stages, complaints } = means;
    stages.mark("orders");
    if let Err(err) = clock::set(orders.now) {
        log(format!("cannot set the clock: {err}"));
    }
    if let Err(err) = clock::add_entropy(&orders.entropy) {
        log(format!("cannot add entropy: {err}"));
    }
    let _ = rustix::system::sethostname(orders.hostname.as_bytes());
    stages.mark("identity");
    virtio.bind(Kind::Block);
    for Device { path, .. } in [&orders.root, &orders.scratch] {
        let there = || (path.is_empty() || Path::new(path).exists()).then_some(());
        wait_for(path, &mut virtio, Kind::Block, there)?;
    }
    stages.mark("disks");
    mounts::mount_layers(&orders.root, &orders.scratch)?;
    stages.mark("layers");
    let own = OwnFiles::write_into(Path::new(UPPER), Path::new(LOWER), orders);
    let scratch = mounts::enter_root(trees, log)?;
    stages.mark("root");
    files::write_all(&own, orders)?;
    if orders.swap_mib > 0
        && let Err(error) = swap::make(&scratch, orders.swap_mib)
    {
        log(error);
    }
    stages.mark("files");
    let mut netlink = netlink?;
    if let Some(net) = &orders.net {
        virtio.bind(Kind::Net);
        wait_for(net::INTERFACE, &mut virtio, Kind::Net, || netlink.index(net::INTERFACE))?;
        stages.mark("nic");
        net::configure(&mut netlink, net)?;
        stages.mark("network");
    }
    complaints.into_iter().for_each(log);
    Ok(Prepared { scratch, stages, virtio })
}

/// Waits for what a driver makes. It is there already, but for a device that the
/// kernel has found late.
fn wait_for<T>(
    name: &str,
    virtio: &mut Virtio,
    kind: Kind,
    mut there: impl FnMut() -> Option<T>,
) -> Result<(), String> {
    if there().is_some() {
        return Ok(());
    }
    let deadline = Some(Instant::now() + DEVICES);
    let look = || {
        virtio.look_again();
        virtio.bind(kind);
        there()
    };
    let found = Uevents::subscribe().wait(deadline, look);
    found.map(drop).ok_or_else(|| format!("{name} did not appear within {} s", DEVICES.as_secs()))
}
