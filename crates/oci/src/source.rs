//! Files of an image archive by name: a directory, or a tar that is read in
//! place. Names in a tar never become paths of this host.

use crate::blob::Blob;
use crate::config::Limits;
use crate::fault::{Fault, Result, failed};
use crate::index::{self, What};
use crate::metadata::Metadata;
use crate::spool::{Budget, Packing, unpack};
use camino::{Utf8Path, Utf8PathBuf};
use std::collections::HashMap;
use std::fs::File;
use std::io;

/// Memory for a member of a tar besides its names.
const MEMBER: usize = 128;

/// Where the files of an archive come from.
pub(crate) enum Source {
    /// A directory.
    Dir(Utf8PathBuf),
    /// The members of a tar.
    Tar(HashMap<String, Member>),
}

/// A member of a tar.
pub(crate) enum Member {
    File(Blob),
    /// Another member's name: old archives link equal layers.
    Alias(String),
}

impl Source {
    /// Opens a directory, or a tar, plain or compressed. `tmp` takes what must
    /// be decompressed.
    pub(crate) fn open(
        path: &Utf8Path,
        limits: &Limits,
        tmp: &Utf8Path,
        progress: &dyn Fn(u64),
    ) -> Result<Self> {
        let attempted = || format!("open image archive {path}");
        let file = File::open(path).map_err(failed(attempted()))?;
        let meta = file.metadata().map_err(failed(attempted()))?;
        if meta.is_dir() {
            return Ok(Self::Dir(path.to_owned()));
        }
        if !meta.is_file() {
            return Err(Fault::refused("it is neither a directory nor a file"));
        }
        let mut tar = Blob::whole(file).map_err(failed(attempted()))?;
        let packing = Packing::of(&tar).map_err(failed(attempted()))?;
        if packing != Packing::Plain {
            // Layers may be plain inside: the whole may be as large as they.
            let budget = Budget::new(limits.unpacked_bytes + (64 << 20));
            tar = unpack(&tar, packing, &budget, tmp.as_std_path(), progress)?.0;
        }
        members(&tar, limits).map(Self::Tar)
    }

    /// The file `name`, if there is one.
    pub(crate) fn get(&self, name: &str) -> Result<Option<Blob>> {
        match self {
            Self::Dir(dir) => {
                let parts = index::path(name.as_bytes(), &Limits::default());
                parts.map_err(|problem| Fault::refused(format!("its file {name:?} {problem}")))?;
                let path = dir.join(name.trim_start_matches('/'));
                let blob = File::open(&path).and_then(|file| match file.metadata()?.is_file() {
                    true => Blob::whole(file).map(Some),
                    false => Ok(None),
                });
                blob.or_else(|err| match err.kind() {
                    io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => Ok(None),
                    _ => Err(failed(format!("open {path}"))(err)),
                })
            }
            Self::Tar(members) => {
                let mut name = name.to_owned();
                for _ in 0..8 {
                    match members.get(&name) {
                        Some(Member::File(blob)) => return Ok(Some(blob.clone())),
                        Some(Member::Alias(target)) => name.clone_from(target),
                        None => return Ok(None),
                    }
                }
                Err(Fault::refused("its links go in circles"))
            }
        }
    }

    /// The file `name`, whole; absent or too large is refused.
    pub(crate) fn read(&self, name: &str, limit: u64) -> Result<Vec<u8>> {
        let missing = || Fault::refused(format!("it has no file {name}"));
        let blob = self.get(name)?.ok_or_else(missing)?;
        if blob.len > limit {
            return Err(Fault::refused(format!("{name} exceeds the limit of {limit} bytes")));
        }
        blob.bytes().map_err(failed(format!("read {name} of an image archive")))
    }
}

fn members(tar: &Blob, limits: &Limits) -> Result<HashMap<String, Member>> {
    let mut members = HashMap::new();
    let mut entries = 0;
    let mut metadata = Metadata::new(limits.metadata_bytes);
    index::walk(tar, limits, |entry| {
        entries += 1;
        if entries > limits.entries {
            let limit = limits.entries;
            return Err(Fault::refused(format!("it exceeds the limit of {limit} entries")));
        }
        let name = joined(entry.path.iter().map(|part| &**part));
        let member = match entry.what {
            What::File(blob) => Member::File(blob),
            What::Link(target) => Member::Alias(joined(target.iter().map(|part| &**part))),
            What::Symlink(target) => {
                let above = entry.path.len().saturating_sub(1);
                let mut parts: Vec<&[u8]> =
                    entry.path[..above].iter().map(|part| &**part).collect();
                for part in target.split(|&b| b == b'/') {
                    match part {
                        b"" | b"." => {}
                        b".." => drop(parts.pop()),
                        part => parts.push(part),
                    }
                }
                Member::Alias(joined(parts.into_iter()))
            }
            _ => return Ok(()),
        };
        let alias = if let Member::Alias(target) = &member { target.len() } else { 0 };
        metadata.charge(MEMBER + name.len() + alias)?;
        members.insert(name, member);
        Ok(())
    })?;
    Ok(members)
}

fn joined<'a>(parts: impl Iterator<Item = &'a [u8]>) -> String {
    parts.map(String::from_utf8_lossy).collect::<Vec<_>>().join("/")
}
