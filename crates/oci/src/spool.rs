//! A layer, decompressed once, with its digests verified.

use crate::blob::Blob;
use crate::digest::{Digest, Hashing};
use crate::fault::{Fault, Result, failed};
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

const CHUNK: usize = 256 << 10;

/// Bytes that all layers of an image may still take. It is drawn on while
/// decompressing, so that a bomb stops early.
#[derive(Debug)]
pub(crate) struct Budget {
    left: AtomicU64,
    limit: u64,
}

impl Budget {
    /// Of `limit` bytes.
    pub(crate) fn new(limit: u64) -> Self {
        Self { left: AtomicU64::new(limit), limit }
    }

    /// Takes `n` bytes.
    pub(crate) fn take(&self, n: u64) -> Result<()> {
        self.left
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(n))
            .map(drop)
            .map_err(|_| {
                Fault::refused(format!(
                    "unpacked, its layers exceed the limit of {} bytes",
                    self.limit
                ))
            })
    }
}

/// How bytes are packed, told by their first ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Packing {
    Plain,
    Gzip,
    Zstd,
}

impl Packing {
    /// Of a blob. Media types are not asked: they are often wrong.
    pub(crate) fn of(blob: &Blob) -> io::Result<Self> {
        let mut magic = [0; 4];
        let n = blob.read_at(&mut magic, 0)?;
        Ok(match &magic[..n] {
            [0x1f, 0x8b, ..] => Self::Gzip,
            [0x28, 0xb5, 0x2f, 0xfd] => Self::Zstd,
            _ => Self::Plain,
        })
    }
}

/// What the digests of a layer must be.
#[derive(Clone, Debug)]
pub(crate) struct Expected {
    /// Of the bytes as they come, if they are named by a digest.
    pub(crate) digest: Option<Digest>,
    /// Of the tar.
    pub(crate) diff_id: Digest,
}

/// The tar of a layer as a blob: the given one if it is plain, else a new
/// unnamed file in `dir`. Both digests are verified.
pub(crate) fn layer(
    packed: &Blob,
    expected: &Expected,
    budget: &Budget,
    dir: &Path,
    progress: &dyn Fn(u64),
) -> Result<Blob> {
    let packing = Packing::of(packed).map_err(failed("read a layer"))?;
    if packing == Packing::Plain {
        budget.take(packed.len)?;
        let found = hash(packed, progress)?;
        if let Some(digest) = &expected.digest {
            verify("layer", digest, &found)?;
        }
        verify("unpacked layer", &expected.diff_id, &found)?;
        return Ok(packed.clone());
    }
    let (tar, found) = unpack(packed, packing, budget, dir, progress)?;
    if let Some(digest) = &expected.digest {
        verify("layer", digest, &found.digest.unwrap_or(found.diff_id.clone()))?;
    }
    verify("unpacked layer", &expected.diff_id, &found.diff_id)?;
    Ok(tar)
}

/// Decompresses `packed` into an unnamed file in `dir`, and says both digests.
pub(crate) fn unpack(
    packed: &Blob,
    packing: Packing,
    budget: &Budget,
    dir: &Path,
    progress: &dyn Fn(u64),
) -> Result<(Blob, Expected)> {
    // Unnamed: it goes with the process, however that ends.
    let file = tempfile::tempfile_in(dir).map_err(failed("make a spool file"))?;
    let source = Counting { inner: packed.reader(), progress };
    let mut source = BufReader::with_capacity(CHUNK, Hashing::new(source));
    let mut out = Hashing::new(&file);
    let told = match packing {
        Packing::Plain => copy(&mut source, &mut out, budget),
        // Concatenated members are one stream, as for gunzip.
        Packing::Gzip => {
            let mut decoder = flate2::bufread::MultiGzDecoder::new(&mut source);
            copy(&mut decoder, &mut out, budget)
        }
        Packing::Zstd => zstd::stream::read::Decoder::with_buffer(&mut source)
            .map_err(damaged)
            .and_then(|mut decoder| copy(&mut decoder, &mut out, budget)),
    };
    told?;
    // A decoder may stop before the end, the digest is of everything.
    drain(&mut source)?;
    let (_, digest) = source.into_inner().done();
    let (_, diff_id) = out.done();
    let tar = Blob::whole(file).map_err(failed("measure a spool file"))?;
    Ok((tar, Expected { digest: Some(digest), diff_id }))
}

/// The digest of all bytes.
pub(crate) fn hash(blob: &Blob, progress: &dyn Fn(u64)) -> Result<Digest> {
    let mut hashing = Hashing::new(Counting { inner: blob.reader(), progress });
    let mut buf = vec![0; CHUNK];
    while hashing.read(&mut buf).map_err(failed("read a blob"))? > 0 {}
    Ok(hashing.done().1)
}

/// Refuses `what` if its digest is another than promised.
pub(crate) fn verify(what: &str, promised: &Digest, found: &Digest) -> Result<()> {
    if promised == found {
        return Ok(());
    }
    Err(Fault::refused(format!("digest of the {what} is {found}, not {promised} as promised")))
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
        to.write_all(&buf[..n]).map_err(failed("write a spool file"))?;
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

fn damaged(err: io::Error) -> Fault {
    if err.raw_os_error().is_some() {
        return failed("read a layer")(err);
    }
    Fault::refused(format!("compressed data is damaged: {err}"))
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

/// A budget shared by the threads that unpack one image.
pub(crate) type SharedBudget = Arc<Budget>;
