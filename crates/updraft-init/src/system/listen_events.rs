//! Events of sockets that begin or cease to listen, from the kernel's tracepoint
//! `sock/inet_sock_set_state`, so that readiness is pushed and not polled.

use rustix::fs::{Mode, OFlags};
use rustix::mount::{FsMountFlags, FsOpenFlags, MountAttrFlags};
use std::os::fd::OwnedFd;

/// The enabled tracepoint.
pub(crate) struct ListenEvents {
    pipe: OwnedFd,
}

impl ListenEvents {
    /// Enables the tracepoint. Its file system is mounted without a name.
    pub(crate) fn enable() -> rustix::io::Result<Self> {
        let context = rustix::mount::fsopen("tracefs", FsOpenFlags::FSOPEN_CLOEXEC)?;
        rustix::mount::fsconfig_create(&context)?;
        let flags = FsMountFlags::FSMOUNT_CLOEXEC;
        let tracefs = rustix::mount::fsmount(&context, flags, MountAttrFlags::empty())?;
        // The default buffer takes 1.4 MB per CPU; only the wake-up matters here.
        let _ = write(&tracefs, "buffer_size_kb", "16");
        let event = "events/sock/inet_sock_set_state";
        write(&tracefs, &format!("{event}/filter"), "newstate == 10 || oldstate == 10")?;
        write(&tracefs, &format!("{event}/enable"), "1")?;
        let flags = OFlags::RDONLY | OFlags::CLOEXEC;
        let pipe = rustix::fs::openat(&tracefs, "trace_pipe", flags, Mode::empty())?;
        Ok(Self { pipe })
    }

    /// Calls `changed` at every event, until it returns false or a read fails. The pipe
    /// ends, at each read, once someone in the guest has turned tracing off.
    pub(crate) fn watch(&self, mut changed: impl FnMut() -> bool) -> rustix::io::Result<()> {
        let mut lines = [0; 4096];
        loop {
            match rustix::io::read(&self.pipe, &mut lines) {
                Ok(0) => return Err(rustix::io::Errno::NODATA),
                Err(rustix::io::Errno::INTR) => {}
                Ok(_) => {
                    if !changed() {
                        return Ok(());
                    }
                }
                Err(err) => return Err(err),
            }
        }
    }
}

fn write(dir: &OwnedFd, path: &str, text: &str) -> rustix::io::Result<()> {
    let flags = OFlags::WRONLY | OFlags::TRUNC | OFlags::CLOEXEC;
    let file = rustix::fs::openat(dir, path, flags, Mode::empty())?;
    rustix::io::write(&file, text.as_bytes()).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_of_the_trace_ends_the_watch_with_an_error() {
        let pipe = OwnedFd::from(std::fs::File::open("/dev/null").unwrap());
        let watched = ListenEvents { pipe }.watch(|| panic!("there is no event"));
        assert_eq!(watched, Err(rustix::io::Errno::NODATA));
    }
}
