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
use crate::store::files::{json, load, modified_ms, write};
use crate::store::names::{Names, familiar};
use crate::store::records::ImageRecord;
use camino::{Utf8Path, Utf8PathBuf};
use std::collections::BTreeMap;
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
    pub(super) dir: Utf8PathBuf,
    pub(super) images: BTreeMap<String, ImageRecord>,
    pub(crate) names: Names,
    /// When each image was last used, in milliseconds since the epoch. On disk it
    /// is the modification time of the image's record.
    pub(super) used: BTreeMap<String, u64>,
}

impl Store {
    /// Opens the store in `dir`, creates it if absent, and removes the files of
    /// interrupted jobs.
    pub(crate) fn open(dir: &Utf8Path) -> io::Result<Self> {
        for name in DIRS {
            fs::create_dir_all(dir.join(name))?;
        }
        let (images, used) = Default::default();
        let names = Names::open(&dir.join("names"))?;
        let mut store = Self { dir: dir.to_owned(), images, names, used };
        for mut record in load::<ImageRecord>(&dir.join("images"))? {
            record.run.bound_labels();
            let Some(digest) = Digest::parse(&record.digest) else { continue };
            let root = fs::metadata(store.root(&digest));
            if root.is_ok_and(|root| root.len() == record.size) {
                let used = modified_ms(&store.image_file(&digest))?;
                store.used.insert(record.digest.clone(), used);
                store.images.insert(record.digest.clone(), record);
            } else {
                tracing::warn!(image = %record.digest, "root image is missing or damaged, image dropped");
                fs::remove_file(store.image_file(&digest))?;
            }
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

    pub(super) fn image_file(&self, digest: &Digest) -> Utf8PathBuf {
        self.dir.join("images").join(format!("{}.json", digest.hex()))
    }

    pub(super) fn blob_file(&self, digest: &Digest) -> Utf8PathBuf {
        self.dir.join("blobs").join(digest.hex())
    }

    /// Whether the store has the image.
    pub(crate) fn has(&self, digest: &str) -> bool {
        self.images.contains_key(digest)
    }

    /// The image, if the store has it.
    pub(crate) fn image(&self, digest: &Digest) -> Option<RootImage> {
        let record = self.images.get(&digest.to_string())?;
        // A record without a valid digest leads to a file that is no config, never out of the store.
        let document = Digest::parse(&record.config_digest).unwrap_or_else(|| digest.clone());
        Some(RootImage {
            path: self.root(digest),
            fstype: "squashfs".into(),
            config: record.run.clone().into(),
            document: self.blob_file(&document),
        })
    }

    /// Notes that the image is used. The time is kept on disk by `collect`.
    pub(crate) fn note_use(&mut self, digest: &str, now_ms: u64) {
        if let Some(used) = self.used.get_mut(digest) {
            *used = (*used).max(now_ms);
        }
    }

    /// The digests of images that begin with `hex`.
    pub(crate) fn digests_from(&self, hex: &str) -> Vec<Digest> {
        let begins = |digest: &&String| digest["sha256:".len()..].starts_with(hex);
        self.images.keys().filter(begins).filter_map(|digest| Digest::parse(digest)).collect()
    }

    /// The image for a list, with its names sorted.
    pub(crate) fn summary(&self, digest: &str) -> Option<ImageSummary> {
        let record = self.images.get(digest)?;
        let names = self.names.of(digest).map(|name| familiar(&name.name).into());
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

    /// The labels in the image's config, if the store has the image.
    pub(crate) fn labels(&self, digest: &str) -> Option<BTreeMap<String, String>> {
        let record = self.images.get(digest)?;
        Some(ImageConfig::from(record.run.clone()).labels)
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
        self.used.insert(digest.clone(), now_ms);
        self.images.insert(digest, record);
        Ok(())
    }
}
