//! The root file system, and what a process expects to find mounted in it.

use rustix::fs::{Mode, OFlags};
use rustix::mount::MountFlags;
use std::ffi::CString;
use std::os::fd::OwnedFd;
use wire::guest::Device;

const LOWER: &str = "/lower";
const SCRATCH: &str = "/scratch";
const ROOT: &str = "/newroot";

/// Mounts image and scratch disk, the overlay of both, and makes it the root.
/// Returns the scratch disk's directory, which nobody can reach by name then.
pub(crate) fn enter_root(image: &Device, scratch: &Device) -> Result<OwnedFd, String> {
    for dir in [LOWER, SCRATCH, ROOT] {
        let _ = std::fs::create_dir(dir);
    }
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
    let options = c"lowerdir=/lower,upperdir=/scratch/upper,workdir=/scratch/work";
    rustix::mount::mount("overlay", ROOT, "overlay", MountFlags::empty(), options)
        .map_err(|err| format!("cannot mount the overlay root: {err}"))?;
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let scratch = rustix::fs::open(SCRATCH, flags, Mode::empty())
        .map_err(|err| format!("cannot open the scratch disk: {err}"))?;
    crate::modules::forget();
    let switch = || {
        rustix::process::chdir(ROOT)?;
        rustix::mount::mount_move(".", "/")?;
        rustix::process::chroot(".")?;
        rustix::process::chdir("/")
    };
    switch().map_err(|err| format!("cannot switch to the root file system: {err}"))?;
    Ok(scratch)
}

fn mount_device(device: &Device, target: &str, flags: MountFlags) -> Result<(), String> {
    let Device { path, fstype } = device;
    rustix::mount::mount(path.as_str(), target, fstype.as_str(), flags, None)
        .map_err(|err| format!("cannot mount {path} ({fstype}) at {target}: {err}"))
}

/// A kernel file system and where it belongs (E011).
struct Kernel {
    fstype: &'static str,
    target: &'static str,
    options: &'static str,
    flags: MountFlags,
    /// Missing is worth a line; the others may be unknown to a kernel.
    needed: bool,
}

const NOSUID: MountFlags = MountFlags::NOSUID;
const NOEXEC: MountFlags = NOSUID.union(MountFlags::NOEXEC);
const PLAIN: MountFlags = NOEXEC.union(MountFlags::NODEV);

const fn kernel(fstype: &'static str, target: &'static str, options: &'static str) -> Kernel {
    Kernel { fstype, target, options, flags: PLAIN, needed: true }
}

const KERNEL: [Kernel; 10] = [
    kernel("proc", "/proc", ""),
    kernel("sysfs", "/sys", ""),
    Kernel { flags: NOSUID, ..kernel("devtmpfs", "/dev", "mode=0755") },
    Kernel { flags: NOEXEC, ..kernel("devpts", "/dev/pts", "gid=5,mode=0620,ptmxmode=0666") },
    kernel("tmpfs", "/dev/shm", "mode=1777"),
    Kernel { needed: false, ..kernel("mqueue", "/dev/mqueue", "") },
    Kernel { needed: false, ..kernel("hugetlbfs", "/dev/hugepages", "mode=1777") },
    Kernel { flags: NOSUID.union(MountFlags::NODEV), ..kernel("tmpfs", "/run", "mode=0755") },
    Kernel { needed: false, ..kernel("cgroup2", "/sys/fs/cgroup", "") },
    Kernel { needed: false, ..kernel("binfmt_misc", "/proc/sys/fs/binfmt_misc", "") },
];

/// Mounts the kernel's file systems in the new root, and says what is missing.
pub(crate) fn mount_kernel() -> Vec<String> {
    let mut complaints = Vec::new();
    for mount in &KERNEL {
        let _ = std::fs::create_dir_all(mount.target);
        let options = CString::new(mount.options).unwrap_or_default();
        let done = rustix::mount::mount(
            mount.fstype,
            mount.target,
            mount.fstype,
            mount.flags,
            options.as_c_str(),
        );
        if let Err(err) = done
            && mount.needed
        {
            complaints.push(format!("cannot mount {} at {}: {err}", mount.fstype, mount.target));
        }
    }
    device_links();
    if std::fs::create_dir("/tmp").is_ok() {
        let _ = rustix::fs::chmod("/tmp", Mode::from_raw_mode(0o1777));
    }
    complaints
}

/// Names that every Unix has and devtmpfs has not.
fn device_links() {
    use std::os::unix::fs::symlink;
    let links = [("fd", ""), ("stdin", "/0"), ("stdout", "/1"), ("stderr", "/2")];
    for (name, rest) in links {
        let _ = symlink(format!("/proc/self/fd{rest}"), format!("/dev/{name}"));
    }
    let _ = symlink("/proc/kcore", "/dev/core");
}
