//! Volumes: disks that outlive the machine.
//!
//! Each is mounted before anything of the app runs. One that cannot be mounted fails the
//! configuration: an app without its volume would write to a disk that is not kept.

use super::mounts::mount_device;
use crate::process::users;
use guest_protocol::{Device, GuestConfig, VolumeMount};
use rustix::fs::{Mode, OFlags};
use rustix::mount::{MountFlags, UnmountFlags};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::{PermissionsExt, lchown, symlink};
use std::path::Path;

/// `EXT4_IOC_RESIZE_FS` of the kernel's `fs/ext4/ext4.h`: `_IOW('f', 16, __u64)`.
const EXT4_IOC_RESIZE_FS: u64 = 0x4008_6610;

/// A volume without a file system.
const RAW: &str = "raw";

/// The devices of the volumes of a configuration.
pub(crate) fn devices(config: &GuestConfig) -> impl Iterator<Item = &Device> {
    config.mounts.iter().flatten().map(|mount| &mount.device)
}

/// Mounts all volumes, parents before their children. The root must be entered.
pub(crate) fn mount_all(config: &GuestConfig, log: &mut dyn FnMut(String)) -> Result<(), String> {
    let mut mounts: Vec<&VolumeMount> = config.mounts.iter().flatten().collect();
    if mounts.is_empty() {
        return Ok(());
    }
    // The path of a parent is shorter.
    mounts.sort_by_key(|mount| mount.path.len());
    let owner = users::lookup(&config.main.user)?;
    for VolumeMount { device, path } in mounts {
        if device.fstype == RAW {
            link(device, path)?;
            log(format!("Linking {path} to the volume {}", device.path));
            continue;
        }
        log(format!(
            "Mounting {} at {path} w/ uid: {}, gid: {} and chmod 0755",
            device.path, owner.uid, owner.gid
        ));
        std::fs::create_dir_all(path)
            .map_err(|err| format!("cannot make the mount point {path}: {err}"))?;
        mount_device(device, path, MountFlags::empty())?;
        let owned = lchown(path, Some(owner.uid), Some(owner.gid))
            .and_then(|()| std::fs::set_permissions(path, PermissionsExt::from_mode(0o755)));
        // A volume that is full, or damaged so that it is read-only, has its data all the same.
        if let Err(err) = owned {
            log(format!("cannot change owner and mode of {path}: {err}"));
        }
        if let Err(error) = grow(&device.path, path) {
            log(format!("cannot grow the file system at {path}: {error}"));
        }
    }
    Ok(())
}

/// Makes `path` a link to the device. One of an earlier boot is replaced.
fn link(device: &Device, path: &str) -> Result<(), String> {
    let make = || {
        if let Some(parent) = Path::new(path).parent() {
            std::fs::create_dir_all(parent)?;
        }
        if std::fs::symlink_metadata(path).is_ok_and(|found| found.is_symlink()) {
            std::fs::remove_file(path)?;
        }
        symlink(&device.path, path)
    };
    make().map_err(|err| format!("cannot link {path} to {}: {err}", device.path))
}

/// Grows the file system to the size of its device. One that has it already stays as it is.
fn grow(device: &str, path: &str) -> Result<(), String> {
    let open = |path: &str, flags: OFlags| -> Result<OwnedFd, String> {
        rustix::fs::open(path, OFlags::RDONLY | OFlags::CLOEXEC | flags, Mode::empty())
            .map_err(|err| format!("open {path}: {err}"))
    };
    let bytes = rustix::fs::seek(open(device, OFlags::empty())?, rustix::fs::SeekFrom::End(0))
        .map_err(|err| format!("measure {device}: {err}"))?;
    let mounted = open(path, OFlags::DIRECTORY)?;
    let stat = rustix::fs::fstatvfs(&mounted).map_err(|err| format!("measure {path}: {err}"))?;
    let blocks: u64 = bytes / stat.f_bsize.max(1);
    // SAFETY: the call reads one number of 64 bits.
    let done = unsafe {
        libc::ioctl(mounted.as_raw_fd(), EXT4_IOC_RESIZE_FS as _, std::ptr::from_ref(&blocks))
    };
    match done {
        0 => Ok(()),
        _ => Err(std::io::Error::last_os_error().to_string()),
    }
}

/// Unmounts the volumes, so that their journals need no replay. Nothing else runs any more.
pub(crate) fn unmount_all() {
    let mounts = std::fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    // The last first: a child before its parent.
    for line in mounts.lines().rev() {
        let mut words = line.split(' ');
        let (Some(device), Some(at), Some("ext4")) = (words.next(), words.next(), words.next())
        else {
            continue;
        };
        if device.starts_with("/dev/vd") {
            let _ = rustix::mount::unmount(unescaped(at), UnmountFlags::empty());
        }
    }
}

/// A path as `/proc/self/mounts` has it: blanks and backslashes are octal numbers
/// (fstab(5)).
fn unescaped(text: &str) -> String {
    let codes = [("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")];
    codes.into_iter().fold(text.to_owned(), |text, (code, plain)| text.replace(code, plain))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_raw_volume_is_a_link_that_each_boot_makes_again() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a/disk");
        let path = path.to_str().unwrap();
        for device in ["/dev/vdc", "/dev/vdd"] {
            let device = Device { path: device.into(), fstype: RAW.into() };
            link(&device, path).unwrap();
            assert_eq!(std::fs::read_link(path).unwrap(), Path::new(&device.path));
        }
        std::fs::remove_file(path).unwrap();
        std::fs::write(path, "the app's own").unwrap();
        let device = Device { path: "/dev/vdc".into(), fstype: RAW.into() };
        assert!(link(&device, path).unwrap_err().contains("cannot link"));
        assert_eq!(unescaped("/a\\040b"), "/a b");
    }
}
