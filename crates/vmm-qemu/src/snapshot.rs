//! A guest that was written down: a directory of three files.
//!
//! `ram` is its whole memory, sparse; `state` is its processor and devices;
//! `manifest.json` says what belongs together and is written last, durably, so
//! there is a snapshot exactly when there is a manifest. `ram` outlives a resume:
//! the resumed VM maps it privately, and what it writes is written back into the
//! same file by the next suspend, which therefore costs what was touched since.

use crate::bootdir::Description;
use crate::jail::Fd;
use crate::memory::{self, Digest, Touched};
use crate::platform::{Platform, hex};
use camino::{Utf8Path, Utf8PathBuf};
use model::id::BootId;
use rustix::fs::{Mode, OFlags};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use tokio_util::sync::CancellationToken;
use worker::ports::{BootSpec, PortError, Snapshot};

const MANIFEST: &str = "manifest.json";
const RAM: &str = "ram";
const STATE: &str = "state";
/// Version of the manifest.
const VERSION: u32 = 1;
/// A device state is tens of kilobytes.
const STATE_MAX: u64 = 16 << 20;
/// Bytes that a suspend leaves free on the disk.
const LEFT_FREE: u64 = 64 << 20;

#[derive(Debug, Serialize, Deserialize)]
struct Manifest {
    version: u32,
    boot: String,
    note: String,
    platform: BTreeMap<String, String>,
    vm: Description,
    ram: Identity,
    ram_sum: Digest,
    state_sum: String,
    root: DiskIdentity,
    scratch: DiskIdentity,
}

/// A file as it was: while this is the same, nobody has written to it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Identity {
    inode: u64,
    len: u64,
    changed: (i64, i64),
}

/// A disk as the guest left it. It may have been moved, not written to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct DiskIdentity {
    len: u64,
    modified: (i64, i64),
}

impl Identity {
    fn of(file: &File) -> io::Result<Self> {
        let found = file.metadata()?;
        let changed = (found.ctime(), found.ctime_nsec());
        Ok(Self { inode: found.ino(), len: found.len(), changed })
    }
}

impl DiskIdentity {
    fn of(file: &File) -> io::Result<Self> {
        let found = file.metadata()?;
        Ok(Self { len: found.len(), modified: (found.mtime(), found.mtime_nsec()) })
    }
}

/// The snapshot in `dir`, if its manifest is there and can be read.
pub(crate) fn find(dir: &Utf8Path) -> Option<Snapshot> {
    let manifest = read(dir).ok()?;
    Some(Snapshot { boot: manifest.boot.parse().ok()?, note: manifest.note })
}

fn read(dir: &Utf8Path) -> io::Result<Manifest> {
    let manifest: Manifest = serde_json::from_slice(&fs::read(dir.join(MANIFEST))?)?;
    match manifest.version {
        VERSION => Ok(manifest),
        other => Err(io::Error::other(format!("its manifest has version {other}"))),
    }
}

/// Makes that there is no snapshot in `dir`, durably. The rest of it stays.
pub(crate) fn invalidate(dir: &Utf8Path) -> io::Result<()> {
    match fs::remove_file(dir.join(MANIFEST)) {
        Err(err) if err.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(err) => Err(err),
        Ok(()) => rt::fs::sync_dir(dir.as_std_path()),
    }
}

/// The memory that a running VM was handed. The VM may have been taken over and
/// put anything there: opening must not wait, and only a file counts.
fn memory_of(pid: u32) -> io::Result<File> {
    let path = format!("/proc/{pid}/fd/{}", Fd::Ram as i32);
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let file = File::from(rustix::fs::open(path, flags, Mode::empty())?);
    match file.metadata()?.is_file() {
        true => Ok(file),
        false => Err(io::Error::other("the VM holds something else than a file")),
    }
}

/// A snapshot in the making.
#[derive(Debug)]
pub(crate) struct Draft {
    dir: Utf8PathBuf,
    source: File,
    touched: Touched,
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
        let touched = Touched::find(pid, &source)?;
        let (path, mapped) = (dir.join(RAM), source.metadata()?);
        let same = |found: fs::Metadata| (found.dev(), found.ino()) == (mapped.dev(), mapped.ino());
        let own = touched.bytes()?;
        let in_place = fs::metadata(&path).is_ok_and(same);
        let shared_bytes = if in_place { 0 } else { mapped.blocks() * 512 };
        ensure_room(dir, own + shared_bytes)?;
        if in_place {
            let target = File::options().read(true).write(true).open(&path)?;
            return Ok(Self { dir: dir.to_owned(), source, touched, target });
        }
        crate::bootdir::ok_if_absent(fs::remove_file(&path))?;
        let mut options = File::options();
        let target = options.read(true).write(true).create_new(true).mode(0o600).open(&path)?;
        target.set_len(mapped.len())?;
        if !touched.is_shared() {
            memory::copy(&source, &target, cancel)?;
            // Written once more when it stands still; by then the file's pages are
            // there, and writing to them takes half the time.
            touched.write_to(&target, cancel)?;
        }
        Ok(Self { dir: dir.to_owned(), source, touched, target })
    }

    /// Where the device state goes: open for writing alone, as QEMU wants it.
    pub(crate) fn state_file(&self) -> io::Result<File> {
        let mut options = File::options();
        options.write(true).create(true).truncate(true).mode(0o600);
        options.open(self.dir.join(STATE))
    }

    /// Writes what the guest has touched. It must stand still. Blocks; returns
    /// the bytes written.
    ///
    /// # Errors
    /// No room; the process has gone; `Interrupted` if `cancel` was called.
    pub(crate) fn write_memory(&self, cancel: &CancellationToken) -> io::Result<u64> {
        match self.touched.is_shared() {
            true => memory::copy(&self.source, &self.target, cancel),
            false => self.touched.write_to(&self.target, cancel),
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
        scratch.sync_all()?;
        let manifest = Manifest {
            version: VERSION,
            boot: boot.to_string(),
            note,
            platform: platform.properties().clone(),
            vm,
            ram: Identity::of(&self.target)?,
            ram_sum: memory::digest(&self.target)?,
            state_sum: hex(&Sha256::digest(fs::read(self.dir.join(STATE))?)),
            root: DiskIdentity::of(&root)?,
            scratch: DiskIdentity::of(&scratch)?,
        };
        let text = serde_json::to_vec_pretty(&manifest)?;
        rt::fs::write_atomic(self.dir.join(MANIFEST).as_std_path(), &text, 0o600)
    }
}

/// Refuses before anything stands still, rather than in the middle.
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

/// The files of a snapshot that fits.
#[derive(Debug)]
pub(crate) struct Opened {
    pub(crate) ram: File,
    pub(crate) state: File,
}

/// Opens the snapshot in `dir` for a VM of `spec`. The memory is summed up only
/// if something was done to its file since it was written. Blocks.
///
/// # Errors
/// It does not fit, or is not what was written.
pub(crate) fn open(
    dir: &Utf8Path,
    platform: &Platform,
    spec: &BootSpec,
) -> Result<Opened, PortError> {
    let attempted = || format!("go on from the snapshot in {dir}");
    let failed = |err: io::Error| PortError::new(attempted(), err);
    let manifest = read(dir).map_err(failed)?;
    if let Some(problem) = mismatch(&manifest, platform, spec) {
        return Err(PortError::new(attempted(), problem));
    }
    let disks =
        [("root", &spec.root, &manifest.root), ("scratch", &spec.scratch, &manifest.scratch)];
    for (name, path, then) in disks {
        let now = File::open(path).and_then(|file| DiskIdentity::of(&file)).map_err(failed)?;
        if now != *then {
            let problem = format!("the {name} disk is not as the guest left it");
            return Err(PortError::new(attempted(), problem));
        }
    }
    let ram = File::options().read(true).write(true).open(dir.join(RAM)).map_err(failed)?;
    let now = Identity::of(&ram).map_err(failed)?;
    let whole = now.len == u64::from(spec.memory_mib) << 20;
    if now != manifest.ram && !(whole && memory::digest(&ram).map_err(failed)? == manifest.ram_sum)
    {
        return Err(PortError::new(attempted(), "its memory is damaged"));
    }
    let state = File::open(dir.join(STATE)).map_err(failed)?;
    let len = state.metadata().map_err(failed)?.len();
    let bytes =
        if len <= STATE_MAX { fs::read(dir.join(STATE)).map_err(failed)? } else { Vec::new() };
    if hex(&Sha256::digest(bytes)) != manifest.state_sum {
        return Err(PortError::new(attempted(), "the state of its devices is damaged"));
    }
    Ok(Opened { ram, state })
}

fn mismatch(manifest: &Manifest, platform: &Platform, spec: &BootSpec) -> Option<String> {
    if let Some(differs) = platform.differs(&manifest.platform) {
        return Some(differs);
    }
    let (was, is) = (&manifest.vm, Description::of(spec));
    let same = (was.vcpus, was.memory_mib, was.network) == (is.vcpus, is.memory_mib, is.network);
    (!same).then(|| "the machine had another size or network".to_owned())
}
