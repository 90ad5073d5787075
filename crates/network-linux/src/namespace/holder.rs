//! A network namespace that outlives the daemon.
//!
//! It is a bind mount of the namespace's file, as `ip netns add` makes it, so
//! `ip netns exec updraft-<tag> …` works, and the next daemon finds it again.

use camino::{Utf8Path, Utf8PathBuf};
use rustix::mount::{MountPropagationFlags, UnmountFlags, mount_bind, mount_bind_recursive};
use rustix::mount::{mount_change, unmount};
use rustix::thread::{LinkNameSpaceType, UnshareFlags, move_into_link_name_space, unshare_unsafe};
use std::fs::{self, File};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use worker::ports::PortError;

/// Magic number of the file system of namespaces (`NSFS_MAGIC`).
const NSFS: i64 = 0x6e73_6673;
/// Where `ip netns` keeps its namespaces.
const SHARED_DIR: &str = "/run/netns";
const OWN_NAMESPACE: &str = "/proc/thread-self/ns/net";

/// The platform's namespace and the one of the daemon.
#[derive(Debug)]
pub(crate) struct Namespace {
    inside: OwnedFd,
    /// The daemon's own, to return to.
    outside: OwnedFd,
}

impl Namespace {
    /// Opens the namespace that is mounted at `path`; `None` if there is none.
    pub(crate) fn open(path: &Utf8Path) -> Result<Option<Self>, PortError> {
        let attempted = || format!("open the network namespace {path}");
        let failed = |err: io::Error| PortError::new(attempted(), err);
        let inside = match File::open(path) {
            Ok(file) => OwnedFd::from(file),
            Err(err) if err.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(err) => return Err(failed(err)),
        };
        let kind = rustix::fs::fstatfs(&inside).map_err(|err| failed(err.into()))?;
        // A file without the mount: a crash came in between, or a reboot.
        if kind.f_type as i64 != NSFS {
            return Ok(None);
        }
        let outside = File::open(OWN_NAMESPACE).map_err(failed)?.into();
        Ok(Some(Self { inside, outside }))
    }

    /// Opens the namespace at `path`; creates it if it does not exist.
    pub(crate) fn open_or_create(path: &Utf8Path) -> Result<Self, PortError> {
        if let Some(namespace) = Self::open(path)? {
            return Ok(namespace);
        }
        let attempted = || format!("create the network namespace {path} (run as root)");
        create(path).map_err(|err| PortError::new(attempted(), err))?;
        let opened = Self::open(path)?;
        opened.ok_or_else(|| PortError::plain(format!("{}: it was removed", attempted())))
    }

    /// Unmounts the namespace at `path`, if there is one. It ends with the last
    /// interface, socket and thread in it.
    pub(crate) fn remove(path: &Utf8Path) -> Result<(), PortError> {
        let attempted = || format!("remove the network namespace {path}");
        match unmount(path.as_str(), UnmountFlags::DETACH) {
            Ok(()) | Err(rustix::io::Errno::INVAL | rustix::io::Errno::NOENT) => {}
            Err(err) => return Err(PortError::new(attempted(), io::Error::from(err))),
        }
        match fs::remove_file(path) {
            Err(err) if err.kind() != io::ErrorKind::NotFound => {
                Err(PortError::new(attempted(), err))
            }
            _ => Ok(()),
        }
    }

    /// Runs blocking work with the calling thread in the namespace.
    pub(crate) fn run<T>(&self, work: impl FnOnce() -> T) -> Result<T, PortError> {
        let entered = move_into_link_name_space(self.inside.as_fd(), NETWORK);
        entered.map_err(|err| {
            PortError::new("enter the platform's network namespace", io::Error::from(err))
        })?;
        let _return = Return(self.outside.as_fd());
        Ok(work())
    }

    /// Moves the calling thread into the namespace for good.
    pub(crate) fn enter(&self) -> io::Result<()> {
        Ok(move_into_link_name_space(self.inside.as_fd(), NETWORK)?)
    }
}

impl AsFd for Namespace {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.inside.as_fd()
    }
}

const NETWORK: Option<LinkNameSpaceType> = Some(LinkNameSpaceType::Network);

/// Returns the thread to the daemon's namespace, also after a panic.
struct Return<'a>(BorrowedFd<'a>);

impl Drop for Return<'_> {
    fn drop(&mut self) {
        if let Err(err) = move_into_link_name_space(self.0, NETWORK) {
            // The thread's next user would open its sockets to clients, peers and
            // the store among the guests.
            tracing::error!(%err, "a thread cannot leave the platform's network namespace");
            std::process::abort();
        }
    }
}

fn create(path: &Utf8Path) -> io::Result<()> {
    let dir = path.parent().unwrap_or(Utf8Path::new("/"));
    fs::create_dir_all(dir)?;
    if dir == SHARED_DIR {
        share(dir)?;
    }
    File::options().write(true).create(true).truncate(false).open(path)?;
    let path: Utf8PathBuf = path.to_owned();
    let made = std::thread::Builder::new().name("make-netns".into()).spawn(move || {
        // SAFETY: only this thread moves; it shares no file descriptors or memory
        // mappings that depend on its network namespace, and ends at once.
        unsafe { unshare_unsafe(UnshareFlags::NEWNET) }?;
        mount_bind(OWN_NAMESPACE, path.as_str())
    })?;
    made.join().map_err(|_| io::Error::other("the thread panicked"))??;
    Ok(())
}

/// Makes the directory a shared mount, as `ip netns add` does: namespaces are
/// then seen in all mount namespaces of the host.
fn share(dir: &Utf8Path) -> io::Result<()> {
    let shared = MountPropagationFlags::SHARED | MountPropagationFlags::REC;
    if mount_change(dir.as_str(), shared).is_ok() {
        return Ok(());
    }
    mount_bind_recursive(dir.as_str(), dir.as_str())?;
    Ok(mount_change(dir.as_str(), shared)?)
}
