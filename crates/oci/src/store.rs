//! What is on disk, and which names lead to it.
//!
//! ```text
//!  images/<hex>.json     one image: the record that makes it exist
//!  names/<hash>.json     one name and the digest it leads to
//!  roots/<hex>.squashfs  its root image
//!  blobs/<hex>           manifests and configs
//!  partial/<hex>-<size>  layers on their way here
//!  tmp/                  work; emptied when the store is opened
//! ```
//!
//! Files are replaced whole. A record is written after all that it speaks of
//! and removed before any of it, so that after a crash there is only litter.

use crate::digest::Digest;
use crate::fault::{Result, failed};
use camino::{Utf8Path, Utf8PathBuf};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use worker::ports::{ImageConfig, ImageSummary, RootImage};

/// The directories of a store.
const DIRS: [&str; 6] = ["images", "names", "roots", "blobs", "partial", "tmp"];

/// How a name came to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Origin {
    /// By an import: it is ours, no registry is asked.
    Imported,
    /// Said by a registry, which may say otherwise later.
    Pulled,
}

/// A name and what it leads to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct NameRecord {
    pub(crate) name: String,
    pub(crate) digest: String,
    pub(crate) origin: Origin,
}

/// An image that is here.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct ImageRecord {
    pub(crate) digest: String,
    pub(crate) created_ms: u64,
    pub(crate) size: u64,
    pub(crate) config_digest: String,
    pub(crate) run: RunRecord,
}

/// [`ImageConfig`] as it is stored.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct RunRecord {
    entrypoint: Vec<String>,
    cmd: Vec<String>,
    env: Vec<String>,
    user: String,
    workdir: String,
    stop_signal: String,
    labels: BTreeMap<String, String>,
}

impl From<ImageConfig> for RunRecord {
    fn from(config: ImageConfig) -> Self {
        let ImageConfig { entrypoint, cmd, env, user, workdir, stop_signal, labels } = config;
        Self { entrypoint, cmd, env, user, workdir, stop_signal, labels }
    }
}

impl From<RunRecord> for ImageConfig {
    fn from(record: RunRecord) -> Self {
        let RunRecord { entrypoint, cmd, env, user, workdir, stop_signal, labels } = record;
        Self { entrypoint, cmd, env, user, workdir, stop_signal, labels }
    }
}

/// A new image, all its files in place but not known yet.
pub(crate) struct Arrival {
    pub(crate) digest: Digest,
    pub(crate) manifest: Vec<u8>,
    pub(crate) config: Vec<u8>,
    pub(crate) run: ImageConfig,
    /// The root image, synced, within `tmp`.
    pub(crate) root: Utf8PathBuf,
}

/// The store's directory and what is known of it.
#[derive(Debug)]
pub(crate) struct Store {
    dir: Utf8PathBuf,
    images: BTreeMap<String, ImageRecord>,
    names: BTreeMap<String, NameRecord>,
}

impl Store {
    /// Opens the store in `dir`, makes it if absent, removes remains of work.
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

    /// Where the root image of a digest is, if it is.
    pub(crate) fn root(&self, digest: &Digest) -> Utf8PathBuf {
        self.dir.join("roots").join(format!("{}.squashfs", digest.hex()))
    }

    /// Where a layer on its way is kept. Who promises another size has another
    /// file, and can't make it wrong for who promises the right one.
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
        // Hashed: names hold slashes and can be long.
        self.dir.join("names").join(format!("{}.json", Digest::of(name.as_bytes()).hex()))
    }

    /// Whether the image is here.
    pub(crate) fn has(&self, digest: &str) -> bool {
        self.images.contains_key(digest)
    }

    /// The image, if it is here.
    pub(crate) fn image(&self, digest: &Digest) -> Option<RootImage> {
        let record = self.images.get(&digest.to_string())?;
        Some(RootImage {
            path: self.root(digest),
            fstype: "squashfs".into(),
            config: record.run.clone().into(),
        })
    }

    /// The digests that begin with these hex digits.
    pub(crate) fn digests_from(&self, hex: &str) -> Vec<Digest> {
        let begins = |digest: &&String| digest["sha256:".len()..].starts_with(hex);
        self.images.keys().filter(begins).filter_map(|digest| Digest::parse(digest)).collect()
    }

    /// What a name leads to.
    pub(crate) fn name(&self, name: &str) -> Option<&NameRecord> {
        self.names.get(name)
    }

    /// The image as a line of a list.
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

    /// Whether an import gave this image a name.
    pub(crate) fn is_imported(&self, digest: &str) -> bool {
        self.names_of(digest).any(|name| name.origin == Origin::Imported)
    }

    fn names_of<'a>(&'a self, digest: &'a str) -> impl Iterator<Item = &'a NameRecord> {
        self.names.values().filter(move |name| name.digest == digest)
    }

    /// Lets `name` lead to `digest`, durably.
    pub(crate) fn set_name(&mut self, name: &str, digest: &Digest, origin: Origin) -> Result<()> {
        let record = NameRecord { name: name.into(), digest: digest.to_string(), origin };
        if self.names.get(name) == Some(&record) {
            return Ok(());
        }
        write(&self.name_file(name), &json(&record)).map_err(failed("record an image's name"))?;
        self.names.insert(name.into(), record);
        Ok(())
    }

    /// Makes an image exist, durably.
    pub(crate) fn add(&mut self, arrival: Arrival, now_ms: u64) -> Result<()> {
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

    /// Removes a name. Says what it led to.
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

    /// Removes the images that neither a name nor `keep` needs. Returns the
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

    /// Removes this image unless a name or `keep` needs it.
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
        // The record first, durably: without it there is only litter.
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

    /// Removes what no record speaks of, except layers on their way. Only when
    /// no work is under way. Returns the bytes freed.
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

    /// Removes layers on their way, too. Only when no work is under way.
    pub(crate) fn sweep_partial(&self) -> io::Result<u64> {
        clear(&self.dir.join("partial"), |_| false)
    }
}

/// The name as people write it.
fn familiar(name: &str) -> &str {
    name.strip_prefix("docker.io/library/")
        .or_else(|| name.strip_prefix("docker.io/"))
        .unwrap_or(name)
}

fn write(path: &Utf8Path, bytes: &[u8]) -> io::Result<()> {
    rt::fs::write_atomic(path.as_std_path(), bytes, 0o600)
}

fn json(record: &impl Serialize) -> Vec<u8> {
    serde_json::to_vec_pretty(record).expect("records have string keys only")
}

/// Removes a file that may be gone already. Returns the bytes freed.
fn remove(path: &Utf8Path) -> io::Result<u64> {
    let size = fs::symlink_metadata(path).map_or(0, |found| found.len());
    match fs::remove_file(path) {
        Ok(()) => Ok(size),
        Err(err) if err.kind() == io::ErrorKind::NotFound => Ok(0),
        Err(err) => Err(err),
    }
}

/// Removes the files in `dir` that are not to stay.
fn clear(dir: &Utf8Path, stays: impl Fn(&str) -> bool) -> io::Result<u64> {
    let mut freed = 0;
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        if !stays(&entry.file_name().to_string_lossy()) && entry.file_type()?.is_file() {
            freed += entry.metadata()?.len();
            fs::remove_file(entry.path())?;
        }
    }
    Ok(freed)
}

fn load<T: DeserializeOwned>(dir: &Utf8Path) -> io::Result<Vec<T>> {
    let mut records = Vec::new();
    for entry in fs::read_dir(dir)? {
        let path = entry?.path();
        if path.extension().is_none_or(|extension| extension != "json") {
            continue;
        }
        match serde_json::from_slice(&fs::read(&path)?) {
            Ok(record) => records.push(record),
            // Written whole or not at all, so this is a foreign file or a disk's fault.
            Err(err) => tracing::warn!(path = %path.display(), %err, "record ignored"),
        }
    }
    Ok(records)
}
