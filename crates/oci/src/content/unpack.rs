//! Decompresses a layer, once, and verifies its digests.

use crate::content::blob::Blob;
use crate::content::digest::{Digest, Hashing};
use crate::content::disk_space::SpaceBooking;
use crate::error::{Error, Result, failed};
use camino::{Utf8Path, Utf8PathBuf};
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

const CHUNK: usize = 256 << 10;

/// The largest window of a zstd stream, as a power of two: 32 MiB, the most that
/// the compressors of common image builders use. Each decoder holds its window
/// in memory, and a stream may ask for 2 GiB
/// (<https://www.rfc-editor.org/rfc/rfc8878#name-window-descriptor>).
const ZSTD_WINDOW_LOG: u32 = 25;

/// Bytes that the layers of one image may take unpacked. They are taken while
/// decompressing, so that a decompression bomb stops early; so does an image
/// that the disk has no room for.
#[derive(Debug)]
pub(crate) struct Budget {
    left: AtomicU64,
    limit: u64,
    dir: Utf8PathBuf,
    space: Arc<SpaceBooking>,
}

impl Budget {
    /// A budget of `limit` bytes of files in `dir`, for a job that has booked
    /// `space` on its disk.
    pub(crate) fn new(limit: u64, dir: &Utf8Path, space: &Arc<SpaceBooking>) -> Self {
        let (dir, space) = (dir.to_owned(), Arc::clone(space));
        Self { left: AtomicU64::new(limit), limit, dir, space }
    }

    /// Takes `n` bytes.
    fn take(&self, n: u64) -> Result<()> {
        let taken = self
            .left
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(n));
        taken.map(drop).map_err(|_| {
            let limit = self.limit;
            Error::refused(format!("unpacked, its layers exceed the limit of {limit} bytes"))
        })
    }
}

/// How a blob is compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Encoding {
    Plain,
    Gzip,
    Zstd,
}

impl Encoding {
    /// The encoding by the blob's first bytes. Media types are often wrong.
    pub(crate) fn detect(blob: &Blob) -> io::Result<Self> {
        let mut magic = [0; 4];
        let n = blob.read_at(&mut magic, 0)?;
        Ok(match &magic[..n] {
            [0x1f, 0x8b, ..] => Self::Gzip,
            [0x28, 0xb5, 0x2f, 0xfd] => Self::Zstd,
            _ => Self::Plain,
        })
    }
}

/// The digests that a layer must have.
#[derive(Clone, Debug)]
pub(crate) struct Expected {
    /// The digest of the stored bytes, if the image names it.
    pub(crate) digest: Option<Digest>,
    /// The digest of the tar.
    pub(crate) diff_id: Digest,
}

/// The tar of a layer: the given blob if it is not compressed, else a new
/// unnamed file. Both digests are verified.
pub(crate) fn layer(
    packed: &Blob,
    expected: &Expected,
    budget: &Budget,
    progress: &dyn Fn(u64),
) -> Result<Blob> {
    let encoding = Encoding::detect(packed).map_err(failed("read a layer"))?;
    if encoding == Encoding::Plain {
        budget.take(packed.len)?;
        let found = hash(packed, progress)?;
        if let Some(digest) = &expected.digest {
            verify("layer", digest, &found)?;
        }
        verify("unpacked layer", &expected.diff_id, &found)?;
        return Ok(packed.clone());
    }
    let (tar, found) = unpack(packed, encoding, budget, progress)?;
    if let Some(digest) = &expected.digest {
        verify("layer", digest, &found.digest.unwrap_or(found.diff_id.clone()))?;
    }
    verify("unpacked layer", &expected.diff_id, &found.diff_id)?;
    Ok(tar)
}

/// Decompresses `packed` into an unnamed file in the budget's directory.
/// Returns the file and both digests.
pub(crate) fn unpack(
    packed: &Blob,
    encoding: Encoding,
    budget: &Budget,
    progress: &dyn Fn(u64),
) -> Result<(Blob, Expected)> {
    // The kernel frees an unnamed file with the process, however that ends.
    let file = tempfile::tempfile_in(&budget.dir).map_err(failed("create an unpacked layer"))?;
    let source = Counting { inner: packed.reader(), progress };
    let mut source = BufReader::with_capacity(CHUNK, Hashing::new(source));
    let mut out = Hashing::new(&file);
    let copied = match encoding {
        Encoding::Plain => copy(&mut source, &mut out, budget),
        // Concatenated members are one stream, as in gunzip.
        Encoding::Gzip => {
            let mut decoder = flate2::bufread::MultiGzDecoder::new(&mut source);
            copy(&mut decoder, &mut out, budget)
        }
        Encoding::Zstd => zstd::stream::read::Decoder::with_buffer(&mut source)
            .and_then(|mut decoder| decoder.window_log_max(ZSTD_WINDOW_LOG).map(|()| decoder))
            .map_err(damaged)
            .and_then(|mut decoder| copy(&mut decoder, &mut out, budget)),
    };
    copied?;
    // A decoder may stop before the end; the digest covers all bytes.
    drain(&mut source)?;
    let (_, digest) = source.into_inner().finish();
    let (_, diff_id) = out.finish();
    let tar = Blob::whole(file).map_err(failed("read the size of an unpacked layer"))?;
    Ok((tar, Expected { digest: Some(digest), diff_id }))
}

/// The digest of a blob.
pub(crate) fn hash(blob: &Blob, progress: &dyn Fn(u64)) -> Result<Digest> {
    let mut hashing = Hashing::new(Counting { inner: blob.reader(), progress });
    let mut buf = vec![0; CHUNK];
    while hashing.read(&mut buf).map_err(failed("read a blob"))? > 0 {}
    Ok(hashing.finish().1)
}

/// Refuses the content unless the digest of `what` is the promised one.
pub(crate) fn verify(what: &str, promised: &Digest, found: &Digest) -> Result<()> {
    if promised == found {
        return Ok(());
    }
    Err(Error::refused(format!("digest of the {what} is {found}, not {promised} as promised")))
}

fn copy(from: &mut dyn Read, to: &mut Hashing<&File>, budget: &Budget) -> Result<()> {
    let mut buf = vec![0; CHUNK];
    loop {
        let n = match from.read(&mut buf) {
            Ok(0) => return Ok(()),
            Ok(n) => n,
            Err(err) if err.kind() == io::ErrorKind::Interrupted => continue,
            Err(err) => return Err(damaged(err)),
        };
        budget.take(n as u64)?;
        budget.space.write(n as u64, "unpack a layer")?;
        to.write_all(&buf[..n]).map_err(failed("write an unpacked layer"))?;
    }
}

fn drain(from: &mut impl BufRead) -> Result<()> {
    loop {
        let n = from.fill_buf().map_err(failed("read a layer"))?.len();
        if n == 0 {
            return Ok(());
        }
        from.consume(n);
    }
}

fn damaged(err: io::Error) -> Error {
    if err.raw_os_error().is_some() {
        return failed("read a layer")(err);
    }
    // How libzstd names a window beyond the limit.
    if err.to_string().contains("too much memory") {
        let mib = 1 << (ZSTD_WINDOW_LOG - 20);
        let problem = format!("a zstd layer asks for a window of more than {mib} MiB");
        return Error::refused(format!("{problem}; compress it without --long or --ultra"));
    }
    Error::refused(format!("compressed data is damaged: {err}"))
}

struct Counting<'a, R> {
    inner: R,
    progress: &'a dyn Fn(u64),
}

impl<R: Read> Read for Counting<'_, R> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let n = self.inner.read(buf)?;
        (self.progress)(n as u64);
        Ok(n)
    }
}

/// A budget that the threads that unpack one image share.
pub(crate) type SharedBudget = Arc<Budget>;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::content::disk_space::DiskSpace;
    use std::io::Seek as _;

    /// Unpacks a zstd stream that asks for a window of this size.
    fn unpacked(window_log: u32) -> Result<u64> {
        let dir = tempfile::tempdir().unwrap();
        let dir = Utf8Path::from_path(dir.path()).unwrap();
        let mut packed = tempfile::tempfile().unwrap();
        let mut encoder = zstd::Encoder::new(&packed, 1).unwrap();
        encoder.window_log(window_log).unwrap();
        encoder.write_all(&[7; 4096]).unwrap();
        encoder.finish().unwrap();
        packed.rewind().unwrap();
        let space = Arc::new(DiskSpace::new(dir.to_owned(), 0).job());
        let budget = Budget::new(1 << 20, dir, &space);
        let packed = Blob::whole(packed).unwrap();
        Ok(unpack(&packed, Encoding::Zstd, &budget, &|_| {})?.0.len)
    }

    #[test]
    fn a_zstd_layer_with_a_window_beyond_the_limit_is_refused() {
        assert_eq!(unpacked(25).unwrap(), 4096);
        match unpacked(26) {
            Err(Error::Refused(problem)) => assert_eq!(
                problem,
                "a zstd layer asks for a window of more than 32 MiB; compress it without --long \
                 or --ultra"
            ),
            other => panic!("{other:?}"),
        }
    }
}
