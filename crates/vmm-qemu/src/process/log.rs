//! The log of a VM's process: what it writes to standard output and error.

use rustix::fs::{MemfdFlags, Mode, OFlags, SealFlags};
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::process::Stdio;

/// Bytes of messages of the VM's process that are kept, from the first on.
pub(crate) const LOG_BYTES: u64 = 64 * 1024;

/// The beginning of the standard output and error of a VM's process, up to [`LOG_BYTES`];
/// later output is lost. A memfd that cannot grow, so a flood does not fill the host's
/// disk, and that a later daemon reaches
/// through the process.
#[derive(Debug)]
pub(crate) struct Log(File);

impl Log {
    pub(crate) fn new() -> io::Result<Self> {
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
        regular
            .then_some(Self(file))
            .ok_or_else(|| io::Error::other("the log is not a file any more"))
    }

    /// The log as the standard output or error of a child.
    ///
    /// # Errors
    /// The descriptor cannot be duplicated.
    pub(crate) fn stdio(&self) -> io::Result<Stdio> {
        Ok(Stdio::from(self.0.try_clone()?))
    }

    /// The output of the process so far.
    pub(crate) fn text(&self) -> String {
        let mut bytes = vec![0; LOG_BYTES as usize];
        let read = self.0.read_at(&mut bytes, 0).unwrap_or(0);
        let written = bytes[..read].split(|b| *b == 0).next().unwrap_or_default();
        String::from_utf8_lossy(written).into_owned()
    }
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
