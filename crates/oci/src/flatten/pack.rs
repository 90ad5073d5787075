//! A merged tree, streamed as one tar into `sqfstar`.
//!
//! The tar is written here: it is sorted and has normalized names only, so the
//! program that reads it never parses a header of the image. The same tree gives
//! the same bytes.

use crate::config::settings::{Compression, OciConfig};
use crate::content::blob::Blob;
use crate::content::disk_space::{STEP, SpaceBooking};
use crate::error::{Error, Result, failed};
use crate::flatten::root_inode;
use crate::flatten::tree::{Inode, Kind, Tree};
use crate::layer::entry::{FileData, Meta};
use crate::layer::metadata_budget::MetadataBudget;
use camino::Utf8Path;
use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::MetadataExt;
use std::process::{Child, Command, Stdio};
use tar::{EntryType, Header};
use worker::ports::PortError;

/// File data up to this size is buffered with its header and written in one call.
const SMALL: u64 = 64 << 10;
const BUFFER: usize = 256 << 10;
/// What the space for the root image is booked for.
const PURPOSE: &str = "write the root image";
/// The largest pipe of an unprivileged process by default.
const PIPE: usize = 1 << 20;

/// Writes `tree` as a SquashFS image into the new file `out`, durably.
pub(crate) fn squash(
    tree: &Tree,
    out: &Utf8Path,
    config: &OciConfig,
    space: &SpaceBooking,
    progress: &dyn Fn(u64),
) -> Result<()> {
    space.ensure(needed(tree, config), PURPOSE)?;
    let messages = tempfile::tempfile_in(config.dir.join("tmp"))
        .map_err(failed("create a file for the messages of sqfstar"))?;
    let mut child = Running(start(tree, out, config, &messages)?);
    let stdin = child.0.stdin.take().ok_or_else(|| failure("sqfstar has no input"))?;
    // Fewer context switches; a smaller pipe works as well.
    let _ = rustix::pipe::fcntl_setpipe_size(&stdin, PIPE);
    let mut tar = TarOut {
        out: stdin.as_fd(),
        buffer: Vec::with_capacity(2 * BUFFER),
        progress,
        growth: Growth { image: out, space, fed: 0, known: 0 },
    };
    let written = tar.write(tree);
    drop(stdin);
    let status = child.0.wait().map_err(failed("wait for sqfstar"))?;
    if !status.success() {
        // Its message is more specific than the broken pipe on this side.
        let text = message(messages).replace(&format!("{}/", config.dir), "");
        return Err(failure(&format!("sqfstar failed ({status}): {text}")));
    }
    written?;
    let file = File::options().read(true).write(true).open(out);
    let file = file.map_err(failed("open the new root image"))?;
    root_inode::patch(&file, &tree.inode(Tree::ROOT).meta)
        .map_err(failed("set the owner and time of the root directory of the new root image"))?;
    file.sync_all().map_err(failed("sync the new root image"))
}

/// The bytes that the root image is expected to take.
fn needed(tree: &Tree, config: &OciConfig) -> u64 {
    let data = |inode| match &tree.inode(inode).kind {
        Kind::File(FileData::Dense(blob)) => blob.len,
        // Blocks of zeros take no space in SquashFS.
        Kind::File(FileData::Sparse(sparse)) => sparse.size() - sparse.hole_bytes(),
        _ => 0,
    };
    // Inodes without a name were replaced by a later layer.
    let names = Links::count(tree).names;
    let bytes: u64 = (0..tree.inodes()).filter(|&inode| names[inode] > 0).map(data).sum();
    match config.compression {
        Compression::None => bytes,
        Compression::Lz4 | Compression::Zstd => bytes / 3,
    }
}

fn start(tree: &Tree, out: &Utf8Path, config: &OciConfig, messages: &File) -> Result<Child> {
    let mode = tree.inode(Tree::ROOT).meta.mode;
    let mut command = Command::new(&config.sqfstar);
    match config.compression {
        Compression::None => command.args(["-noD", "-noF", "-noX"]),
        Compression::Lz4 => command.args(["-comp", "lz4"]),
        Compression::Zstd => command.args(["-comp", "zstd", "-Xcompression-level", "3"]),
    };
    // sqfstar ignores the root's entry. Owner and time of the root are set in
    // the finished image, for which inodes must not be compressed.
    command
        .arg("-noI")
        .args(["-no-duplicates", "-exit-on-error", "-quiet", "-no-progress"])
        .args(["-mem", "256M", "-mkfs-time", "0"])
        .args(["-root-mode", &format!("{mode:o}")])
        .arg(out)
        .env_remove("SOURCE_DATE_EPOCH")
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(
            messages.try_clone().map_err(failed("share the file for the messages of sqfstar"))?,
        );
    command.spawn().map_err(|err| {
        let hint = match err.kind() {
            io::ErrorKind::NotFound => " (install the package squashfs-tools, 4.5 or later)",
            _ => "",
        };
        failed(format!("run {}{hint}", config.sqfstar))(err)
    })
}

fn failure(problem: &str) -> Error {
    Error::Failed(PortError::plain(problem))
}

fn message(mut messages: File) -> String {
    let mut text = String::new();
    let read = messages
        .seek(SeekFrom::Start(0))
        .and_then(|_| messages.take(4096).read_to_string(&mut text));
    match read {
        Ok(_) => text.split_whitespace().collect::<Vec<_>>().join(" "),
        Err(_) => "no message".into(),
    }
}

/// Kills the child when a step fails before it has ended.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        // Both fail without effect if the child has been waited for.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

struct TarOut<'a> {
    out: BorrowedFd<'a>,
    buffer: Vec<u8>,
    progress: &'a dyn Fn(u64),
    growth: Growth<'a>,
}

/// Watches how the root image grows that `sqfstar` writes.
struct Growth<'a> {
    image: &'a Utf8Path,
    space: &'a SpaceBooking,
    /// Bytes of file data given to `sqfstar` since the image was measured.
    fed: u64,
    /// The size of the image when it was measured.
    known: u64,
}

impl Growth<'_> {
    /// Counts `n` bytes of file data that `sqfstar` is about to be given.
    fn feed(&mut self, n: u64) -> Result<()> {
        self.fed = self.fed.saturating_add(n);
        if self.fed < STEP {
            return Ok(());
        }
        self.fed = 0;
        // `sqfstar` makes the file after its start.
        let size = std::fs::metadata(self.image).map_or(0, |image| image.blocks() * 512);
        let grown = size.saturating_sub(self.known);
        self.known = self.known.max(size);
        self.space.write(grown, PURPOSE)
    }
}

impl TarOut<'_> {
    fn write(&mut self, tree: &Tree) -> Result<()> {
        let mut links = Links::count(tree);
        self.dir(tree, Tree::ROOT, &mut Vec::new(), &mut links)?;
        self.buffer.extend_from_slice(&[0; 1024]);
        self.flush()
    }

    fn dir(
        &mut self,
        tree: &Tree,
        dir: usize,
        path: &mut Vec<u8>,
        links: &mut Links,
    ) -> Result<()> {
        let Kind::Dir(children) = &tree.inode(dir).kind else { return Ok(()) };
        for (name, child) in children {
            let above = path.len();
            if above > 0 {
                path.push(b'/');
            }
            path.extend_from_slice(name);
            if path.len() > 4096 {
                return Err(Error::refused("a merged path is longer than 4096 bytes"));
            }
            match links.first(child.inode, path)? {
                Some(first) => {
                    self.entry(path, EntryType::Link, Some(first), &default_meta(), 0)?
                }
                None => self.inode(path, tree.inode(child.inode))?,
            }
            self.dir(tree, child.inode, path, links)?;
            path.truncate(above);
        }
        Ok(())
    }

    fn inode(&mut self, path: &[u8], inode: &Inode) -> Result<()> {
        let meta = &inode.meta;
        match &inode.kind {
            Kind::Dir(_) => self.entry(path, EntryType::Directory, None, meta, 0),
            Kind::Symlink(target) => self.entry(path, EntryType::Symlink, Some(target), meta, 0),
            Kind::Fifo => self.entry(path, EntryType::Fifo, None, meta, 0),
            Kind::Char(major, minor) => self.device(path, EntryType::Char, (*major, *minor), meta),
            Kind::Block(major, minor) => {
                self.device(path, EntryType::Block, (*major, *minor), meta)
            }
            Kind::File(data) => {
                self.entry(path, EntryType::Regular, None, meta, data.size())?;
                match data {
                    FileData::Dense(blob) => self.data(blob)?,
                    FileData::Sparse(sparse) => {
                        for (hole, blob) in sparse.parts() {
                            self.zeros(hole)?;
                            self.data(&blob)?;
                        }
                    }
                }
                self.pad(data.size());
                Ok(())
            }
        }
    }

    fn entry(
        &mut self,
        path: &[u8],
        kind: EntryType,
        link: Option<&[u8]>,
        meta: &Meta,
        size: u64,
    ) -> Result<()> {
        self.extensions(path, link, meta)?;
        let mut header = header(path, kind, meta, size);
        if let Some(link) = link {
            put(&mut header.as_old_mut().linkname, link);
        }
        self.header(header)
    }

    fn device(&mut self, path: &[u8], kind: EntryType, dev: (u32, u32), meta: &Meta) -> Result<()> {
        self.extensions(path, None, meta)?;
        let mut header = header(path, kind, meta, 0);
        let set = header.set_device_major(dev.0).and_then(|()| header.set_device_minor(dev.1));
        set.map_err(failed("write a device entry"))?;
        self.header(header)
    }

    fn header(&mut self, mut header: Header) -> Result<()> {
        header.set_cksum();
        self.buffer.extend_from_slice(header.as_bytes());
        if self.buffer.len() >= BUFFER { self.flush() } else { Ok(()) }
    }

    /// Writes pax records for what does not fit the header that follows.
    fn extensions(&mut self, path: &[u8], link: Option<&[u8]>, meta: &Meta) -> Result<()> {
        let mut records = Vec::new();
        if path.len() > 100 {
            record(&mut records, b"path", path);
        }
        if let Some(link) = link.filter(|link| link.len() > 100) {
            record(&mut records, b"linkpath", link);
        }
        for (name, value) in meta.xattrs.iter().flat_map(|xattrs| xattrs.iter()) {
            record(&mut records, &[b"SCHILY.xattr.", &name[..]].concat(), value);
        }
        if records.is_empty() {
            return Ok(());
        }
        let size = records.len() as u64;
        self.header(header(b"pax", EntryType::XHeader, &default_meta(), size))?;
        self.buffer.extend_from_slice(&records);
        self.pad(size);
        Ok(())
    }

    fn data(&mut self, blob: &Blob) -> Result<()> {
        if blob.len <= SMALL {
            let at = self.buffer.len();
            self.growth.feed(blob.len)?;
            self.buffer.resize(at + blob.len as usize, 0);
            let read = blob
                .read_at(&mut self.buffer[at..], 0)
                .map_err(failed("read an unpacked layer"))?;
            if read as u64 != blob.len {
                return Err(failure("an unpacked layer became shorter"));
            }
        } else {
            self.flush()?;
            self.send(blob)?;
        }
        (self.progress)(blob.len);
        if self.buffer.len() >= BUFFER { self.flush() } else { Ok(()) }
    }

    /// The hole of a sparse file; sqfstar stores no blocks of zeros.
    fn zeros(&mut self, mut n: u64) -> Result<()> {
        while n > 0 {
            let now = n.min(BUFFER as u64);
            self.buffer.resize(self.buffer.len() + now as usize, 0);
            self.flush()?;
            n -= now;
        }
        Ok(())
    }

    /// Copies from file to pipe within the kernel.
    fn send(&mut self, blob: &Blob) -> Result<()> {
        let (mut at, end) = (blob.start, blob.start + blob.len);
        while at < end {
            let n = (end - at).min(STEP);
            self.growth.feed(n)?;
            let n = n as usize;
            match rustix::fs::sendfile(self.out, &blob.file, Some(&mut at), n) {
                Ok(0) => return Err(failure("an unpacked layer became shorter")),
                Ok(_) | Err(rustix::io::Errno::INTR) => {}
                Err(err) => return Err(failed("write to sqfstar")(err.into())),
            }
        }
        Ok(())
    }

    fn pad(&mut self, size: u64) {
        let padding = (size.next_multiple_of(512) - size) as usize;
        self.buffer.resize(self.buffer.len() + padding, 0);
    }

    fn flush(&mut self) -> Result<()> {
        let mut rest = &self.buffer[..];
        while !rest.is_empty() {
            match rustix::io::write(self.out, rest) {
                Ok(n) => rest = &rest[n..],
                Err(rustix::io::Errno::INTR) => {}
                Err(err) => return Err(failed("write to sqfstar")(err.into())),
            }
        }
        self.buffer.clear();
        Ok(())
    }
}

fn default_meta() -> Meta {
    Meta { mode: 0o644, ..Meta::default() }
}

fn header(path: &[u8], kind: EntryType, meta: &Meta, size: u64) -> Header {
    let mut header = Header::new_gnu();
    put(&mut header.as_old_mut().name, path);
    header.set_entry_type(kind);
    header.set_mode(meta.mode);
    header.set_uid(meta.uid.into());
    header.set_gid(meta.gid.into());
    header.set_mtime(meta.mtime.into());
    header.set_size(size);
    header
}

/// Copies what fits; the whole is in a pax record if it does not fit.
fn put(field: &mut [u8], bytes: &[u8]) {
    let n = bytes.len().min(field.len());
    field[..n].copy_from_slice(&bytes[..n]);
}

/// `<length> <key>=<value>\n`, where the length counts its own digits.
pub(crate) fn record(out: &mut Vec<u8>, key: &[u8], value: &[u8]) {
    let rest = key.len() + value.len() + 3;
    let mut len = rest + 1;
    while len != rest + len.to_string().len() {
        len = rest + len.to_string().len();
    }
    // Writing to a vector cannot fail.
    let _ = write!(out, "{len} ");
    out.extend_from_slice(key);
    out.push(b'=');
    out.extend_from_slice(value);
    out.push(b'\n');
}

/// Inodes with several names, and the name each was first written under.
struct Links {
    names: Vec<u32>,
    first: HashMap<usize, Vec<u8>>,
    metadata: MetadataBudget,
}

impl Links {
    fn count(tree: &Tree) -> Self {
        let metadata = tree.metadata().clone();
        let mut links = Self { names: vec![0; tree.inodes()], first: HashMap::new(), metadata };
        let mut todo = vec![Tree::ROOT];
        while let Some(dir) = todo.pop() {
            let Kind::Dir(children) = &tree.inode(dir).kind else { continue };
            for child in children.values() {
                links.names[child.inode] += 1;
                todo.push(child.inode);
            }
        }
        links
    }

    /// The name under which the inode has been written, if it has.
    fn first(&mut self, inode: usize, path: &[u8]) -> Result<Option<&[u8]>> {
        if self.names[inode] < 2 {
            return Ok(None);
        }
        match self.first.entry(inode) {
            std::collections::hash_map::Entry::Occupied(known) => Ok(Some(known.into_mut())),
            std::collections::hash_map::Entry::Vacant(new) => {
                self.metadata.charge(path.len())?;
                new.insert(path.to_vec());
                Ok(None)
            }
        }
    }
}
