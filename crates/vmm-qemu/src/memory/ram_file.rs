//! The file that holds the memory of a guest.

use rustix::fs::{MemfdFlags, Mode, SealFlags};
use std::fs::File;
use std::io;

/// A fresh file in memory of `mib` MiB, all holes.
pub(crate) fn fresh(mib: u32) -> io::Result<File> {
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    let file = File::from(rustix::fs::memfd_create("guest-memory", flags)?);
    rustix::fs::fchmod(&file, Mode::RUSR | Mode::WUSR)?;
    file.set_len(u64::from(mib) << 20)?;
    Ok(file)
}

/// Seals a memfd against every change, and lets every user with its descriptor map it:
/// QEMU opens memory for writing even if it will not write.
///
/// # Errors
/// A process still has it mapped for writing.
pub(crate) fn seal(file: &File) -> io::Result<()> {
    let seals = SealFlags::WRITE | SealFlags::GROW | SealFlags::SHRINK | SealFlags::SEAL;
    rustix::fs::fcntl_add_seals(file, seals)?;
    rustix::fs::fchmod(file, Mode::from_raw_mode(0o666))?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::FileExt;

    #[test]
    fn sealed_memory_cannot_be_changed() {
        let file = fresh(1).unwrap();
        file.write_all_at(b"template", 0).unwrap();
        seal(&file).unwrap();
        assert!(file.write_all_at(b"tenant", 0).is_err());
        assert!(file.set_len(0).is_err());
        let hole = rustix::fs::FallocateFlags::PUNCH_HOLE | rustix::fs::FallocateFlags::KEEP_SIZE;
        assert!(rustix::fs::fallocate(&file, hole, 0, 4096).is_err());
        let mut back = [0; 8];
        file.read_exact_at(&mut back, 0).unwrap();
        assert_eq!(&back, b"template");
    }
}
