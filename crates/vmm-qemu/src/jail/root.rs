//! The VM's private file tree: system libraries, its kernel, and no data of the host
//! or of any machine.

use crate::jail::spec::{Attempt, Problem, Spec};
use camino::{Utf8Path, Utf8PathBuf};
use rustix::mount::{MountFlags, MountPropagationFlags, UnmountFlags};
use rustix::thread::UnshareFlags;
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};

/// The files of the host that QEMU needs: itself, its libraries and firmware.
const SYSTEM: [&str; 7] = ["usr", "bin", "sbin", "lib", "lib32", "lib64", "libx32"];

/// Enters new namespaces and makes the private root the only file tree there
/// is. Returns the group that may use `/dev/kvm`, if that is shown and its
/// group is what opens it.
pub(super) fn enter(boot_dir: &Utf8Path, spec: &Spec) -> Result<Option<u32>, Problem> {
    let spaces =
        UnshareFlags::NEWNS | UnshareFlags::NEWNET | UnshareFlags::NEWIPC | UnshareFlags::NEWUTS;
    // SAFETY: the descriptor table is not unshared, and there is one thread.
    unsafe { rustix::thread::unshare_unsafe(spaces) }.attempt("enter new namespaces")?;
    let private = MountPropagationFlags::PRIVATE | MountPropagationFlags::REC;
    rustix::mount::mount_change("/", private).attempt("make mounts private")?;
    let root = boot_dir.join("root");
    fs::create_dir(&root).attempt("make the root directory")?;
    let flags = MountFlags::NOSUID | MountFlags::NODEV;
    rustix::mount::mount(
        "tmpfs",
        root.as_str(),
        "tmpfs",
        flags,
        c"size=1m,nr_inodes=512,mode=0755",
    )
    .attempt("mount the private root")?;
    show_system(&root, &spec.program)?;
    for (host, inside) in &spec.files {
        bind(
            host,
            &inner(&root, inside),
            MountFlags::NOEXEC | MountFlags::NODEV | MountFlags::RDONLY,
        )?;
    }
    show_itself(&root)?;
    let kvm_group = show_devices(&root, spec.kvm)?;
    switch(&root)?;
    Ok(kvm_group)
}

fn show_system(root: &Utf8Path, program: &Utf8Path) -> Result<(), Problem> {
    let flags = MountFlags::NODEV | MountFlags::RDONLY;
    for name in SYSTEM {
        let host = Utf8Path::new("/").join(name);
        let Ok(found) = fs::symlink_metadata(&host) else { continue };
        if found.is_symlink() {
            let target = fs::read_link(&host).attempt(format_args!("read {host}"))?;
            symlink(target, root.join(name)).attempt(format_args!("link {host}"))?;
        } else {
            bind(&host, &root.join(name), flags)?;
        }
    }
    let cache = Utf8Path::new("/etc/ld.so.cache");
    if cache.exists() {
        bind(cache, &inner(root, cache), flags | MountFlags::NOEXEC)?;
    }
    if !inner(root, program).exists() {
        bind(program, &inner(root, program), flags)?;
    }
    Ok(())
}

/// `/proc` of the VM's own namespace, in which there is one process, and nothing
/// of it but that: QEMU takes its memory by a name, and a descriptor's is there.
fn show_itself(root: &Utf8Path) -> Result<(), Problem> {
    let target = root.join("proc");
    fs::create_dir(&target).attempt("make /proc")?;
    let flags = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC | MountFlags::RDONLY;
    rustix::mount::mount("proc", target.as_str(), "proc", flags, c"subset=pid")
        .attempt("mount /proc of the VM alone (Linux 5.8 or later)")
}

fn show_devices(root: &Utf8Path, kvm: bool) -> Result<Option<u32>, Problem> {
    let names = ["null", "zero", "urandom"].into_iter().chain(kvm.then_some("kvm"));
    for name in names {
        let host = Utf8Path::new("/dev").join(name);
        bind(&host, &inner(root, &host), MountFlags::NOEXEC)?;
    }
    if !kvm {
        return Ok(None);
    }
    let found = fs::metadata("/dev/kvm").attempt("look at /dev/kvm")?;
    let open_to_all = found.permissions().mode() & 0o006 == 0o006;
    Ok((!open_to_all).then_some(found.gid()))
}

/// Shows a file or directory of the host at `target`, without set-user-id.
fn bind(host: &Utf8Path, target: &Utf8Path, flags: MountFlags) -> Result<(), Problem> {
    let found = fs::metadata(host).attempt(format_args!("look at {host}"))?;
    if found.is_dir() {
        fs::create_dir_all(target).attempt(format_args!("make {target}"))?;
    } else {
        let parent = target.parent().unwrap_or(target);
        fs::create_dir_all(parent).attempt(format_args!("make {parent}"))?;
        fs::File::create(target).attempt(format_args!("make {target}"))?;
    }
    rustix::mount::mount_bind(host.as_str(), target.as_str())
        .attempt(format_args!("show {host}"))?;
    let flags = flags | MountFlags::BIND | MountFlags::NOSUID;
    rustix::mount::mount_remount(target.as_str(), flags, "").attempt(format_args!("protect {host}"))
}

/// Makes `root` the root and unmounts the old one; then nothing in it can be
/// changed any more.
fn switch(root: &Utf8Path) -> Result<(), Problem> {
    rustix::process::chdir(root.as_str()).attempt("enter the private root")?;
    // Both the same: the old root ends up on top of the new one, and is
    // unmounted from there; see pivot_root(2).
    rustix::process::pivot_root(".", ".").attempt("switch to the private root")?;
    rustix::mount::unmount(".", UnmountFlags::DETACH).attempt("let go of the host's root")?;
    rustix::process::chdir("/").attempt("enter the private root")?;
    let flags = MountFlags::RDONLY | MountFlags::NOSUID | MountFlags::NODEV;
    rustix::mount::mount_remount("/", flags, "").attempt("protect the private root")
}

/// `path` of the inside as seen before the switch.
fn inner(root: &Utf8Path, path: &Utf8Path) -> Utf8PathBuf {
    root.join(path.as_str().trim_start_matches('/'))
}
