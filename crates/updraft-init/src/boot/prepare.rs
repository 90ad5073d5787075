//! From the configuration to a root file system in which the main process can
//! start.
//!
//! Runs on a thread of its own, made before there is a configuration, so that the
//! event loop reads the host meanwhile. What the app cannot do without fails the
//! configuration; the rest is a line in the log. In a guest of a template every
//! instruction from here to the main process is translated again by an emulator, so
//! everything that can be done before is done at boot.

use super::mounts::{self, LOWER, Trees, UPPER};
use super::run_dir;
use super::uevent::Uevents;
use super::virtio::{Kind, Virtio};
use super::volumes;
use crate::container::roots;
use crate::system::clock::{self, Stages};
use crate::system::files::{self, OwnFiles};
use crate::system::network::{self, Netlink};
use crate::system::swap;
use guest_protocol::{Device, GuestConfig};
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::mpsc::Receiver;
use std::time::{Duration, Instant};

/// Longest wait for the configured devices; they are there in milliseconds.
const DEVICE_TIMEOUT: Duration = Duration::from_secs(20);

/// The results of boot that the preparation uses.
pub(crate) struct PrepareContext {
    /// Devices whose drivers are not bound yet.
    pub(crate) virtio: Virtio,
    /// The connection to the kernel's network, or why there is none.
    pub(crate) netlink: Result<Netlink, String>,
    /// Mounts that are moved into the root.
    pub(crate) trees: Trees,
    /// Time since init began.
    pub(crate) stages: Stages,
    /// The failures at boot, for the log of a machine.
    pub(crate) warnings: Vec<String>,
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

/// A job of the thread.
pub(crate) enum Job {
    /// Finish all work under way, so that a template can be made.
    QuiesceForTemplate,
    /// Apply a configuration.
    Configure(Box<GuestConfig>),
    /// The main process runs: bind the devices that could wait.
    BindRest(Virtio),
}

/// The result of a job.
pub(crate) enum PrepareEvent {
    /// A line for the log.
    Log(String),
    /// Nothing is under way any more.
    Quiesced,
    /// The configuration is applied, but for the main process.
    Prepared(Result<Prepared, String>),
}

/// Does jobs until there will be no more.
pub(crate) fn serve(context: PrepareContext, jobs: &Receiver<Job>, notify: &dyn Fn(PrepareEvent)) {
    let mut context = Some(context);
    let mut quiesced = false;
    while let Ok(job) = jobs.recv() {
        match (job, &mut context) {
            (Job::QuiesceForTemplate, Some(context)) => {
                quiesce_for_template(context);
                quiesced = true;
                notify(PrepareEvent::Quiesced);
            }
            (Job::Configure(config), context) => {
                let Some(mut context) = context.take() else { continue };
                if quiesced {
                    context.stages.restart();
                }
                let mut log = |line| notify(PrepareEvent::Log(line));
                notify(PrepareEvent::Prepared(prepare(&config, context, &mut log)));
            }
            (Job::BindRest(virtio), _) => {
                // The app has priority.
                // SAFETY: takes any numbers; 0 is the calling thread.
                unsafe { libc::setpriority(libc::PRIO_PROCESS, 0, 19) };
                return virtio.bind_rest();
            }
            (Job::QuiesceForTemplate, None) => {}
        }
    }
}

fn quiesce_for_template(context: &PrepareContext) {
    context.virtio.release();
    // Waits until the kernel's generator is ready, which patches code; otherwise
    // the configured entropy would make it do that in each machine.
    let _ = rustix::rand::getrandom(&mut [0u8; 16][..], rustix::rand::GetRandomFlags::empty());
    // Drops what boot has read and looked up and no machine will need: a template's
    // memory is kept. Then waits for the kernel's deferred work: two grace periods,
    // as what the first frees may free more.
    let _ = std::fs::write("/proc/sys/vm/drop_caches", "1");
    for _ in 0..2 {
        // SAFETY: `membarrier` has no memory arguments; 1 is MEMBARRIER_CMD_GLOBAL.
        unsafe { libc::syscall(libc::SYS_membarrier, 1, 0, 0) };
    }
}

/// Applies all of the configuration but the main process.
fn prepare(
    config: &GuestConfig,
    context: PrepareContext,
    log: &mut dyn FnMut(String),
) -> Result<Prepared, String> {
    let PrepareContext { mut virtio, netlink, trees, mut stages, warnings } = context;
    stages.mark("config");
    if let Err(err) = clock::set(config.now) {
        log(format!("cannot set the clock: {err}"));
    }
    if let Err(err) = clock::add_entropy(&config.entropy) {
        log(format!("cannot add entropy: {err}"));
    }
    let _ = rustix::system::sethostname(config.hostname.as_bytes());
    stages.mark("identity");
    virtio.bind(Kind::Block);
    let devices = [&config.root, &config.scratch].into_iter().chain(roots::devices(config));
    for Device { path, .. } in devices.chain(volumes::devices(config)) {
        let there = || (path.is_empty() || Path::new(path).exists()).then_some(());
        wait_for(path, &mut virtio, Kind::Block, there)?;
    }
    stages.mark("disks");
    mounts::mount_layers(&config.root, &config.scratch)?;
    stages.mark("layers");
    run_dir::copy_from_image(Path::new(LOWER), Path::new("/"), log);
    let own = OwnFiles::write_into(Path::new(UPPER), Path::new(LOWER), config);
    let of_containers = roots::mount_all(config)?;
    let scratch = mounts::enter_root(trees, log)?;
    stages.mark("root");
    if config.mounts.is_some() {
        volumes::mount_all(config, log)?;
        stages.mark("mounts");
    }
    files::write_all(&own, &config.files)?;
    roots::write_files(&of_containers, config)?;
    if config.swap_mib > 0
        && let Err(error) = swap::make(&scratch, config.swap_mib)
    {
        log(error);
    }
    stages.mark("files");
    let mut netlink = netlink?;
    if let Some(net) = &config.net {
        virtio.bind(Kind::Net);
        wait_for(network::INTERFACE, &mut virtio, Kind::Net, || netlink.index(network::INTERFACE))?;
        stages.mark("nic");
        network::configure(&mut netlink, net)?;
        stages.mark("network");
    }
    warnings.into_iter().for_each(log);
    Ok(Prepared { scratch, stages, virtio })
}

/// Waits for what a driver makes. It is there already, unless the kernel has found
/// the device late.
fn wait_for<T>(
    name: &str,
    virtio: &mut Virtio,
    kind: Kind,
    mut there: impl FnMut() -> Option<T>,
) -> Result<(), String> {
    if there().is_some() {
        return Ok(());
    }
    let deadline = Some(Instant::now() + DEVICE_TIMEOUT);
    let look = || {
        virtio.rescan();
        virtio.bind(kind);
        there()
    };
    let found = Uevents::subscribe().wait(deadline, look);
    let seconds = DEVICE_TIMEOUT.as_secs();
    found.map(drop).ok_or_else(|| format!("{name} did not appear within {seconds} s"))
}
