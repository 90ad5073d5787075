//! Opening a snapshot for a VM, after checking that it fits.

use crate::memory;
use crate::platform::Platform;
use crate::process::boot_dir::Description;
use crate::snapshot::manifest::{self, DiskIdentity, Identity, Manifest, RAM, STATE, STATE_MAX};
use camino::Utf8Path;
use sha2::{Digest as _, Sha256};
use std::fs::{self, File};
use std::io;
use worker::ports::{BootSpec, PortError};

/// The files of a snapshot that passed all checks.
#[derive(Debug)]
pub(crate) struct Opened {
    pub(crate) ram: File,
    pub(crate) state: File,
}

/// Opens the snapshot in `dir` for a VM of `spec`. The memory is checksummed only
/// if its file was changed after it was written. Blocks.
///
/// # Errors
/// It does not fit the host or the machine, or is damaged.
pub(crate) fn open(
    dir: &Utf8Path,
    platform: &Platform,
    spec: &BootSpec,
) -> Result<Opened, PortError> {
    let attempted = || format!("resume from the snapshot in {dir}");
    let failed = |err: io::Error| PortError::new(attempted(), err);
    let manifest = manifest::read(dir).map_err(failed)?;
    if let Some(problem) = mismatch(&manifest, platform, spec) {
        return Err(PortError::new(attempted(), problem));
    }
    let disks =
        [("root", &spec.root, &manifest.root), ("scratch", &spec.scratch, &manifest.scratch)];
    let images = spec.images.iter().zip(&manifest.images);
    let images = images.map(|(path, then)| ("image", path, then));
    let volumes = spec.volumes.iter().zip(&manifest.volumes);
    let volumes = volumes.map(|(path, then)| ("volume's", path, then));
    for (name, path, then) in disks.into_iter().chain(images).chain(volumes) {
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
    if hex::encode(Sha256::digest(bytes)) != manifest.state_sum {
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
    if spec.images.len() != manifest.images.len() {
        return Some("the machine had another number of images".into());
    }
    // A volume that was exchanged for another one may look like it.
    if spec.volumes != was.volumes || spec.volumes.len() != manifest.volumes.len() {
        return Some("the machine had other volumes".into());
    }
    (!same).then(|| "the machine had another size or network".to_owned())
}
