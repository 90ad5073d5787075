//! Scratch disks on file systems that are too small, in a mount namespace.

use camino::Utf8Path;
use host_linux::ScratchDisks;
use rustix::thread::{UnshareFlags, unshare_unsafe};
use std::process::Command;

/// Runs `work` where a tmpfs of this size is mounted on `dir`, for it alone.
fn with_tmpfs(dir: &Utf8Path, size: &str, work: impl FnOnce() + Send) {
    let mount = |args: &[&str]| {
        let done = Command::new("mount").args(args).status().expect("run mount");
        assert!(done.success(), "mount {args:?}");
    };
    std::thread::scope(|scope| {
        let thread = scope.spawn(|| {
            // SAFETY: only this thread's view of the file system changes; it
            // ends with the thread, and the mount with it.
            unsafe { unshare_unsafe(UnshareFlags::NEWNS) }.expect("unshare(CLONE_NEWNS)");
            mount(&["--make-rprivate", "/"]);
            mount(&["-t", "tmpfs", "-o", &format!("size={size}"), "tmpfs", dir.as_str()]);
            work();
        });
        thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
    });
}

fn names(dir: &Utf8Path) -> Vec<String> {
    let entries = dir.read_dir_utf8().expect("list");
    entries.map(|entry| entry.expect("an entry").file_name().to_owned()).collect()
}

#[test]
fn a_full_disk_is_named_and_nothing_is_left() {
    if !rustix::process::geteuid().is_root() {
        eprintln!("SKIPPED: mount namespaces take root");
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let dir = Utf8Path::from_path(dir.path()).unwrap();
    let (big, small) = (dir.join("big"), dir.join("small"));
    std::fs::create_dir(&small).unwrap();
    with_tmpfs(&small, "16k", || {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let create = |templates: &Utf8Path, disk: &str| {
            let disks = ScratchDisks::open(templates).unwrap();
            runtime.block_on(disks.create(&small.join(disk), 0)).map_err(|err| rt::chain(&err))
        };
        // The disk does not fit, then not even its template.
        let said = create(&big, "disk").unwrap_err();
        assert!(said.contains("the disk is full"), "{said}");
        assert_eq!(names(&small), [""; 0]);
        assert_eq!(names(&big), ["template-16m.ext4"]);
        let said = create(&small.join("t"), "disk").unwrap_err();
        assert!(said.contains("make template"), "{said}");
        assert_eq!(names(&small), ["t"]);
        assert_eq!(names(&small.join("t")), [""; 0]);
    });
    // Two file systems with room: the copy goes the long way.
    with_tmpfs(&small, "4m", || {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let disks = ScratchDisks::open(&big).unwrap();
        let disk = small.join("disk");
        let made = runtime.block_on(disks.create(&disk, 0)).unwrap();
        assert!(!made.reflinked);
        assert!(
            std::fs::read(&disk).unwrap() == std::fs::read(big.join("template-16m.ext4")).unwrap()
        );
    });
}
