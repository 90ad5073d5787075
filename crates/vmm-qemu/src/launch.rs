//! The daemon's side of a start: makes what the launcher will hold and starts it.

use crate::args::{self, Begin, Machine};
use crate::bootdir::{AGENT, BootDir, QMP};
use crate::config::{Accelerator, QemuConfig};
use crate::jail::{self, Fd};
use crate::memory;
use crate::process;
use crate::snapshot::Opened;
use crate::template::Template;
use camino::Utf8Path;
use rustix::fs::{MemfdFlags, Mode, OFlags, SealFlags};
use rustix::net::sockopt::{Timeout, set_socket_timeout};
use rustix::net::{AddressFamily, RecvFlags, SocketFlags, SocketType};
use rustix::thread::UnshareFlags;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::process::{Command, Stdio};
use std::sync::Arc;
use worker::ports::{BootSpec, PortError};

/// Bytes of messages of the VM's process that are kept.
const LOG_BYTES: u64 = 64 * 1024;

/// A process that is on its way to be QEMU.
#[derive(Debug)]
pub(crate) struct Launched {
    pub(crate) pid: u32,
    pub(crate) handle: OwnedFd,
    pub(crate) log: Log,
}

/// What a VM's process says on standard output and error: a file in memory that
/// cannot grow, so no flood fills the host's disk, and a daemon that comes later
/// reaches it through the process.
#[derive(Debug)]
pub(crate) struct Log(File);

impl Log {
    fn new() -> io::Result<Self> {
        let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
        let file = File::from(rustix::fs::memfd_create("vm-log", flags)?);
        file.set_len(LOG_BYTES)?;
        let seals = SealFlags::GROW | SealFlags::SHRINK | SealFlags::SEAL;
        rustix::fs::fcntl_add_seals(&file, seals)?;
        Ok(Self(file))
    }

    /// That of a running process.
    pub(crate) fn of(pid: u32) -> io::Result<Self> {
        // The process may have been taken over and put anything there: opening
        // must not wait, and only a file can be read at an offset.
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
        let file = rustix::fs::open(format!("/proc/{pid}/fd/2"), flags, Mode::empty())?;
        let file = File::from(file);
        let regular = file.metadata()?.is_file();
        regular.then_some(Self(file)).ok_or_else(|| io::Error::other("the log is no file any more"))
    }

    /// What has been said.
    pub(crate) fn text(&self) -> String {
        let mut bytes = vec![0; LOG_BYTES as usize];
        let read = self.0.read_at(&mut bytes, 0).unwrap_or(0);
        let said = bytes[..read].split(|b| *b == 0).next().unwrap_or_default();
        String::from_utf8_lossy(said).into_owned()
    }
}

/// What a VM begins with.
#[derive(Debug)]
pub(crate) enum Source {
    /// The kernel, in fresh memory.
    Kernel,
    /// A template that others begin from as well.
    Template(Arc<Template>),
    /// Its own snapshot; it is to stand still once it is loaded.
    Snapshot(Opened),
}

/// The files of a [`Source`], and how they are used.
struct Begun {
    begin: Begin,
    ram: File,
    state: Option<File>,
    own_memory: bool,
}

impl Source {
    fn begin(&self, spec: &BootSpec) -> io::Result<Begun> {
        Ok(match self {
            Self::Kernel => {
                let cpuinfo = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
                let (args, tsc_khz) = (spec.kernel_args.clone(), args::tsc_khz(&cpuinfo));
                Begun {
                    begin: Begin::Kernel { args, tsc_khz },
                    ram: memory::fresh(spec.memory_mib)?,
                    state: None,
                    own_memory: true,
                }
            }
            Self::Template(template) => Begun {
                begin: Begin::Saved,
                ram: template.ram()?,
                state: Some(template.state()?),
                own_memory: false,
            },
            Self::Snapshot(Opened { ram, state }) => Begun {
                begin: Begin::Saved,
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
    source: &Source,
) -> Result<(Launched, File), PortError> {
    let failed =
        |what: &str, err: io::Error| PortError::new(format!("{what} of {}", dir.name()), err);
    let Begun { begin, ram, state, own_memory } =
        source.begin(spec).map_err(|err| failed("make the memory", err))?;
    let root = open(&spec.root, OFlags::RDONLY)?;
    let scratch = open(&spec.scratch, OFlags::RDWR)?;
    let file_size =
        rustix::fs::fstat(&scratch).map_err(|err| failed("measure scratch disk", err.into()))?;
    let agent = dir.listen(AGENT).map_err(|err| failed("make agent socket", err))?;
    let qmp = dir.listen(QMP).map_err(|err| failed("make monitor socket", err))?;
    let boots = matches!(begin, Begin::Kernel { .. });
    let machine = Machine {
        name: dir.name(),
        accelerator: config.accelerator,
        vcpus: spec.vcpus,
        memory_mib: spec.memory_mib,
        mac: spec.nic.as_ref().map(|nic| nic.mac),
        begin,
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
    let (numbers, fds): (Vec<_>, Vec<_>) =
        always.into_iter().chain(optional.into_iter().flatten()).unzip();
    let kernel = [
        (config.guest.vmlinuz.clone(), jail::VMLINUZ.into()),
        (config.guest.initramfs.clone(), jail::INITRAMFS.into()),
    ];
    let message = jail::Spec {
        program: config.qemu.clone(),
        args: args::qemu(&machine)?,
        // A guest that was restored has its kernel in memory.
        files: if boots { kernel.into() } else { Vec::new() },
        kvm: config.accelerator == Accelerator::Kvm,
        uid_base: config.jail.uid_base,
        uid_count: config.jail.uid_count,
        // The log has to fit as well.
        file_size: u64::try_from(file_size.st_size).unwrap_or(0).max(LOG_BYTES),
        threads: u64::from(threads(spec.vcpus)),
        fds: numbers,
        own_memory,
    };
    let launched = start(config, dir, &message, &fds)
        .map_err(|err| failed(&format!("start launcher {}", config.jail.launcher), err))?;
    Ok((launched, ram))
}

/// Most threads of a VM: its vCPUs, and those QEMU does disk I/O with.
pub(crate) fn threads(vcpus: u32) -> u32 {
    vcpus + 72
}

fn start(
    config: &QemuConfig,
    dir: &BootDir,
    message: &jail::Spec,
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
        .stdout(Stdio::from(log.0.try_clone()?))
        .stderr(Stdio::from(log.0.try_clone()?));
    set_socket_timeout(&ours, Timeout::Recv, Some(config.start_deadline))?;
    let child = spawn_apart(command, &ours)?;
    // Our child stays at least a zombie until it is reaped by handle, so the
    // number is still its own.
    let handle = process::open(child)?;
    Ok(Launched { pid: child, handle, log })
}

/// Starts the launcher as the first process of a namespace of its own: it sees
/// no other process, and whatever it may start ends with it.
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

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    #[test]
    fn a_log_keeps_the_beginning_and_never_grows() {
        let log = Log::new().unwrap();
        let mut writer = log.0.try_clone().unwrap();
        writer.write_all(b"first\n").unwrap();
        assert_eq!(log.text(), "first\n");
        assert!(writer.write_all(&vec![b'x'; LOG_BYTES as usize]).is_err());
        assert_eq!(log.0.metadata().unwrap().len(), LOG_BYTES);
        assert!(log.text().starts_with("first\nxxx"));
    }
}
