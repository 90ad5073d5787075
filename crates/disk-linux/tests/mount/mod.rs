//! File systems of a given size, for tests of what happens when they are full.

use camino::Utf8Path;
use rustix::thread::{UnshareFlags, unshare_unsafe};
use std::process::Command;
use testkit::skip::{Lacks, skip};

/// Whether the test can mount. Without root it is skipped; in CI it fails.
pub(crate) fn can_mount() -> bool {
    let root = rustix::process::geteuid().is_root();
    if !root {
        skip("mount namespaces need root", Lacks::Required);
    }
    root
}

/// Runs `work` on a thread that has a tmpfs of this size mounted on `dir`.
pub(crate) fn with_tmpfs(dir: &Utf8Path, size: &str, work: impl FnOnce() + Send) {
    let mount = |args: &[&str]| {
        let status = Command::new("mount").args(args).status().expect("run mount");
        assert!(status.success(), "mount {args:?}");
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
