//! The catalog of images and names, in memory and on disk.
//!
//! ```text
//!  images/<hex>.json     the record of one image, which makes it exist
//!  names/<hash>.json     the record of one name and its digest
//!  roots/<hex>.squashfs  root images
//!  blobs/<hex>           manifests and configs
//!  partial/<hex>-<size>  layers while they are downloaded
//!  tmp/                  files of running jobs; emptied when the store is opened
//! ```
//!
//! Files are replaced atomically. A record is written after all files that it
//! refers to and removed before them, so a crash leaves files without a record
//! at worst, and never a record without its files.

use crate::content::digest::Digest;
use crate::error::{Result, failed};
use crate::store::files::{clear, json, load, remove, write};
use crate::store::records::{ImageRecord, NameRecord, NameSource};
use camino::{Utf8Path, Utf8PathBuf};
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use worker::ports::{ImageConfig, ImageSummary, RootImage};

/// The directories of a store.
const DIRS: [&str; 6] = ["images", "names", "roots", "blobs", "partial", "tmp"];

/// A new image whose root image is written and which is not in the catalog yet.
pub(crate) struct StagedImage {
    pub(crate) digest: Digest,
    pub(crate) manifest: Vec<u8>,
    pub(crate) config: Vec<u8>,
    pub(crate) run: ImageConfig,
    /// The root image, synced, in `tmp`.
    pub(crate) root: Utf8PathBuf,
}

/// The store's directory, with its records in memory.
#[derive(Debug)]
pub(crate) struct Store {
    dir: Utf8PathBuf,
    images: BTreeMap<String, ImageRecord>,
    names: BTreeMap<String, NameRecord>,
}

impl Store {
    /// Opens the store in `dir`, creates it if absent, and removes the files of
    /// interrupted jobs.
    pub(crate) fn open(dir: &Utf8Path) -> io::Result<Self> {
        for name in DIRS {
            fs::create_dir_all(dir.join(name))?;
        }
        let mut store =
            Self { dir: dir.to_owned(), images: BTreeMap::new(), names: BTreeMap::new() };
        for record in load::<ImageRecord>(&dir.join("images"))? {
            let Some(digest) = Digest::parse(&record.digest) else { continue };
            let root = fs::metadata(store.root(&digest));
            if root.is_ok_and(|root| root.len() == record.size) {
                store.images.insert(record.digest.clone(), record);
            } else {
                tracing::warn!(image = %record.digest, "root image is missing or damaged, image dropped");
                fs::remove_file(store.image_file(&digest))?;
            }
        }
        for record in load::<NameRecord>(&dir.join("names"))? {
            store.names.insert(record.name.clone(), record);
        }
        store.sweep()?;
        Ok(store)
    }

    /// The path of the root image of `digest`, whether it exists or not.
    pub(crate) fn root(&self, digest: &Digest) -> Utf8PathBuf {
        self.dir.join("roots").join(format!("{}.squashfs", digest.hex()))
    }

    /// The path of a layer while it is downloaded. The size is part of the name,
    /// so that a manifest with a wrong size cannot damage the download of
    /// another image.
    pub(crate) fn partial(dir: &Utf8Path, digest: &Digest, size: u64) -> Utf8PathBuf {
        dir.join("partial").join(format!("{}-{size}", digest.hex()))
    }

    fn image_file(&self, digest: &Digest) -> Utf8PathBuf {
        self.dir.join("images").join(format!("{}.json", digest.hex()))
    }

    fn blob_file(&self, digest: &Digest) -> Utf8PathBuf {
        self.dir.join("blobs").join(digest.hex())
    }

    fn name_file(&self, name: &str) -> Utf8PathBuf {
        // Hashed, since names contain slashes and can be long.
        self.dir.join("names").join(format!("{}.json", Digest::of(name.as_bytes()).hex()))
    }

    /// Whether the store has the image.
    pub(crate) fn has(&self, digest: &str) -> bool {
        self.images.contains_key(digest)
    }

    /// The image, if the store has it.
    pub(crate) fn image(&self, digest: &Digest) -> Option<RootImage> {
        let record = self.images.get(&digest.to_string())?;
        Some(RootImage {
            path: self.root(digest),
            fstype: "squashfs".into(),
            config: record.run.clone().into(),
        })
    }

    /// The digests of images that begin with `hex`.
    pub(crate) fn digests_from(&self, hex: &str) -> Vec<Digest> {
        let begins = |digest: &&String| digest["sha256:".len()..].starts_with(hex);
        self.images.keys().filter(begins).filter_map(|digest| Digest::parse(digest)).collect()
    }

    /// The record of a name.
    pub(crate) fn name(&self, name: &str) -> Option<&NameRecord> {
        self.names.get(name)
    }

    /// The image for a list, with its names sorted.
    pub(crate) fn summary(&self, digest: &str) -> Option<ImageSummary> {
        let record = self.images.get(digest)?;
        let names = self.names_of(digest).map(|name| familiar(&name.name).into());
        let mut references: Vec<String> = names.collect();
        references.sort();
        Some(ImageSummary {
            references,
            digest: digest.into(),
            size: record.size,
            created_ms: record.created_ms,
        })
    }

    /// All images, newest first.
    pub(crate) fn list(&self) -> Vec<ImageSummary> {
        let mut list: Vec<_> = self.images.keys().filter_map(|key| self.summary(key)).collect();
        list.sort_by(|a, b| (b.created_ms, &a.digest).cmp(&(a.created_ms, &b.digest)));
        list
    }

    /// Whether the image has a name from an import.
    pub(crate) fn is_imported(&self, digest: &str) -> bool {
        self.names_of(digest).any(|name| name.source == NameSource::Imported)
    }

    /// The labels in the image's config, if the store has the image.
    pub(crate) fn labels(&self, digest: &str) -> Option<BTreeMap<String, String>> {
        let record = self.images.get(digest)?;
        Some(ImageConfig::from(record.run.clone()).labels)
    }

    fn names_of<'a>(&'a self, digest: &'a str) -> impl Iterator<Item = &'a NameRecord> {
        self.names.values().filter(move |name| name.digest == digest)
    }

    /// Sets the digest of `name`, durably.
    pub(crate) fn set_name(
        &mut self,
        name: &str,
        digest: &Digest,
        source: NameSource,
    ) -> Result<()> {
        let record = NameRecord { name: name.into(), digest: digest.to_string(), source };
        if self.names.get(name) == Some(&record) {
            return Ok(());
        }
        write(&self.name_file(name), &json(&record)).map_err(failed("record an image's name"))?;
        self.names.insert(name.into(), record);
        Ok(())
    }

    /// Adds an image to the catalog, durably.
    pub(crate) fn add(&mut self, arrival: StagedImage, now_ms: u64) -> Result<()> {
        let digest = arrival.digest.to_string();
        if self.has(&digest) {
            return Ok(());
        }
        let write_all = || -> io::Result<ImageRecord> {
            let config_digest = Digest::of(&arrival.config);
            write(&self.blob_file(&arrival.digest), &arrival.manifest)?;
            write(&self.blob_file(&config_digest), &arrival.config)?;
            fs::rename(&arrival.root, self.root(&arrival.digest))?;
            rt::fs::sync_dir(self.dir.join("roots").as_std_path())?;
            let record = ImageRecord {
                digest: digest.clone(),
                created_ms: now_ms,
                size: fs::metadata(self.root(&arrival.digest))?.len(),
                config_digest: config_digest.to_string(),
                run: arrival.run.into(),
            };
            write(&self.image_file(&arrival.digest), &json(&record))?;
            Ok(record)
        };
        let record = write_all().map_err(failed(format!("store image {digest}")))?;
        self.images.insert(digest, record);
        Ok(())
    }

    /// Removes a name. Returns the digest that it referred to.
    pub(crate) fn remove_name(&mut self, name: &str) -> Result<Option<String>> {
        let Some(record) = self.names.get(name) else { return Ok(None) };
        let digest = record.digest.clone();
        remove(&self.name_file(name)).map_err(failed(format!("remove image name {name}")))?;
        rt::fs::sync_dir(self.dir.join("names").as_std_path())
            .map_err(failed(format!("remove image name {name}")))?;
        self.names.remove(name);
        Ok(Some(digest))
    }

    /// Removes all names of a digest.
    pub(crate) fn remove_names_of(&mut self, digest: &str) -> Result<()> {
        let names: Vec<_> = self.names_of(digest).map(|name| name.name.clone()).collect();
        for name in names {
            self.remove_name(&name)?;
        }
        Ok(())
    }

    /// Removes the images that have no name and are not in `keep`. Returns the
    /// bytes freed.
    pub(crate) fn collect(&mut self, keep: &BTreeSet<String>) -> Result<u64> {
        let named: BTreeSet<_> = self.names.values().map(|name| name.digest.clone()).collect();
        let gone: Vec<_> = self
            .images
            .keys()
            .filter(|digest| !named.contains(*digest) && !keep.contains(*digest))
            .cloned()
            .collect();
        let mut freed = 0;
        for digest in gone {
            freed +=
                self.remove_image(&digest).map_err(failed(format!("remove image {digest}")))?;
        }
        Ok(freed)
    }

    /// Removes this image unless it has a name or is in `keep`.
    pub(crate) fn release(&mut self, digest: &str, keep: &BTreeSet<String>) -> Result<()> {
        if keep.contains(digest) || self.names_of(digest).next().is_some() {
            return Ok(());
        }
        self.remove_image(digest).map_err(failed(format!("remove image {digest}")))?;
        Ok(())
    }

    fn remove_image(&mut self, digest: &str) -> io::Result<u64> {
        let (Some(parsed), Some(record)) = (Digest::parse(digest), self.images.get(digest)) else {
            return Ok(0);
        };
        let config = record.config_digest.clone();
        // The record first, durably: files without a record are removed by `sweep`.
        remove(&self.image_file(&parsed))?;
        rt::fs::sync_dir(self.dir.join("images").as_std_path())?;
        self.images.remove(digest);
        let mut freed = remove(&self.root(&parsed))? + remove(&self.blob_file(&parsed))?;
        if !self.images.values().any(|other| other.config_digest == config)
            && let Some(config) = Digest::parse(&config)
        {
            freed += remove(&self.blob_file(&config))?;
        }
        Ok(freed)
    }

    /// Removes files that no record refers to, except partial downloads. To be
    /// called only while no job runs. Returns the bytes freed.
    pub(crate) fn sweep(&self) -> io::Result<u64> {
        let mut freed = 0;
        let mut roots = BTreeSet::new();
        let mut blobs = BTreeSet::new();
        for record in self.images.values() {
            for digest in [&record.digest, &record.config_digest] {
                blobs.extend(Digest::parse(digest).map(|digest| digest.hex().to_owned()));
            }
            let root = Digest::parse(&record.digest);
            roots.extend(root.map(|digest| format!("{}.squashfs", digest.hex())));
        }
        freed += clear(&self.dir.join("roots"), |name| roots.contains(name))?;
        freed += clear(&self.dir.join("blobs"), |name| blobs.contains(name))?;
        freed += clear(&self.dir.join("tmp"), |_| false)?;
        for dir in ["images", "names"] {
            freed += clear(&self.dir.join(dir), |name| !name.ends_with(".tmp"))?;
        }
        Ok(freed)
    }

    /// Removes partial downloads. To be called only while no job runs. Returns
    /// the bytes freed.
    pub(crate) fn sweep_partial(&self) -> io::Result<u64> {
        clear(&self.dir.join("partial"), |_| false)
    }
}

/// The name without the parts that Docker Hub's names may omit.
pub(crate) fn familiar(name: &str) -> &str {
    name.strip_prefix("docker.io/library/")
        .or_else(|| name.strip_prefix("docker.io/"))
        .unwrap_or(name)
}
