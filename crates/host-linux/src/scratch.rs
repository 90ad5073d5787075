//! Scratch disks: the writable ext4 image of each boot, made in milliseconds.
//!
//! `mkfs.ext4` runs once per size and leaves a template in the directory. A
//! disk is a reflink of it where the file system can do that, else a copy of
//! the few hundred KiB that are not holes, made beforehand if possible (see
//! `spares`). All disks of a size have one UUID; each is seen by one guest alone.

use crate::spares::{self, Spares};
use camino::{Utf8Path, Utf8PathBuf};
use rustix::fs::{FallocateFlags, OFlags, SeekFrom};
use rustix::io::Errno;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use worker::ports::PortError;

/// Below this, ext4 has no room for a journal.
const MIN_BYTES: u64 = 16 << 20;
/// Sizes are rounded up to whole MiB, so that few templates do.
const ROUND: u64 = 1 << 20;

/// Makes scratch disks from templates in one directory.
#[derive(Clone, Debug)]
pub struct ScratchDisks {
    templates: Utf8PathBuf,
    /// One `mkfs` at a time: whoever waits finds the template made.
    making: Arc<Mutex<()>>,
    spares: Arc<Spares>,
}

/// A disk that was made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ScratchDisk {
    /// Its size as the guest sees it.
    pub size: u64,
    /// Bytes the host's file system has set aside for it so far. A reflink
    /// counts in full though it shares them.
    pub allocated: u64,
    /// It shares its blocks with the template.
    pub reflinked: bool,
}

impl ScratchDisks {
    /// Templates are kept in `dir`, which is made if needed; remains of
    /// interrupted work in it are removed.
    ///
    /// # Errors
    /// The directory cannot be made or read.
    pub fn open(dir: &Utf8Path) -> Result<Self, PortError> {
        let failed = |err| PortError::new(format!("open the scratch templates in {dir}"), err);
        fs::create_dir_all(dir).map_err(failed)?;
        for entry in dir.read_dir_utf8().map_err(failed)? {
            let entry = entry.map_err(failed)?;
            if [".template-", spares::PREFIX].iter().any(|part| entry.file_name().starts_with(part))
            {
                fs::remove_file(entry.path()).map_err(failed)?;
            }
        }
        let (making, spares) = (Arc::default(), Arc::default());
        Ok(Self { templates: dir.to_owned(), making, spares })
    }

    /// Makes the disk at `path`, which replaces any file there once it is
    /// whole. `size` is rounded up to MiB, at least 16 of them.
    ///
    /// It is not synced: a disk that a power cut damaged belongs to a boot that
    /// the same cut ended.
    ///
    /// # Errors
    /// No space, no `mkfs.ext4`, no permission. Nothing is left at `path` then.
    pub async fn create(&self, path: &Utf8Path, size: u64) -> Result<ScratchDisk, PortError> {
        let (disks, path) = (self.clone(), path.to_owned());
        let attempted = format!("make scratch disk {path}");
        let size = size.max(MIN_BYTES).next_multiple_of(ROUND);
        let made = tokio::task::spawn_blocking(move || disks.create_blocking(&path, size))
            .await
            .map_err(|err| PortError::new(attempted, err))??;
        if !made.reflinked {
            let disks = self.clone();
            // Nobody waits for it, and nothing is lost if it ends half-way.
            drop(tokio::task::spawn_blocking(move || disks.spares.refill(&disks.path_of(size))));
        }
        Ok(made)
    }

    fn create_blocking(&self, path: &Utf8Path, size: u64) -> Result<ScratchDisk, PortError> {
        let template = self.template(size)?;
        let temp = Utf8PathBuf::from(format!("{path}.new"));
        let made = match self.spares.take(&template, path) {
            true => Ok(false),
            false => clone_file(&template, &temp)
                .and_then(|reflinked| fs::rename(&temp, path).map(|()| reflinked)),
        };
        let made = made.and_then(|reflinked| {
            let allocated = fs::metadata(path)?.blocks() * 512;
            Ok(ScratchDisk { size, allocated, reflinked })
        });
        made.map_err(|err| {
            // Best effort: the error that matters is the one that led here.
            let _ = fs::remove_file(&temp);
            PortError::new(format!("make scratch disk {path}{}", space_hint(&err)), err)
        })
    }

    fn path_of(&self, size: u64) -> Utf8PathBuf {
        self.templates.join(format!("template-{}m.ext4", size / ROUND))
    }

    /// The template of a size; made if it is not there.
    fn template(&self, size: u64) -> Result<Utf8PathBuf, PortError> {
        let path = self.path_of(size);
        // A panic of another maker leaves no state but its temporary file.
        let _turn = self.making.lock().unwrap_or_else(PoisonError::into_inner);
        if path.exists() {
            return Ok(path);
        }
        let temp = self.templates.join(format!(".template-{}m.tmp", size / ROUND));
        let made = make_template(&temp, size).and_then(|()| {
            let publish = || {
                File::open(&temp)?.sync_all()?;
                fs::rename(&temp, &path)?;
                rt::fs::sync_dir(self.templates.as_std_path())
            };
            publish().map_err(|err| {
                PortError::new(format!("make template {path}{}", space_hint(&err)), err)
            })
        });
        if made.is_err() {
            let _ = fs::remove_file(&temp);
        }
        made.map(|()| path)
    }
}

fn make_template(path: &Utf8Path, size: u64) -> Result<(), PortError> {
    let attempted = |err: &io::Error| format!("make template {path}{}", space_hint(err));
    let file = create_file(path).map_err(|err| PortError::new(attempted(&err), err))?;
    file.set_len(size).map_err(|err| PortError::new(attempted(&err), err))?;
    // The file is all holes, so the inode tables need not be zeroed, neither
    // here nor by the guest later. Before e2fsprogs 1.47 the guest does it.
    let said = mkfs(path, "assume_storage_prezeroed=1")?;
    let said = match said {
        Some(_) => mkfs(path, "lazy_itable_init=1,lazy_journal_init=1")?,
        None => None,
    };
    match said {
        Some(said) => Err(PortError::plain(format!("make template {path}: mkfs.ext4: {said}"))),
        None => Ok(()),
    }
}

/// Runs `mkfs.ext4`; returns its complaint if it failed.
fn mkfs(path: &Utf8Path, extended: &str) -> Result<Option<String>, PortError> {
    // No growing later, hence no resize inode; no blocks kept for root, who
    // is whoever the image says.
    let output = Command::new("mkfs.ext4")
        .args(["-q", "-F", "-m", "0", "-O", "^resize_inode", "-L", "scratch"])
        .args(["-E", &format!("{extended},nodiscard,root_owner=0:0")])
        .arg(path)
        .stdin(Stdio::null())
        .output()
        .map_err(|err| PortError::new("run mkfs.ext4 (install the package e2fsprogs)", err))?;
    let said = String::from_utf8_lossy(&output.stderr);
    Ok((!output.status.success()).then(|| said.trim().chars().take(400).collect()))
}

/// Copies a sparse file, sharing its blocks if possible. Says whether it did.
pub(crate) fn clone_file(from: &Utf8Path, to: &Utf8Path) -> io::Result<bool> {
    let source = File::open(from)?;
    let target = create_file(to)?;
    match rustix::fs::ioctl_ficlone(&target, &source) {
        Ok(()) => return Ok(true),
        // What file systems say that cannot, or not between these two.
        Err(Errno::OPNOTSUPP | Errno::XDEV | Errno::NOTTY | Errno::INVAL | Errno::NOSYS) => {}
        Err(err) => return Err(err.into()),
    }
    copy_data(&source, &target)?;
    Ok(false)
}

/// Copies what is not a hole.
fn copy_data(source: &File, target: &File) -> io::Result<()> {
    let size = source.metadata()?.len();
    target.set_len(size)?;
    let mut end = 0;
    while end < size {
        let start = match rustix::fs::seek(source, SeekFrom::Data(end)) {
            Ok(start) => start,
            // No data behind: the rest is a hole.
            Err(Errno::NXIO) => break,
            Err(err) => return Err(err.into()),
        };
        end = rustix::fs::seek(source, SeekFrom::Hole(start))?;
        copy_range(source, target, start, end)?;
    }
    Ok(())
}

fn copy_range(source: &File, target: &File, start: u64, end: u64) -> io::Result<()> {
    let (mut from, mut to) = (start, start);
    while from < end {
        let want = usize::try_from(end - from).unwrap_or(usize::MAX);
        match rustix::fs::copy_file_range(source, Some(&mut from), target, Some(&mut to), want) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(_) => {}
            // Two file systems, or one that cannot.
            Err(Errno::XDEV | Errno::OPNOTSUPP | Errno::NOSYS | Errno::INVAL) => {
                return copy_bytes(source, target, from, end);
            }
            Err(err) => return Err(err.into()),
        }
    }
    Ok(())
}

fn copy_bytes(source: &File, target: &File, start: u64, end: u64) -> io::Result<()> {
    let mut buffer = vec![0; 128 << 10];
    let mut at = start;
    while at < end {
        let want = usize::try_from(end - at).map_or(buffer.len(), |left| left.min(buffer.len()));
        source.read_exact_at(&mut buffer[..want], at)?;
        target.write_all_at(&buffer[..want], at)?;
        at += want as u64;
    }
    Ok(())
}

/// Only root reads what guests wrote; the VM gets it opened or handed over.
fn create_file(path: &Utf8Path) -> io::Result<File> {
    let mut options = File::options();
    options.read(true).write(true).create(true).truncate(true).mode(0o600);
    options.custom_flags(OFlags::NOFOLLOW.bits().cast_signed()).open(path)
}

/// Bytes free for `dir`'s owner, and whether files in it can be reflinked.
pub(crate) fn probe(dir: &Utf8Path) -> io::Result<(u64, bool)> {
    let free = probe_space(dir)?;
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

/// Bytes free for `dir`'s owner.
pub(crate) fn probe_space(dir: &Utf8Path) -> io::Result<u64> {
    let space = rustix::fs::statvfs(dir.as_str())?;
    Ok(space.f_bavail.saturating_mul(space.f_frsize))
}

fn space_hint(err: &io::Error) -> &'static str {
    match err.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
            " (the disk is full: free some space, or move the data directory)"
        }
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Seek, Write};

    fn runtime() -> tokio::runtime::Runtime {
        tokio::runtime::Builder::new_current_thread().build().unwrap()
    }

    fn fsck(path: &Utf8Path) {
        let output = Command::new("e2fsck").args(["-fn", path.as_str()]).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
    }

    #[test]
    fn disks_are_whole_sparse_and_apart() {
        let dir = tempfile::tempdir().unwrap();
        let dir = Utf8Path::from_path(dir.path()).unwrap();
        fs::create_dir(dir.join("t")).unwrap();
        fs::write(dir.join("t/.template-9m.tmp"), "interrupted").unwrap();
        let disks = ScratchDisks::open(&dir.join("t")).unwrap();
        let (a, b) = (dir.join("a"), dir.join("b"));
        fs::write(&b, "an earlier boot's").unwrap();
        let made = runtime().block_on(async {
            let made = disks.create(&a, (1 << 30) - 5).await.unwrap();
            disks.create(&b, 1 << 30).await.unwrap();
            made
        });
        assert_eq!(made.size, 1 << 30);
        assert!(made.allocated < 8 << 20, "{made:?}");
        fsck(&a);
        let mut file = File::options().write(true).open(&a).unwrap();
        file.seek(io::SeekFrom::Start(1024)).unwrap();
        file.write_all(&[7; 1024]).unwrap();
        fsck(&b);
        let names = dir.join("t").read_dir_utf8().unwrap();
        let mut names: Vec<_> = names.map(|entry| entry.unwrap().file_name().to_owned()).collect();
        names.retain(|name| !name.starts_with(spares::PREFIX));
        assert_eq!(names, ["template-1024m.ext4"]);
    }

    #[test]
    fn the_smallest_disk_is_valid() {
        let dir = tempfile::tempdir().unwrap();
        let dir = Utf8Path::from_path(dir.path()).unwrap();
        let disks = ScratchDisks::open(dir).unwrap();
        let made = runtime().block_on(disks.create(&dir.join("a"), 0)).unwrap();
        assert_eq!(made.size, MIN_BYTES);
        fsck(&dir.join("a"));
    }

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
        copy_data(&source, &target).unwrap();
        let mut bytes = Vec::new();
        target.read_to_end(&mut bytes).unwrap();
        assert_eq!(bytes.len(), 64 << 20);
        assert!(bytes == fs::read(dir.join("s")).unwrap());
        assert!(target.metadata().unwrap().blocks() * 512 < 1 << 20);
    }

    #[test]
    fn a_failure_says_what_was_attempted_and_leaves_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let dir = Utf8Path::from_path(dir.path()).unwrap();
        let disks = ScratchDisks::open(&dir.join("t")).unwrap();
        // A directory cannot be replaced by a file.
        fs::create_dir(dir.join("d")).unwrap();
        let err = runtime().block_on(disks.create(&dir.join("d"), 0)).unwrap_err();
        assert!(rt::chain(&err).contains("make scratch disk"), "{}", rt::chain(&err));
        assert!(!dir.join("d.new").exists());
        // Larger than any file may be.
        let err = runtime().block_on(disks.create(&dir.join("e"), 1 << 62)).unwrap_err();
        assert!(rt::chain(&err).contains("make template"), "{}", rt::chain(&err));
        assert_eq!(dir.join("t").read_dir_utf8().unwrap().count(), 1);
    }
}
