//! Swap, as a file on the scratch disk.

use rustix::fs::{FallocateFlags, Mode, OFlags};
use std::ffi::CString;
use std::io::{Seek, SeekFrom, Write};
use std::os::fd::{AsRawFd, OwnedFd};

const PAGE: u64 = 4096;

/// The first page of a swap area: version, last page, and the magic at its end.
fn header(bytes: u64) -> Vec<u8> {
    let mut page = vec![0u8; PAGE as usize];
    page[1024..1028].copy_from_slice(&1u32.to_le_bytes());
    let last = u32::try_from(bytes / PAGE - 1).unwrap_or(u32::MAX);
    page[1028..1032].copy_from_slice(&last.to_le_bytes());
    page[PAGE as usize - 10..].copy_from_slice(b"SWAPSPACE2");
    page
}

/// Makes a swap file of `mib` MiB on the scratch disk and enables it.
pub(crate) fn make(scratch: &OwnedFd, mib: u64) -> Result<(), String> {
    let cannot =
        |what: &str, err: rustix::io::Errno| format!("cannot {what} {mib} MiB of swap: {err}");
    let bytes = mib.saturating_mul(1 << 20);
    let flags = OFlags::RDWR | OFlags::CREATE | OFlags::TRUNC | OFlags::CLOEXEC;
    let fd = rustix::fs::openat(scratch, "swap", flags, Mode::from_raw_mode(0o600))
        .map_err(|err| cannot("create", err))?;
    rustix::fs::fallocate(&fd, FallocateFlags::empty(), 0, bytes)
        .map_err(|err| cannot("reserve", err))?;
    let mut file = std::fs::File::from(fd);
    let written = file.seek(SeekFrom::Start(0)).and_then(|_| file.write_all(&header(bytes)));
    written.map_err(|err| format!("cannot write the swap header: {err}"))?;
    let path = CString::new(format!("/proc/self/fd/{}", file.as_raw_fd())).unwrap_or_default();
    // SAFETY: swapon reads a terminated path.
    if unsafe { libc::swapon(path.as_ptr(), 0) } < 0 {
        return Err(cannot("use", crate::system::clock::last_errno()));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_header_is_what_mkswap_writes() {
        let page = super::header(8 << 20);
        assert_eq!(&page[4086..], b"SWAPSPACE2");
        assert_eq!(page[1028..1032], 2047u32.to_le_bytes());
    }
}
