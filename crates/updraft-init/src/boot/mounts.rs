//! The root file system, and the kernel file systems that processes expect in it.

use guest_protocol::Device;
use rustix::fs::{CWD, Mode, OFlags};
use rustix::io::Errno;
use rustix::mount::{MountFlags, MoveMountFlags};
use std::ffi::CString;
use std::os::fd::OwnedFd;

/// Where the image is mounted.
pub(crate) const LOWER: &str = "/lower";
/// Where the scratch disk is mounted.
pub(crate) const SCRATCH: &str = "/scratch";
const ROOT: &str = "/newroot";
/// The upper layer of the overlay: what the machine has written.
pub(crate) const UPPER: &str = "/scratch/upper";

/// Mounts image and scratch disk, the layers of the root.
pub(crate) fn mount_layers(image: &Device, scratch: &Device) -> Result<(), String> {
    mount_device(image, LOWER, MountFlags::RDONLY)?;
    if scratch.path.is_empty() {
        let tmpfs = Device { path: "tmpfs".into(), fstype: "tmpfs".into() };
        mount_device(&tmpfs, SCRATCH, MountFlags::empty())?;
    } else {
        mount_device(scratch, SCRATCH, MountFlags::NOATIME)?;
    }
    for dir in ["upper", "work"] {
        let path = format!("{SCRATCH}/{dir}");
        if let Err(err) = std::fs::create_dir(&path)
            && err.kind() != std::io::ErrorKind::AlreadyExists
        {
            return Err(format!("cannot make {path} on the scratch disk: {err}"));
        }
    }
    Ok(())
}

/// Mounts the overlay of both layers and makes it the root, with `trees` in it.
/// Returns the scratch disk's directory, which has no name in the new root.
pub(crate) fn enter_root(trees: Trees, log: &mut dyn FnMut(String)) -> Result<OwnedFd, String> {
    let options = c"lowerdir=/lower,upperdir=/scratch/upper,workdir=/scratch/work";
    rustix::mount::mount("overlay", ROOT, "overlay", MountFlags::empty(), options)
        .map_err(|err| format!("cannot mount the overlay root: {err}"))?;
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let scratch = rustix::fs::open(SCRATCH, flags, Mode::empty())
        .map_err(|err| format!("cannot open the scratch disk: {err}"))?;
    let switch = || {
        rustix::process::chdir(ROOT)?;
        rustix::mount::mount_move(".", "/")?;
        rustix::process::chroot(".")?;
        rustix::process::chdir("/")
    };
    switch().map_err(|err| format!("cannot switch to the root file system: {err}"))?;
    trees.into_root(log);
    make_tmp();
    Ok(scratch)
}

/// Makes `/tmp` of an image that has none.
pub(crate) fn make_tmp() {
    if std::fs::create_dir("/tmp").is_ok() {
        let _ = rustix::fs::chmod("/tmp", Mode::from_raw_mode(0o1777));
    }
}

/// Mounts a block device or, by the name of its file system, a file system without one.
pub(crate) fn mount_device(device: &Device, target: &str, flags: MountFlags) -> Result<(), String> {
    let Device { path, fstype } = device;
    rustix::mount::mount(path.as_str(), target, fstype.as_str(), flags, None)
        .map_err(|err| format!("cannot mount {path} ({fstype}) at {target}: {err}"))
}

/// A kernel file system and its mount point.
struct Kernel {
    fstype: &'static str,
    target: &'static str,
    options: &'static str,
    flags: MountFlags,
    /// A failure is a warning; a kernel may lack the others.
    needed: bool,
}

const NOSUID: MountFlags = MountFlags::NOSUID;
const NOEXEC: MountFlags = NOSUID.union(MountFlags::NOEXEC);
const PLAIN: MountFlags = NOEXEC.union(MountFlags::NODEV);

const fn kernel(fstype: &'static str, target: &'static str, options: &'static str) -> Kernel {
    Kernel { fstype, target, options, flags: PLAIN, needed: true }
}

/// Directory of the socket of the Machines API, on a file system of its own: mounted
/// before there is a root, it exists independent of the image.
pub(crate) const FLY: &str = "/.fly";

const KERNEL: [Kernel; 11] = [
    kernel("proc", "/proc", ""),
    kernel("sysfs", "/sys", ""),
    Kernel { flags: NOSUID, ..kernel("devtmpfs", "/dev", "mode=0755") },
    Kernel { flags: NOEXEC, ..kernel("devpts", "/dev/pts", "gid=5,mode=0620,ptmxmode=0666") },
    kernel("tmpfs", "/dev/shm", "mode=1777"),
    Kernel { needed: false, ..kernel("mqueue", "/dev/mqueue", "") },
    Kernel { needed: false, ..kernel("hugetlbfs", "/dev/hugepages", "mode=1777") },
    Kernel { flags: NOSUID.union(MountFlags::NODEV), ..kernel("tmpfs", "/run", "mode=0755") },
    kernel("tmpfs", FLY, "mode=0755,size=64k"),
    Kernel { needed: false, ..kernel("cgroup2", "/sys/fs/cgroup", "") },
    Kernel { needed: false, ..kernel("binfmt_misc", "/proc/sys/fs/binfmt_misc", "") },
];

/// How many of them drivers need: the first ones.
const FIRST: usize = 3;

/// Mounts what drivers need; returns warnings.
pub(crate) fn mount_first() -> Vec<String> {
    mount_all(&KERNEL[..FIRST])
}

/// Mounts the rest, to be moved into the root later; returns warnings.
pub(crate) fn mount_rest() -> Vec<String> {
    let warnings = mount_all(&KERNEL[FIRST..]);
    device_links();
    for dir in [LOWER, SCRATCH, ROOT] {
        let _ = std::fs::create_dir(dir);
    }
    warnings
}

fn mount_all(mounts: &[Kernel]) -> Vec<String> {
    let mut warnings = Vec::new();
    for Kernel { fstype, target, options, flags, needed } in mounts {
        let _ = std::fs::create_dir_all(target);
        let options = CString::new(*options).unwrap_or_default();
        let done = rustix::mount::mount(*fstype, *target, *fstype, *flags, options.as_c_str());
        if let Err(err) = done
            && *needed
        {
            warnings.push(format!("cannot mount {fstype} at {target}: {err}"));
        }
    }
    warnings
}

/// The trees of kernel file systems that are moved into the root, each held by a
/// descriptor: within the new root they have no name.
pub(crate) struct Trees(Vec<(&'static str, OwnedFd)>);

impl Trees {
    /// Opens the trees that are mounted. A missing one has caused a warning.
    pub(crate) fn open() -> Self {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let open = |at| Some((at, rustix::fs::open(at, flags, Mode::empty()).ok()?));
        Self(["/proc", "/sys", "/dev", "/run", FLY].into_iter().filter_map(open).collect())
    }

    /// Moves them to their places in the current root.
    fn into_root(self, log: &mut dyn FnMut(String)) {
        for (at, tree) in self.0 {
            let moved = match move_to(&tree, at) {
                Err(Errno::NOENT) => {
                    let _ = std::fs::create_dir(at);
                    move_to(&tree, at)
                }
                moved => moved,
            };
            if let Err(err) = moved {
                log(format!("cannot mount {at}: {err}"));
            }
        }
    }
}

fn move_to(tree: &OwnedFd, at: &str) -> rustix::io::Result<()> {
    let mut flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH;
    // An image may have a link in place of `/run`, but has no reason for one here.
    if at != FLY {
        flags |= MoveMountFlags::MOVE_MOUNT_T_SYMLINKS;
    }
    rustix::mount::move_mount(tree, "", CWD, at, flags)
}

/// Makes the links in `/dev` that devtmpfs does not have.
fn device_links() {
    use std::os::unix::fs::symlink;
    let links = [("fd", ""), ("stdin", "/0"), ("stdout", "/1"), ("stderr", "/2")];
    for (name, rest) in links {
        let _ = symlink(format!("/proc/self/fd{rest}"), format!("/dev/{name}"));
    }
    let _ = symlink("/proc/kcore", "/dev/core");
    // As udev's default rules: what these devices allow depends on the user anyway.
    for device in ["/dev/fuse", "/dev/net/tun"] {
        let _ = rustix::fs::chmod(device, Mode::from_raw_mode(0o666));
    }
}
