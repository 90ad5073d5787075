//! The daemon's side of a start: makes what the launcher will hold and starts it.

use crate::config::{Accelerator, QemuConfig};
use crate::jail::spec::Fd;
use crate::jail::{self, spec};
use crate::launch::command_line::{self, Machine, StartFrom};
use crate::memory;
use crate::process::boot_dir::{AGENT, BootDir, QMP};
use crate::process::log::{LOG_BYTES, Log};
use crate::process::pidfd;
use crate::snapshot::Opened;
use crate::template::store::Template;
use camino::Utf8Path;
use model::volume::MAX_MOUNTS;
use rustix::fs::{Mode, OFlags};
use rustix::net::sockopt::{Timeout, set_socket_timeout};
use rustix::net::{AddressFamily, RecvFlags, SocketFlags, SocketType};
use rustix::thread::UnshareFlags;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::process::{Command, Stdio};
use std::sync::Arc;
use worker::ports::{BootSpec, MAX_IMAGES, PortError};

/// A launcher process that will become QEMU.
#[derive(Debug)]
pub(crate) struct Launched {
    pub(crate) pid: u32,
    pub(crate) handle: OwnedFd,
    pub(crate) log: Log,
}

/// The source that a VM starts from.
#[derive(Debug)]
pub(crate) enum BootSource {
    /// The kernel boots, in fresh memory.
    Kernel,
    /// A template, shared with other VMs.
    Template(Arc<Template>),
    /// Its own snapshot; the VM is paused once it is loaded.
    Snapshot(Opened),
}

/// The files of a [`BootSource`], and how they are used.
struct StartFiles {
    start: StartFrom,
    ram: File,
    state: Option<File>,
    own_memory: bool,
}

impl BootSource {
    fn files(&self, spec: &BootSpec) -> io::Result<StartFiles> {
        Ok(match self {
            Self::Kernel => {
                let cpuinfo = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
                let (args, tsc_khz) = (spec.kernel_args.clone(), command_line::tsc_khz(&cpuinfo));
                StartFiles {
                    start: StartFrom::Kernel { args, tsc_khz },
                    ram: memory::fresh(spec.memory_mib)?,
                    state: None,
                    own_memory: true,
                }
            }
            Self::Template(template) => StartFiles {
                start: StartFrom::Saved,
                ram: template.ram()?,
                state: Some(template.state()?),
                own_memory: false,
            },
            Self::Snapshot(Opened { ram, state }) => StartFiles {
                start: StartFrom::Saved,
                ram: ram.try_clone()?,
                state: Some(state.try_clone()?),
                own_memory: true,
            },
        })
    }
}

/// Starts the launcher for `spec`. Blocks for a moment; to be called off the
/// async threads. Returns the memory of the VM as well.
pub(crate) fn launch(
    config: &QemuConfig,
    dir: &BootDir,
    spec: &BootSpec,
    source: &BootSource,
) -> Result<(Launched, File), PortError> {
    let failed =
        |what: &str, err: io::Error| PortError::new(format!("{what} of {}", dir.name()), err);
    let StartFiles { start, ram, state, own_memory } =
        source.files(spec).map_err(|err| failed("make the memory", err))?;
    let root = open(&spec.root, OFlags::RDONLY)?;
    let scratch = open(&spec.scratch, OFlags::RDWR)?;
    let images = spec.images.iter().take(MAX_IMAGES).map(|image| open(image, OFlags::RDONLY));
    let images = images.collect::<Result<Vec<_>, _>>()?;
    let volumes = spec.volumes.iter().take(MAX_MOUNTS).map(|volume| open(volume, OFlags::RDWR));
    let volumes = volumes.collect::<Result<Vec<_>, _>>()?;
    let file_size = largest(volumes.iter().chain([&scratch]))
        .map_err(|err| failed("measure the disks", err))?;
    let agent = dir.listen(AGENT).map_err(|err| failed("make agent socket", err))?;
    let qmp = dir.listen(QMP).map_err(|err| failed("make monitor socket", err))?;
    let boots = matches!(start, StartFrom::Kernel { .. });
    let machine = Machine {
        name: dir.name(),
        accelerator: config.accelerator,
        cpu_model: config.cpu_model,
        vcpus: spec.vcpus,
        memory_mib: spec.memory_mib,
        mac: spec.nic.as_ref().map(|nic| nic.mac),
        images: images.len() as u8,
        volumes: volumes.len() as u8,
        start,
    };
    let optional = [
        state.as_ref().map(|state| (Fd::State, state.as_fd())),
        spec.nic.as_ref().map(|nic| (Fd::Tap, nic.tap.as_fd())),
    ];
    let always = [
        (Fd::Agent, agent.as_fd()),
        (Fd::Qmp, qmp.as_fd()),
        (Fd::Root, root.as_fd()),
        (Fd::Scratch, scratch.as_fd()),
        (Fd::Ram, ram.as_fd()),
    ];
    let images = (0..).zip(&images).map(|(place, image)| (Fd::Image(place), image.as_fd()));
    let volumes = (0..).zip(&volumes).map(|(place, volume)| (Fd::Volume(place), volume.as_fd()));
    let optional = optional.into_iter().flatten();
    let (numbers, fds): (Vec<_>, Vec<_>) =
        always.into_iter().chain(optional).chain(images).chain(volumes).unzip();
    let kernel = [
        (config.guest.vmlinuz.clone(), spec::VMLINUZ.into()),
        (config.guest.initramfs.clone(), spec::INITRAMFS.into()),
    ];
    let message = spec::Spec {
        program: config.qemu.clone(),
        args: command_line::qemu(&machine)?,
        // A guest that was restored has its kernel in memory.
        files: if boots { kernel.into() } else { Vec::new() },
        kvm: config.accelerator == Accelerator::Kvm,
        uid_base: config.jail.uid_base,
        uid_count: config.jail.uid_count,
        // The log has to fit as well.
        file_size: file_size.max(LOG_BYTES),
        threads: u64::from(threads(spec.vcpus)),
        fds: numbers,
        own_memory,
    };
    let launched = spawn_launcher(config, dir, &message, &fds)
        .map_err(|err| failed(&format!("start launcher {}", config.jail.launcher), err))?;
    Ok((launched, ram))
}

/// Bytes of the largest of these disks.
fn largest<'a>(disks: impl Iterator<Item = &'a OwnedFd>) -> io::Result<u64> {
    disks.into_iter().try_fold(0, |largest, disk| {
        let size = rustix::fs::fstat(disk)?.st_size;
        Ok(u64::try_from(size).unwrap_or(0).max(largest))
    })
}

/// Most threads of a VM: its vCPUs, and those QEMU does disk I/O with.
pub(crate) fn threads(vcpus: u32) -> u32 {
    vcpus + 72
}

fn spawn_launcher(
    config: &QemuConfig,
    dir: &BootDir,
    message: &spec::Spec,
    fds: &[BorrowedFd<'_>],
) -> io::Result<Launched> {
    let log = Log::new()?;
    let (ours, theirs) = rustix::net::socketpair(
        AddressFamily::UNIX,
        SocketType::SEQPACKET,
        SocketFlags::CLOEXEC,
        None,
    )?;
    // Sent before it starts: it never waits for us.
    jail::send(&ours, message, fds)?;
    let mut command = Command::new(&config.jail.launcher);
    command
        .arg(jail::SUBCOMMAND)
        .arg(&dir.path)
        .arg(std::process::id().to_string())
        .env_clear()
        .stdin(Stdio::from(theirs))
        .stdout(log.stdio()?)
        .stderr(log.stdio()?);
    set_socket_timeout(&ours, Timeout::Recv, Some(config.start_deadline))?;
    let child = spawn_apart(command, &ours)?;
    // Our child stays at least a zombie until it is reaped by handle, so the
    // number is still its own.
    let handle = pidfd::open(child)?;
    Ok(Launched { pid: child, handle, log })
}

/// Starts the launcher as the first process of a namespace of its own: it sees
/// no other process, and every process that it may start ends with it.
///
/// The namespace is that of the children of one thread, which no thread can be
/// started from any more; so it is one made for this. It has to live until the
/// launcher is registered and has closed its end of `ours`, for until then the
/// launcher ends with it.
fn spawn_apart(mut command: Command, ours: &OwnedFd) -> io::Result<u32> {
    std::thread::scope(|scope| {
        let starter = std::thread::Builder::new().name("vm-start".into());
        let started = starter.spawn_scoped(scope, move || {
            // SAFETY: the descriptor table is not unshared.
            unsafe { rustix::thread::unshare_unsafe(UnshareFlags::NEWPID) }?;
            let child = command.spawn()?;
            // The copy that the child was given as standard input is all that
            // is left then. One that hangs is found out by the boot's deadline.
            drop(command);
            let mut end = [0_u8];
            let _ = rustix::io::retry_on_intr(|| {
                rustix::net::recv(ours, &mut end[..], RecvFlags::empty())
            });
            Ok(child.id())
        })?;
        let started = started.join();
        started.unwrap_or_else(|_| Err(io::Error::other("the thread that starts VMs panicked")))
    })
}

fn open(path: &Utf8Path, how: OFlags) -> Result<OwnedFd, PortError> {
    rustix::fs::open(path.as_std_path(), how | OFlags::CLOEXEC, Mode::empty())
        .map_err(|err| PortError::new(format!("open disk {path}"), io::Error::from(err)))
}
