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
use std::time::{Duration, UNIX_EPOCH};
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
    /// When each image was last used, in milliseconds since the epoch. On disk it
    /// is the modification time of the image's record.
    used: BTreeMap<String, u64>,
}

impl Store {
    /// Opens the store in `dir`, creates it if absent, and removes the files of
    /// interrupted jobs.
    pub(crate) fn open(dir: &Utf8Path) -> io::Result<Self> {
        for name in DIRS {
            fs::create_dir_all(dir.join(name))?;
        }
        let (images, names, used) = Default::default();
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
        self.used.insert(digest.clone(), now_ms);
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

    /// Removes the images that are not in `keep` and have neither a name from an
    /// import, nor a name from a registry and a last use at or after
    /// `pulled_since_ms`. Images in `keep` are used at `now_ms`. Names from a
    /// registry without an image are removed, too. Returns the bytes freed.
    pub(crate) fn collect(
        &mut self,
        keep: &BTreeSet<String>,
        now_ms: u64,
        pulled_since_ms: u64,
    ) -> Result<u64> {
        keep.iter().for_each(|digest| self.note_use(digest, now_ms));
        let mut named = BTreeSet::new();
        for name in self.names.values() {
            let recent = self.used.get(&name.digest).is_some_and(|used| *used >= pulled_since_ms);
            if name.source == NameSource::Imported || recent {
                named.insert(name.digest.clone());
            }
        }
        let stays = |digest: &String| named.contains(digest) || keep.contains(digest);
        let gone: Vec<_> = self.images.keys().filter(|digest| !stays(digest)).cloned().collect();
        let mut freed = 0;
        for digest in gone {
            freed +=
                self.remove_image(&digest).map_err(failed(format!("remove image {digest}")))?;
        }
        self.remove_names_without_image()?;
        self.record_uses().map_err(failed("record the last use of images"))?;
        Ok(freed)
    }

    /// Removes names from a registry that refer to no image of the store.
    fn remove_names_without_image(&mut self) -> Result<()> {
        let lost = |name: &&NameRecord| {
            name.source == NameSource::Pulled && !self.images.contains_key(&name.digest)
        };
        let names: Vec<_> = self.names.values().filter(lost).map(|n| n.name.clone()).collect();
        names.iter().try_for_each(|name| self.remove_name(name).map(drop))
    }

    /// Sets the modification times of the records to the last uses. They are not
    /// synced: at worst a power cut makes an image older than it is.
    fn record_uses(&self) -> io::Result<()> {
        for (digest, used) in &self.used {
            let Some(digest) = Digest::parse(digest) else { continue };
            let path = self.image_file(&digest);
            if modified_ms(&path)? != *used {
                let time = UNIX_EPOCH + Duration::from_millis(*used);
                fs::File::open(&path)?.set_modified(time)?;
            }
        }
        Ok(())
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
        self.used.remove(digest);
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

    /// Removes partial downloads that were last written before `before_ms`, each
    /// under the lock that `lock` gives for its digest; without it, a pull has the
    /// file. Returns the bytes freed.
    pub(crate) fn sweep_partial<L>(
        dir: &Utf8Path,
        before_ms: u64,
        lock: impl Fn(&str) -> Option<L>,
    ) -> io::Result<u64> {
        let mut freed = 0;
        for entry in dir.join("partial").read_dir_utf8()? {
            let entry = entry?;
            let hex = entry.file_name().split('-').next().unwrap_or_default();
            let Some(_lock) = lock(hex) else { continue };
            // An error means that the pull of the file has just ended.
            if modified_ms(entry.path()).is_ok_and(|written| written < before_ms) {
                freed += remove(entry.path())?;
            }
        }
        Ok(freed)
    }
}

/// When a file was last written, in milliseconds since the epoch.
fn modified_ms(path: &Utf8Path) -> io::Result<u64> {
    let time = fs::metadata(path)?.modified()?.duration_since(UNIX_EPOCH).unwrap_or_default();
    Ok(u64::try_from(time.as_millis()).unwrap_or(u64::MAX))
}

/// The name without the parts that Docker Hub's names may omit.
pub(crate) fn familiar(name: &str) -> &str {
    name.strip_prefix("docker.io/library/")
        .or_else(|| name.strip_prefix("docker.io/"))
        .unwrap_or(name)
}
