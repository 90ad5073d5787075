//! Writing a snapshot of a VM.

use crate::jail::spec::Fd;
use crate::memory::{self, PrivatePages};
use crate::platform::Platform;
use crate::process::boot_dir::{Description, ok_if_absent};
use crate::snapshot::manifest::{
    DiskIdentity, Identity, MANIFEST, Manifest, RAM, STATE, VERSION, invalidate,
};
use camino::{Utf8Path, Utf8PathBuf};
use model::id::BootId;
use rustix::fs::{Mode, OFlags};
use sha2::{Digest as _, Sha256};
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use tokio_util::sync::CancellationToken;

/// Bytes that a suspend leaves free on the disk.
const LEFT_FREE: u64 = 64 << 20;

/// The memory that a running VM was handed. The VM may have been taken over and
/// put anything there: opening must not wait, and only a file counts.
fn memory_of(pid: u32) -> io::Result<File> {
    let path = format!("/proc/{pid}/fd/{}", Fd::Ram.number());
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let file = File::from(rustix::fs::open(path, flags, Mode::empty())?);
    match file.metadata()?.is_file() {
        true => Ok(file),
        false => Err(io::Error::other("the descriptor of the guest's memory is not a file")),
    }
}

/// A snapshot that is being written.
#[derive(Debug)]
pub(crate) struct Draft {
    dir: Utf8PathBuf,
    source: File,
    private_pages: PrivatePages,
    target: File,
}

impl Draft {
    /// Everything that can be done while the guest runs: room is made sure of,
    /// and what it shares with others is copied. Blocks.
    ///
    /// # Errors
    /// No room; the process has gone; `Interrupted` if `cancel` was called.
    pub(crate) fn begin(dir: &Utf8Path, pid: u32, cancel: &CancellationToken) -> io::Result<Self> {
        fs::DirBuilder::new().recursive(true).mode(0o700).create(dir)?;
        invalidate(dir)?;
        let source = memory_of(pid)?;
        let private_pages = PrivatePages::find(pid, &source)?;
        let (path, mapped) = (dir.join(RAM), source.metadata()?);
        let same = |found: fs::Metadata| (found.dev(), found.ino()) == (mapped.dev(), mapped.ino());
        let own = private_pages.bytes()?;
        let in_place = fs::metadata(&path).is_ok_and(same);
        let shared_bytes = if in_place { 0 } else { mapped.blocks() * 512 };
        ensure_room(dir, own + shared_bytes)?;
        if in_place {
            let target = File::options().read(true).write(true).open(&path)?;
            return Ok(Self { dir: dir.to_owned(), source, private_pages, target });
        }
        ok_if_absent(fs::remove_file(&path))?;
        let mut options = File::options();
        let target = options.read(true).write(true).create_new(true).mode(0o600).open(&path)?;
        target.set_len(mapped.len())?;
        if !private_pages.is_shared() {
            memory::copy(&source, &target, cancel)?;
            // Written once more when the VM is paused; by then the file's pages are
            // there, and writing to them takes half the time.
            private_pages.write_to(&target, cancel)?;
        }
        Ok(Self { dir: dir.to_owned(), source, private_pages, target })
    }

    /// Where the device state goes: open for writing alone, as QEMU wants it.
    pub(crate) fn state_file(&self) -> io::Result<File> {
        let mut options = File::options();
        options.write(true).create(true).truncate(true).mode(0o600);
        options.open(self.dir.join(STATE))
    }

    /// Writes the pages that the guest has written to. The VM must be paused. Blocks; returns
    /// the bytes written.
    ///
    /// # Errors
    /// No room; the process has gone; `Interrupted` if `cancel` was called.
    pub(crate) fn write_memory(&self, cancel: &CancellationToken) -> io::Result<u64> {
        match self.private_pages.is_shared() {
            true => memory::copy(&self.source, &self.target, cancel),
            false => self.private_pages.write_to(&self.target, cancel),
        }
    }

    /// Makes it all durable, the guest's disks too, and then a snapshot of it.
    /// Blocks.
    ///
    /// # Errors
    /// The disk is full or broken; there is no snapshot then.
    pub(crate) fn finish(
        &self,
        platform: &Platform,
        boot: BootId,
        note: String,
        vm: Description,
    ) -> io::Result<()> {
        self.target.sync_all()?;
        let state = File::open(self.dir.join(STATE))?;
        state.sync_all()?;
        let (root, scratch) = (File::open(&vm.root)?, File::open(&vm.scratch)?);
        let images = vm.images.iter().map(|image| DiskIdentity::of(&File::open(image)?));
        let images = images.collect::<io::Result<_>>()?;
        scratch.sync_all()?;
        let volumes = vm.volumes.iter().map(|volume| {
            let volume = File::open(volume)?;
            volume.sync_all()?;
            DiskIdentity::of(&volume)
        });
        let volumes = volumes.collect::<io::Result<_>>()?;
        let manifest = Manifest {
            version: VERSION,
            boot: boot.to_string(),
            note,
            platform: platform.properties().clone(),
            vm,
            ram: Identity::of(&self.target)?,
            ram_sum: memory::digest(&self.target)?,
            state_sum: hex::encode(Sha256::digest(fs::read(self.dir.join(STATE))?)),
            root: DiskIdentity::of(&root)?,
            scratch: DiskIdentity::of(&scratch)?,
            images,
            volumes,
        };
        let text = serde_json::to_vec_pretty(&manifest)?;
        rt::fs::write_atomic(self.dir.join(MANIFEST).as_std_path(), &text, 0o600)
    }
}

/// Refuses for lack of space before the VM is paused.
fn ensure_room(dir: &Utf8Path, bytes: u64) -> io::Result<()> {
    let space = rustix::fs::statvfs(dir.as_str())?;
    let free = space.f_bavail.saturating_mul(space.f_frsize);
    if free >= bytes + LEFT_FREE {
        return Ok(());
    }
    let text = format!(
        "the disk of {dir} has no room: {} MiB are to be written, {} MiB are free, and {} MiB \
         are to stay free",
        bytes >> 20,
        free >> 20,
        LEFT_FREE >> 20
    );
    Err(io::Error::new(io::ErrorKind::StorageFull, text))
}
