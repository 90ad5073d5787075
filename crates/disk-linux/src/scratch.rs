//! Scratch disks: the writable ext4 image of each boot, made in milliseconds.
//!
//! `mkfs.ext4` runs once per size and leaves a template in the directory. A
//! disk is a reflink of the template where the file system supports that, else a
//! copy of the few hundred KiB that are not holes, made in advance if possible
//! (see `disk_pool`). All disks of a size have one UUID; no guest sees two of them.

use crate::deadline::Deadline;
use crate::disk_pool::{self, DiskPool};
use crate::mkfs::{Purpose, mkfs};
use crate::reflink::{clone_file, create_file};
use camino::{Utf8Path, Utf8PathBuf};
use rustix::fs::{AtFlags, CWD, Timespec, Timestamps, UTIME_NOW, UTIME_OMIT, utimensat};
use std::collections::HashMap;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use worker::ports::PortError;

/// Below this, ext4 has no room for a journal.
const MIN_BYTES: u64 = 16 << 20;
/// Sizes are rounded up to whole MiB, so that few templates are needed.
const ROUND: u64 = 1 << 20;
/// Names of templates begin with this.
const TEMPLATE: &str = "template-";
/// Templates that stay when the directory is opened: the last used ones.
const KEPT_TEMPLATES: usize = 16;
/// A disk that takes longer than this is not made. Usual is 1 to 100 ms.
const CREATE_TIMEOUT: Duration = Duration::from_secs(60);

/// Makes scratch disks from templates in one directory.
#[derive(Clone, Debug)]
pub struct ScratchDisks {
    templates: Utf8PathBuf,
    /// A lock per size, held while its template is made, so that `mkfs` runs once
    /// and disks of other sizes do not wait for it.
    making: Arc<Mutex<HashMap<u64, Arc<Mutex<()>>>>>,
    pool: Arc<DiskPool>,
}

/// A disk that was made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ScratchDisk {
    /// Size in bytes as the guest sees it.
    pub size: u64,
    /// Bytes that the host's file system has allocated to the file. Blocks that a
    /// reflink shares are counted too.
    pub allocated: u64,
    /// The file shares its blocks with the template.
    pub reflinked: bool,
}

impl ScratchDisks {
    /// Keeps templates in `dir`, which is created if needed. Temporary files of an
    /// earlier process in it are removed, and templates but the last used.
    ///
    /// # Errors
    /// The directory cannot be created or read.
    pub fn open(dir: &Utf8Path) -> Result<Self, PortError> {
        let failed = |err| PortError::new(format!("open the scratch templates in {dir}"), err);
        fs::create_dir_all(dir).map_err(failed)?;
        let mut templates = Vec::new();
        for entry in dir.read_dir_utf8().map_err(failed)? {
            let entry = entry.map_err(failed)?;
            let is = |part: &&str| entry.file_name().starts_with(*part);
            if [".template-", disk_pool::PREFIX].iter().any(is) {
                fs::remove_file(entry.path()).map_err(failed)?;
            } else if is(&TEMPLATE) {
                let used = entry.metadata().and_then(|file| file.modified()).map_err(failed)?;
                templates.push((used, entry.into_path()));
            }
        }
        templates.sort_by(|a, b| b.cmp(a));
        for (_, unused) in templates.iter().skip(KEPT_TEMPLATES) {
            fs::remove_file(unused).map_err(failed)?;
        }
        let (making, pool) = (Arc::default(), Arc::default());
        Ok(Self { templates: dir.to_owned(), making, pool })
    }

    /// Makes a disk at `path`; it replaces a file there when it is complete. `size`
    /// in bytes is rounded up to MiB, at least 16 of them.
    ///
    /// The disk is not synced: a power cut also ends the boot that it belongs to. One that
    /// outlives its boot is made by [`ScratchDisks::create_kept`].
    ///
    /// # Errors
    /// No space, no `mkfs.ext4`, no permission, or not done within 60 seconds.
    /// `path` is unchanged or absent then.
    pub async fn create(&self, path: &Utf8Path, size: u64) -> Result<ScratchDisk, PortError> {
        self.create_as(path, size, false).await
    }

    /// The same, for a disk that later boots use: it is whole and on stable storage before
    /// it has its name, so that a power cut leaves none that only seems to be one.
    ///
    /// # Errors
    /// As of [`ScratchDisks::create`].
    pub async fn create_kept(&self, path: &Utf8Path, size: u64) -> Result<ScratchDisk, PortError> {
        self.create_as(path, size, true).await
    }

    async fn create_as(
        &self,
        path: &Utf8Path,
        size: u64,
        kept: bool,
    ) -> Result<ScratchDisk, PortError> {
        let (disks, path) = (self.clone(), path.to_owned());
        let attempted = format!("make scratch disk {path}");
        let size = size.max(MIN_BYTES).next_multiple_of(ROUND);
        let deadline = Deadline::after(CREATE_TIMEOUT);
        let made = tokio::task::spawn_blocking(move || disks.make(&path, size, kept, &deadline))
            .await
            .map_err(|err| PortError::new(attempted, err))??;
        if !made.reflinked && !kept {
            let disks = self.clone();
            // In the background; a temporary file is removed at the next start.
            drop(tokio::task::spawn_blocking(move || disks.pool.refill(&disks.path_of(size))));
        }
        Ok(made)
    }

    fn make(
        &self,
        path: &Utf8Path,
        size: u64,
        kept: bool,
        deadline: &Deadline,
    ) -> Result<ScratchDisk, PortError> {
        let template = self.template(size, deadline)?;
        let temp = Utf8PathBuf::from(format!("{path}.new"));
        let publish = |reflinked| {
            if kept {
                File::open(&temp)?.sync_all()?;
            }
            fs::rename(&temp, path)?;
            if let Some(dir) = path.parent().filter(|_| kept) {
                rt::fs::sync_dir(dir.as_std_path())?;
            }
            Ok(reflinked)
        };
        // Those of the pool are not synced.
        let made = match !kept && self.pool.take(&template, path) {
            true => Ok(false),
            false => clone_file(&template, &temp, deadline).and_then(publish),
        };
        let made = made.and_then(|reflinked| {
            let allocated = fs::metadata(path)?.blocks() * 512;
            Ok(ScratchDisk { size, allocated, reflinked })
        });
        made.map_err(|err| {
            // Best effort: the error to report is the one that led here.
            let _ = fs::remove_file(&temp);
            PortError::new(format!("make scratch disk {path}{}", space_hint(&err)), err)
        })
    }

    /// The lock of a size. Locks that are neither held nor awaited are removed.
    fn lock_of(&self, size: u64) -> Arc<Mutex<()>> {
        let mut locks = self.making.lock().unwrap_or_else(PoisonError::into_inner);
        locks.retain(|_, lock| Arc::strong_count(lock) > 1);
        Arc::clone(locks.entry(size).or_default())
    }

    fn path_of(&self, size: u64) -> Utf8PathBuf {
        self.templates.join(format!("{TEMPLATE}{}m.ext4", size / ROUND))
    }

    /// The template of a size; made if it does not exist.
    fn template(&self, size: u64, deadline: &Deadline) -> Result<Utf8PathBuf, PortError> {
        let path = self.path_of(size);
        if note_use(&path) {
            return Ok(path);
        }
        let lock = self.lock_of(size);
        // A panic of another thread leaves no state but its temporary file.
        let _guard = lock.lock().unwrap_or_else(PoisonError::into_inner);
        if note_use(&path) {
            return Ok(path);
        }
        deadline.check().map_err(|err| {
            PortError::new(format!("wait for another to make template {path}"), err).transient()
        })?;
        let temp = self.templates.join(format!(".template-{}m.tmp", size / ROUND));
        let made = make_template(&temp, size, deadline).and_then(|()| {
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

/// Whether the template exists. Its modification time is that of its last use.
fn note_use(path: &Utf8Path) -> bool {
    let time = |tv_nsec| Timespec { tv_sec: 0, tv_nsec };
    let now = Timestamps { last_access: time(UTIME_OMIT), last_modification: time(UTIME_NOW) };
    let noted = utimensat(CWD, path.as_std_path(), &now, AtFlags::empty());
    noted.is_ok() || path.exists()
}

fn make_template(path: &Utf8Path, size: u64, deadline: &Deadline) -> Result<(), PortError> {
    let made = create_file(path).and_then(|file| file.set_len(size));
    made.map_err(|err| PortError::new(format!("make template {path}{}", space_hint(&err)), err))?;
    mkfs("mkfs.ext4", path, Purpose::Scratch, deadline)
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
    use std::io::{Seek, Write};
    use std::process::Command;

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
            disks.create_kept(&dir.join("kept"), 1 << 30).await.unwrap();
            made
        });
        assert_eq!(made.size, 1 << 30);
        assert!(made.allocated < 8 << 20, "{made:?}");
        fsck(&a);
        let mut file = File::options().write(true).open(&a).unwrap();
        file.seek(io::SeekFrom::Start(1024)).unwrap();
        file.write_all(&[7; 1024]).unwrap();
        fsck(&b);
        fsck(&dir.join("kept"));
        let names = dir.join("t").read_dir_utf8().unwrap();
        let mut names: Vec<_> = names.map(|entry| entry.unwrap().file_name().to_owned()).collect();
        names.retain(|name| !name.starts_with(disk_pool::PREFIX));
        assert_eq!(names, ["template-1024m.ext4"]);
    }

    #[test]
    fn a_template_that_is_being_made_keeps_no_other_size_waiting() {
        let dir = tempfile::tempdir().unwrap();
        let dir = Utf8Path::from_path(dir.path()).unwrap();
        let disks = ScratchDisks::open(&dir.join("t")).unwrap();
        runtime().block_on(disks.create(&dir.join("first"), 16 << 20)).unwrap();
        let locks = [16 << 20, 17 << 20].map(|size| disks.lock_of(size));
        let held = locks.each_ref().map(|lock| lock.lock().unwrap());
        // One whose template exists, and one that needs another template.
        for (name, mib) in [("again", 16), ("other", 18)] {
            runtime().block_on(disks.create(&dir.join(name), mib << 20)).unwrap();
        }
        // One of the locked size waits no longer than its deadline once it is free.
        let late = disks.clone();
        let waiter = std::thread::spawn(move || {
            late.template(17 << 20, &Deadline::after(Duration::ZERO)).unwrap_err()
        });
        drop(held);
        let err = waiter.join().unwrap();
        assert!(err.transient && err.to_string().starts_with("wait for another"), "{err}");
    }

    #[test]
    fn only_the_last_used_templates_stay_when_the_directory_is_opened() {
        let dir = tempfile::tempdir().unwrap();
        let dir = Utf8Path::from_path(dir.path()).unwrap();
        let second = |n| std::time::UNIX_EPOCH + Duration::from_secs(n);
        for n in 1..=KEPT_TEMPLATES as u64 + 3 {
            let template = File::create(dir.join(format!("template-{n}m.ext4"))).unwrap();
            template.set_modified(second(n)).unwrap();
        }
        // The oldest is used again.
        assert!(note_use(&dir.join("template-1m.ext4")));
        assert!(!note_use(&dir.join("template-99m.ext4")));
        ScratchDisks::open(dir).unwrap();
        let there = |n: u64| dir.join(format!("template-{n}m.ext4")).exists();
        let gone: Vec<_> = (1..=KEPT_TEMPLATES as u64 + 3).filter(|n| !there(*n)).collect();
        assert_eq!(gone, [2, 3, 4]);
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
    fn a_failure_has_what_was_attempted_and_leaves_nothing() {
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
