//! The names of images, in memory and on disk.
//!
//! A name from an import keeps its image until the name is removed. A name from a
//! registry keeps it for some time after its last use. How many names one archive
//! may give is bounded where it is read.

use crate::content::digest::Digest;
use crate::error::{Result, failed};
use crate::store::files::{json, load, remove, write};
use crate::store::records::{NameRecord, NameSource};
use camino::{Utf8Path, Utf8PathBuf};
use std::collections::{BTreeMap, BTreeSet};
use std::io;

/// All names of a store.
#[derive(Debug)]
pub(crate) struct Names {
    dir: Utf8PathBuf,
    records: BTreeMap<String, NameRecord>,
}

impl Names {
    /// Reads the records in `dir`.
    pub(super) fn open(dir: &Utf8Path) -> io::Result<Self> {
        let records = load::<NameRecord>(dir)?.into_iter();
        let records = records.map(|record| (record.name.clone(), record)).collect();
        Ok(Self { dir: dir.to_owned(), records })
    }

    fn file(&self, name: &str) -> Utf8PathBuf {
        // Hashed, since names contain slashes and can be long.
        self.dir.join(format!("{}.json", Digest::of(name.as_bytes()).hex()))
    }

    /// The record of a name.
    pub(crate) fn get(&self, name: &str) -> Option<&NameRecord> {
        self.records.get(name)
    }

    /// The names of a digest.
    pub(crate) fn of<'a>(&'a self, digest: &'a str) -> impl Iterator<Item = &'a NameRecord> {
        self.records.values().filter(move |name| name.digest == digest)
    }

    /// Whether the digest has a name from an import.
    pub(crate) fn is_imported(&self, digest: &str) -> bool {
        self.of(digest).any(|name| name.source == NameSource::Imported)
    }

    /// The digests whose images their names keep; `recent` is whether an image was
    /// used a short time ago.
    pub(super) fn kept(&self, recent: impl Fn(&str) -> bool) -> BTreeSet<String> {
        let keeps = |name: &&NameRecord| match name.source {
            NameSource::Imported => true,
            NameSource::Pulled => recent(&name.digest),
        };
        self.records.values().filter(keeps).map(|name| name.digest.clone()).collect()
    }

    /// Sets the digest of `name`, durably.
    pub(crate) fn set(&mut self, name: &str, digest: &Digest, source: NameSource) -> Result<()> {
        let record = NameRecord { name: name.into(), digest: digest.to_string(), source };
        if self.records.get(name) == Some(&record) {
            return Ok(());
        }
        write(&self.file(name), &json(&record)).map_err(failed("record an image's name"))?;
        self.records.insert(name.into(), record);
        Ok(())
    }

    /// Removes a name. Returns the digest that it referred to.
    pub(crate) fn remove(&mut self, name: &str) -> Result<Option<String>> {
        let Some(record) = self.records.get(name) else { return Ok(None) };
        let digest = record.digest.clone();
        let attempted = || failed(format!("remove image name {name}"));
        remove(&self.file(name)).map_err(attempted())?;
        rt::fs::sync_dir(self.dir.as_std_path()).map_err(attempted())?;
        self.records.remove(name);
        Ok(Some(digest))
    }

    /// Removes all names of a digest.
    pub(crate) fn remove_of(&mut self, digest: &str) -> Result<()> {
        self.remove_if(|name| name.digest == digest)
    }

    /// Removes the names from a registry whose image the store does not have.
    pub(super) fn remove_without_image(&mut self, has: impl Fn(&str) -> bool) -> Result<()> {
        self.remove_if(|name| name.source == NameSource::Pulled && !has(&name.digest))
    }

    fn remove_if(&mut self, gone: impl Fn(&NameRecord) -> bool) -> Result<()> {
        let gone = self.records.values().filter(|name| gone(name));
        let gone: Vec<_> = gone.map(|name| name.name.clone()).collect();
        gone.iter().try_for_each(|name| self.remove(name).map(drop))
    }
}

/// The name without the parts that Docker Hub's names may omit.
pub(crate) fn familiar(name: &str) -> &str {
    name.strip_prefix("docker.io/library/")
        .or_else(|| name.strip_prefix("docker.io/"))
        .unwrap_or(name)
}
