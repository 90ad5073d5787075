//! Reading, copying and summing files that are mostly holes.
//!
//! Everything goes by pages, and a page of zeros is as good as a hole: so two
//! files with the same content have the same sum, independent of their holes.

use rustix::fs::SeekFrom;
use rustix::io::Errno;
use sha2::{Digest as _, Sha256};
use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use tokio_util::sync::CancellationToken;

/// Bytes of a page.
pub(super) const PAGE: u64 = 4096;
/// Bytes read or written at a time.
pub(super) const CHUNK: usize = 1 << 20;

/// A sum over the content of a memory file, in hexadecimal.
pub(crate) type Digest = String;

/// Copies what is not zero to `target`, which must be all holes and as long.
/// Returns the bytes written.
///
/// # Errors
/// Those of both files; `Interrupted` if `cancel` was called.
pub(crate) fn copy(source: &File, target: &File, cancel: &CancellationToken) -> io::Result<u64> {
    let mut written = 0;
    each_chunk(source, cancel, |at, bytes| {
        for run in runs(bytes) {
            target.write_all_at(&bytes[run.clone()], at + run.start as u64)?;
            written += run.len() as u64;
        }
        Ok(())
    })?;
    Ok(written)
}

/// The sum over length and content.
///
/// # Errors
/// Those of the file.
pub(crate) fn digest(file: &File) -> io::Result<Digest> {
    let mut sum = Sha256::new();
    sum.update(file.metadata()?.len().to_le_bytes());
    each_chunk(file, &CancellationToken::new(), |at, bytes| {
        for run in runs(bytes) {
            for (page, bytes) in bytes[run.clone()].chunks(PAGE as usize).enumerate() {
                sum.update((at + run.start as u64 + page as u64 * PAGE).to_le_bytes());
                sum.update(bytes);
            }
        }
        Ok(())
    })?;
    Ok(hex::encode(sum.finalize()))
}

/// Gives each piece of what is not a hole, beginning at a page.
fn each_chunk(
    file: &File,
    cancel: &CancellationToken,
    mut each: impl FnMut(u64, &[u8]) -> io::Result<()>,
) -> io::Result<()> {
    let size = file.metadata()?.len();
    let (mut end, mut buffer) = (0, vec![0; CHUNK]);
    while end < size {
        let start = match rustix::fs::seek(file, SeekFrom::Data(end)) {
            Ok(start) => start,
            // No data behind: the rest is a hole.
            Err(Errno::NXIO) => break,
            Err(err) => return Err(err.into()),
        };
        let mut at = start / PAGE * PAGE;
        end = rustix::fs::seek(file, SeekFrom::Hole(start))?.next_multiple_of(PAGE).min(size);
        while at < end {
            if cancel.is_cancelled() {
                return Err(io::ErrorKind::Interrupted.into());
            }
            let want = usize::try_from(end - at).map_or(CHUNK, |left| left.min(CHUNK));
            file.read_exact_at(&mut buffer[..want], at)?;
            each(at, &buffer[..want])?;
            at += want as u64;
        }
    }
    Ok(())
}

/// Where `bytes` have pages that are not all zeros, neighbours joined.
pub(super) fn runs(bytes: &[u8]) -> Vec<Range<usize>> {
    let mut runs: Vec<Range<usize>> = Vec::new();
    for (page, content) in bytes.chunks(PAGE as usize).enumerate() {
        if is_zero(content) {
            continue;
        }
        let start = page * PAGE as usize;
        let end = start + content.len();
        match runs.last_mut().filter(|last| last.end == start) {
            Some(last) => last.end = end,
            None => runs.push(start..end),
        }
    }
    runs
}

fn is_zero(page: &[u8]) -> bool {
    // Word by word: several times faster than byte by byte, also unoptimised.
    let (words, rest) = page.as_chunks::<16>();
    words.iter().all(|word| u128::from_ne_bytes(*word) == 0) && rest.iter().all(|byte| *byte == 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(pages: &[(u64, u8)]) -> File {
        let file = tempfile::tempfile().unwrap();
        file.set_len(64 * PAGE).unwrap();
        for (page, byte) in pages {
            file.write_all_at(&[*byte; PAGE as usize], page * PAGE).unwrap();
        }
        file
    }

    #[test]
    fn zeros_are_holes_in_copies_and_sums() {
        let source = file(&[(0, 1), (1, 0), (7, 2), (8, 3), (63, 4)]);
        let target = file(&[]);
        let never = CancellationToken::new();
        assert_eq!(copy(&source, &target, &never).unwrap(), 4 * PAGE);
        assert_eq!(digest(&source).unwrap(), digest(&target).unwrap());
        let mut byte = [0];
        target.read_exact_at(&mut byte, 8 * PAGE + 5).unwrap();
        assert_eq!(byte, [3]);
        let moved = file(&[(0, 1), (7, 2), (9, 3), (63, 4)]);
        assert_ne!(digest(&source).unwrap(), digest(&moved).unwrap());
    }

    #[test]
    fn a_cancelled_copy_ends() {
        let cancel = CancellationToken::new();
        cancel.cancel();
        let ended = copy(&file(&[(3, 1)]), &file(&[]), &cancel).unwrap_err();
        assert_eq!(ended.kind(), io::ErrorKind::Interrupted);
    }
}
