//! The files of an image archive by name: those of a directory, or the members
//! of a tar, which is read in place. Names in a tar never become paths of this
//! host.

use crate::config::limits::Limits;
use crate::content::blob::Blob;
use crate::content::disk_space::SpaceBooking;
use crate::content::unpack::{Budget, Encoding, unpack};
use crate::error::{Error, Result, failed};
use crate::layer::entry::{EntryKind, FileData};
use crate::layer::metadata_budget::MetadataBudget;
use crate::layer::path::normalize;
use crate::layer::reader;
use camino::{Utf8Path, Utf8PathBuf};
use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::sync::Arc;

/// Memory of a member beside its names.
const MEMBER: usize = 128;
/// The most sparse members: each takes a file descriptor.
const MAX_SPARSE: usize = 256;
/// Links from member to member that are followed.
const MAX_ALIASES: usize = 8;

/// The files of an archive.
pub(crate) enum Source {
    /// In a directory. Workers are sent tars only; programs that use this crate
    /// alone, such as its example `flatten`, also have directories.
    Dir(Utf8PathBuf),
    /// In a tar.
    Tar(HashMap<String, Member>),
}

/// A member of a tar.
pub(crate) enum Member {
    File(Blob),
    /// A link to another member: old archives link equal layers.
    Alias(String),
}

impl Source {
    /// Opens a directory, or a tar, compressed or not. A compressed tar is
    /// unpacked into the directory `tmp`, for which `space` is booked. `shown` names the archive in
    /// errors.
    pub(crate) fn open(
        path: &Utf8Path,
        shown: &str,
        limits: &Limits,
        tmp: &Utf8Path,
        space: &Arc<SpaceBooking>,
        progress: &dyn Fn(u64),
    ) -> Result<Self> {
        let attempted = || format!("open image archive {shown}");
        let file = File::open(path).map_err(failed(attempted()))?;
        let meta = file.metadata().map_err(failed(attempted()))?;
        if meta.is_dir() {
            return Ok(Self::Dir(path.to_owned()));
        }
        if !meta.is_file() {
            return Err(Error::refused("it is neither a directory nor a file"));
        }
        let mut tar = Blob::whole(file).map_err(failed(attempted()))?;
        let encoding = Encoding::detect(&tar).map_err(failed(attempted()))?;
        if encoding != Encoding::Plain {
            // The layers within may be as large as the limit without compression.
            let budget = Budget::new(limits.unpacked_bytes + (64 << 20), tmp, space);
            tar = unpack(&tar, encoding, &budget, progress)?.0;
        }
        members(&tar, limits, tmp, space).map(Self::Tar)
    }

    /// The file `name`, if it exists.
    pub(crate) fn get(&self, name: &str) -> Result<Option<Blob>> {
        match self {
            Self::Dir(dir) => {
                let parts = normalize(name.as_bytes(), &Limits::default());
                parts.map_err(|problem| Error::refused(format!("its file {name:?} {problem}")))?;
                let path = dir.join(name.trim_start_matches('/'));
                let blob = File::open(&path).and_then(|file| match file.metadata()?.is_file() {
                    true => Blob::whole(file).map(Some),
                    false => Ok(None),
                });
                blob.or_else(|err| match err.kind() {
                    io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => Ok(None),
                    _ => Err(failed(format!("open {name} of an image archive"))(err)),
                })
            }
            Self::Tar(members) => {
                let mut name = name.to_owned();
                for _ in 0..MAX_ALIASES {
                    match members.get(&name) {
                        Some(Member::File(blob)) => return Ok(Some(blob.clone())),
                        Some(Member::Alias(target)) => name.clone_from(target),
                        None => return Ok(None),
                    }
                }
                Err(Error::refused("its links form a cycle or a long chain"))
            }
        }
    }

    /// The content of the file `name`. An absent or too large file is refused.
    pub(crate) fn read(&self, name: &str, limit: u64) -> Result<Vec<u8>> {
        let missing = || Error::refused(format!("it has no file {name}"));
        let blob = self.get(name)?.ok_or_else(missing)?;
        if blob.len > limit {
            return Err(Error::refused(format!("{name} exceeds the limit of {limit} bytes")));
        }
        blob.bytes().map_err(failed(format!("read {name} of an image archive")))
    }
}

/// The files and links of a tar by name. Sparse files are expanded into `tmp`.
fn members(
    tar: &Blob,
    limits: &Limits,
    tmp: &Utf8Path,
    space: &SpaceBooking,
) -> Result<HashMap<String, Member>> {
    let mut members = HashMap::new();
    let mut entries = 0;
    let (mut expanded, mut sparse_members) = (0u64, 0);
    let mut metadata = MetadataBudget::new(limits.metadata_bytes);
    reader::for_each(tar, limits, |entry| {
        entries += 1;
        if entries > limits.entries {
            let limit = limits.entries;
            return Err(Error::refused(format!("it exceeds the limit of {limit} entries")));
        }
        let name = joined(entry.path.iter().map(|part| &**part));
        let member = match entry.kind {
            EntryKind::File(FileData::Dense(blob)) => Member::File(blob),
            EntryKind::File(FileData::Sparse(sparse)) => {
                expanded = expanded.saturating_add(sparse.size());
                sparse_members += 1;
                if expanded > limits.unpacked_bytes || sparse_members > MAX_SPARSE {
                    let limit = limits.unpacked_bytes;
                    return Err(Error::refused(format!(
                        "its sparse files exceed the limit of {MAX_SPARSE} files or {limit} bytes"
                    )));
                }
                let data = sparse.size().saturating_sub(sparse.hole_bytes());
                space.write(data, "expand a sparse file of an image archive")?;
                let blob = sparse.expand(tmp.as_std_path());
                Member::File(blob.map_err(failed("expand a sparse file of an image archive"))?)
            }
            EntryKind::Link(target) => Member::Alias(joined(target.iter().map(|part| &**part))),
            EntryKind::Symlink(target) => Member::Alias(resolve(&entry.path, &target)),
            _ => return Ok(()),
        };
        let alias = if let Member::Alias(target) = &member { target.len() } else { 0 };
        metadata.charge(MEMBER + name.len() + alias)?;
        members.insert(name, member);
        Ok(())
    })?;
    Ok(members)
}

/// The member that a symbolic link at `path` refers to.
fn resolve(path: &[Box<[u8]>], target: &[u8]) -> String {
    let above = path.len().saturating_sub(1);
    let mut parts: Vec<&[u8]> = path[..above].iter().map(|part| &**part).collect();
    for part in target.split(|&b| b == b'/') {
        match part {
            b"" | b"." => {}
            b".." => drop(parts.pop()),
            part => parts.push(part),
        }
    }
    joined(parts.into_iter())
}

fn joined<'a>(parts: impl Iterator<Item = &'a [u8]>) -> String {
    parts.map(String::from_utf8_lossy).collect::<Vec<_>>().join("/")
}
