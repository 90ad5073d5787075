//! Removal of what the store does not need any more: images that neither a name nor
//! a machine needs, and the files of jobs that were interrupted.

use crate::content::digest::Digest;
use crate::error::{Result, failed};
use crate::store::catalog::Store;
use crate::store::files::{clear, modified_ms, remove};
use camino::Utf8Path;
use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::time::{Duration, UNIX_EPOCH};

impl Store {
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
        let named = self
            .names
            .kept(|digest| self.used.get(digest).is_some_and(|used| *used >= pulled_since_ms));
        let stays = |digest: &String| named.contains(digest) || keep.contains(digest);
        let gone: Vec<_> = self.images.keys().filter(|digest| !stays(digest)).cloned().collect();
        let mut freed = 0;
        for digest in gone {
            freed +=
                self.remove_image(&digest).map_err(failed(format!("remove image {digest}")))?;
        }
        let images = &self.images;
        self.names.remove_without_image(|digest| images.contains_key(digest))?;
        self.record_uses().map_err(failed("record the last use of images"))?;
        Ok(freed)
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
        if keep.contains(digest) || self.names.of(digest).next().is_some() {
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
