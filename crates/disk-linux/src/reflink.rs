//! Copies of sparse files: by reflink where the file system shares blocks, else
//! of the data between the holes.

use crate::deadline::Deadline;
use camino::Utf8Path;
use rustix::fs::{FallocateFlags, OFlags, SeekFrom};
use rustix::io::Errno;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};

/// Bytes copied between two checks of the deadline.
const CHUNK: usize = 16 << 20;

/// Copies a sparse file. Returns whether the copy shares its blocks.
pub(crate) fn clone_file(from: &Utf8Path, to: &Utf8Path, deadline: &Deadline) -> io::Result<bool> {
    let source = File::open(from)?;
    let target = create_file(to)?;
    match rustix::fs::ioctl_ficlone(&target, &source) {
        Ok(()) => return Ok(true),
        // Returned by file systems without reflinks, and between two file systems.
        Err(Errno::OPNOTSUPP | Errno::XDEV | Errno::NOTTY | Errno::INVAL | Errno::NOSYS) => {}
        Err(err) => return Err(err.into()),
    }
    copy_data(&source, &target, deadline)?;
    Ok(false)
}

/// Copies the data between the holes.
fn copy_data(source: &File, target: &File, deadline: &Deadline) -> io::Result<()> {
    let size = source.metadata()?.len();
    target.set_len(size)?;
    let mut end = 0;
    while end < size {
        let start = match rustix::fs::seek(source, SeekFrom::Data(end)) {
            Ok(start) => start,
            // No data after this offset: the rest is a hole.
            Err(Errno::NXIO) => break,
            Err(err) => return Err(err.into()),
        };
        end = rustix::fs::seek(source, SeekFrom::Hole(start))?;
        copy_range(source, target, (start, end), deadline)?;
    }
    Ok(())
}

fn copy_range(
    source: &File,
    target: &File,
    (start, end): (u64, u64),
    deadline: &Deadline,
) -> io::Result<()> {
    let (mut from, mut to) = (start, start);
    while from < end {
        deadline.check()?;
        let want = usize::try_from(end - from).map_or(CHUNK, |left| left.min(CHUNK));
        match rustix::fs::copy_file_range(source, Some(&mut from), target, Some(&mut to), want) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(_) => {}
            // Not supported here, or between these two file systems.
            Err(Errno::XDEV | Errno::OPNOTSUPP | Errno::NOSYS | Errno::INVAL) => {
                return copy_bytes(source, target, (from, end), deadline);
            }
            Err(err) => return Err(err.into()),
        }
    }
    Ok(())
}

fn copy_bytes(
    source: &File,
    target: &File,
    (start, end): (u64, u64),
    deadline: &Deadline,
) -> io::Result<()> {
    let mut buffer = vec![0; 128 << 10];
    let mut at = start;
    while at < end {
        deadline.check()?;
        let want = usize::try_from(end - at).map_or(buffer.len(), |left| left.min(buffer.len()));
        source.read_exact_at(&mut buffer[..want], at)?;
        target.write_all_at(&buffer[..want], at)?;
        at += want as u64;
    }
    Ok(())
}

/// Creates a file that only root can read: it holds data of a guest. The VM's
/// process is given the open file.
pub(crate) fn create_file(path: &Utf8Path) -> io::Result<File> {
    let mut options = File::options();
    options.read(true).write(true).create(true).truncate(true).mode(0o600);
    options.custom_flags(OFlags::NOFOLLOW.bits().cast_signed()).open(path)
}

/// Bytes that the owner of `dir` can still write, and whether files in it can be
/// reflinked.
pub(crate) fn probe(dir: &Utf8Path) -> io::Result<(u64, bool)> {
    let free = free_space(dir)?;
    let names = ["a", "b"].map(|n| dir.join(format!(".reflink-{}-{n}", std::process::id())));
    let tried = (|| {
        let (a, b) = (create_file(&names[0])?, create_file(&names[1])?);
        rustix::fs::fallocate(&a, FallocateFlags::empty(), 0, 4096)?;
        Ok(rustix::fs::ioctl_ficlone(&b, &a).is_ok())
    })();
    for name in &names {
        let _ = fs::remove_file(name);
    }
    tried.map(|reflinks| (free, reflinks))
}

/// Bytes that the owner of `dir` can still write.
pub(crate) fn free_space(dir: &Utf8Path) -> io::Result<u64> {
    let space = rustix::fs::statvfs(dir.as_str())?;
    Ok(space.f_bavail.saturating_mul(space.f_frsize))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Seek, Write};
    use std::os::unix::fs::MetadataExt;

    #[test]
    fn copies_keep_data_and_holes() {
        let dir = tempfile::tempdir().unwrap();
        let dir = Utf8Path::from_path(dir.path()).unwrap();
        let mut source = create_file(&dir.join("s")).unwrap();
        source.set_len(64 << 20).unwrap();
        for at in [0, 5 << 20, (64 << 20) - 3] {
            source.seek(io::SeekFrom::Start(at)).unwrap();
            source.write_all(b"abc").unwrap();
        }
        let mut target = create_file(&dir.join("t")).unwrap();
        copy_data(&source, &target, &Deadline::none()).unwrap();
        let mut bytes = Vec::new();
        target.read_to_end(&mut bytes).unwrap();
        assert_eq!(bytes.len(), 64 << 20);
        assert!(bytes == fs::read(dir.join("s")).unwrap());
        assert!(target.metadata().unwrap().blocks() * 512 < 1 << 20);
    }
}
