//! An image as a stream of tar, made while it is sent: nothing is kept.

use crate::error::{CliError, Exit, Result};
use bytes::Bytes;
use futures_util::Stream;
use futures_util::stream::unfold;
use std::fs::File;
use std::io::{self, BufRead, BufWriter, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::mpsc;

/// Size of one piece of the body.
const PIECE: usize = 256 * 1024;
/// Pieces that wait for the network.
const QUEUE: usize = 4;

/// Outcome of the reading, which happens on a thread of its own.
#[derive(Clone, Debug)]
pub(super) struct Reading {
    path: PathBuf,
    failed: Arc<Mutex<Option<io::Error>>>,
}

impl Reading {
    /// Why the files could not be read, if that is what went wrong.
    pub(super) fn error(&self) -> Option<CliError> {
        let failed = self.failed.lock().unwrap_or_else(PoisonError::into_inner).take()?;
        let text = format!("Cannot read {}", self.path.display());
        Some(CliError::failed(text).because_of(&failed))
    }
}

/// Where an image is read from.
pub(super) enum Source {
    /// A tar file, or the directory of an OCI layout.
    Path(PathBuf),
    /// A tar.
    Stream(Box<dyn BufRead + Send>),
}

/// The tar as it is, or a tar of the OCI layout in the directory.
pub(super) fn stream(
    source: Source,
) -> Result<(impl Stream<Item = io::Result<Bytes>> + Send + Sync + use<>, Reading)> {
    let (path, work) = prepare(source)?;
    let (pieces, sent) = mpsc::channel::<io::Result<Bytes>>(QUEUE);
    let reading = Reading { path, failed: Arc::default() };
    let theirs = reading.clone();
    // Not a task: it blocks on files, and ends when the body is dropped.
    std::thread::spawn(move || {
        let mut to = BufWriter::with_capacity(PIECE, Pieces(pieces.clone()));
        if let Err(err) = work(&mut to).and_then(|()| to.flush()) {
            // The body must break, or the server would take half for the whole.
            let broken = io::Error::new(err.kind(), err.to_string());
            if err.kind() != io::ErrorKind::BrokenPipe {
                *theirs.failed.lock().unwrap_or_else(PoisonError::into_inner) = Some(err);
            }
            let _ = pieces.blocking_send(Err(broken));
        }
    });
    let pieces = unfold(sent, |mut sent| async move { sent.recv().await.map(|p| (p, sent)) });
    Ok((pieces, reading))
}

type Work = Box<dyn FnOnce(&mut BufWriter<Pieces>) -> io::Result<()> + Send>;

/// The file's name for messages, and its reader; refused at once if it is no image.
fn prepare(source: Source) -> Result<(PathBuf, Work)> {
    let path = match source {
        Source::Path(path) => path,
        Source::Stream(input) => {
            return Ok(("standard input".into(), Box::new(move |to| copy(input, to))));
        }
    };
    let unusable = |why: &str| {
        let error = CliError::new(Exit::Usage, format!("Cannot import {}", path.display()));
        error
            .because(why)
            .hint("Give an OCI layout directory, or a tar of one or of `docker save`.")
    };
    let dir = match path.metadata() {
        Ok(meta) => meta.is_dir(),
        Err(err) => return Err(unusable(&err.to_string())),
    };
    if dir && !path.join("oci-layout").is_file() {
        return Err(unusable("The directory is no OCI layout: it has no file oci-layout"));
    }
    let from = path.clone();
    let work: Work = match dir {
        true => Box::new(move |to| pack(&from, to)),
        false => Box::new(move |to| copy(File::open(&from)?, to)),
    };
    Ok((path, work))
}

/// Where the tar is written to: one piece per write of the buffer above.
struct Pieces(mpsc::Sender<io::Result<Bytes>>);

impl Write for Pieces {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        let gone = |_| io::Error::from(io::ErrorKind::BrokenPipe);
        self.0.blocking_send(Ok(Bytes::copy_from_slice(data))).map_err(gone)?;
        Ok(data.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn copy(mut from: impl Read, to: &mut impl Write) -> io::Result<()> {
    let mut piece = vec![0; PIECE];
    loop {
        match from.read(&mut piece)? {
            0 => return Ok(()),
            read => to.write_all(&piece[..read])?,
        }
    }
}

/// Only what belongs to a layout, small files first, so that the server knows
/// what it gets before the layers come.
fn pack(dir: &Path, to: &mut impl Write) -> io::Result<()> {
    let mut tar = tar::Builder::new(to);
    tar.mode(tar::HeaderMode::Deterministic);
    for name in ["oci-layout", "index.json"] {
        tar.append_path_with_name(dir.join(name), name)?;
    }
    let mut blobs = Vec::new();
    for algorithm in std::fs::read_dir(dir.join("blobs"))? {
        let algorithm = algorithm?;
        for blob in std::fs::read_dir(algorithm.path())? {
            let blob = blob?;
            let name = Path::new("blobs").join(algorithm.file_name()).join(blob.file_name());
            blobs.push((blob.metadata()?.len(), name));
        }
    }
    blobs.sort();
    for (_, name) in blobs {
        tar.append_path_with_name(dir.join(&name), &name)?;
    }
    tar.finish()
}
