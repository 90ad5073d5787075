//! The files of templates, and those that are loaded.
//!
//! One per shape and [`Platform`], in a directory named after both. Its memory is
//! loaded once into a sealed file in memory, which all its machines map and
//! none can change. Nothing of a machine is in it: it was frozen before a disk
//! or a network was looked at.

use crate::memory::{self, Digest};
use crate::platform::Platform;
use camino::{Utf8Path, Utf8PathBuf};
use rustix::fs::{MemfdFlags, memfd_create};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Seek, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio_util::sync::CancellationToken;
use worker::ports::Shape;

const MANIFEST: &str = "manifest.json";
const RAM: &str = "ram";
/// Begins the names of templates in the making.
const DRAFT: &str = "draft-";
/// Version of the manifest.
const VERSION: u32 = 1;

#[derive(Debug, Serialize, Deserialize)]
struct Manifest {
    version: u32,
    platform: BTreeMap<String, String>,
    ram_sum: Digest,
    state: String,
    state_sum: String,
}

/// A template that machines can begin from.
#[derive(Debug)]
pub(crate) struct Template {
    ram: File,
    state: Vec<u8>,
}

impl Template {
    /// A template of memory that no process has mapped for writing any more.
    pub(crate) fn new(ram: File, state: Vec<u8>) -> io::Result<Self> {
        memory::seal(&ram)?;
        Ok(Self { ram, state })
    }

    /// The memory, to be mapped privately.
    pub(crate) fn ram(&self) -> io::Result<File> {
        self.ram.try_clone()
    }

    /// The state of its devices, to be read from the beginning.
    pub(crate) fn state(&self) -> io::Result<File> {
        let mut file = File::from(memfd_create("device-state", MemfdFlags::CLOEXEC)?);
        file.write_all(&self.state)?;
        file.rewind()?;
        Ok(file)
    }
}

/// The templates of one host.
#[derive(Debug)]
pub(crate) struct Templates {
    dir: Utf8PathBuf,
    /// Held for an instant only: [`Self::has`] is asked on async threads.
    loaded: Mutex<BTreeMap<Key, Arc<Template>>>,
    /// A lock per template, held while its files are read or replaced.
    files: Mutex<BTreeMap<Key, Arc<Mutex<()>>>>,
}

/// Name of a platform, and shape.
type Key = (String, Shape);

impl Templates {
    /// Templates are kept in `dir`; what was being made is removed.
    ///
    /// # Errors
    /// The directory cannot be made or read.
    pub(crate) fn open(dir: &Utf8Path) -> io::Result<Self> {
        fs::DirBuilder::new().recursive(true).mode(0o700).create(dir)?;
        for entry in dir.read_dir_utf8()? {
            let entry = entry?;
            if entry.file_name().starts_with(DRAFT) {
                remove(entry.path());
            }
        }
        Ok(Self { dir: dir.to_owned(), loaded: Mutex::default(), files: Mutex::default() })
    }

    /// Whether there is a template, loaded or on disk. Does not wait for one that is
    /// being loaded.
    pub(crate) fn has(&self, platform: &Platform, shape: Shape) -> bool {
        locked(&self.loaded).contains_key(&(platform.name(), shape))
            || self.path(platform, shape).join(MANIFEST).exists()
    }

    /// The shapes that have one on disk.
    pub(crate) fn all(&self, platform: &Platform) -> Vec<Shape> {
        let name = platform.name();
        let shape = |entry: camino::Utf8DirEntry| {
            let (vcpus, mib) = entry.file_name().strip_prefix(&name)?[1..].split_once('x')?;
            let shape = Shape { vcpus: vcpus.parse().ok()?, memory_mib: mib.parse().ok()? };
            entry.path().join(MANIFEST).exists().then_some(shape)
        };
        let entries = self.dir.read_dir_utf8().into_iter().flatten().flatten();
        let mut all: Vec<_> = entries.filter_map(shape).collect();
        all.sort();
        all
    }

    /// The template of a shape; loads it from disk the first time. One that is
    /// damaged is removed. Blocks.
    pub(crate) fn get(&self, platform: &Platform, shape: Shape) -> Option<Arc<Template>> {
        let key = (platform.name(), shape);
        if let Some(template) = locked(&self.loaded).get(&key) {
            return Some(template.clone());
        }
        // A second caller waits for the first, and finds what it has loaded.
        let files = self.files_lock(&key);
        let _files = locked(&files);
        if let Some(template) = locked(&self.loaded).get(&key) {
            return Some(template.clone());
        }
        let path = self.path(platform, shape);
        if !path.join(MANIFEST).exists() {
            return None;
        }
        match load(&path, platform, shape) {
            Ok(template) => {
                let template = Arc::new(template);
                locked(&self.loaded).insert(key, template.clone());
                Some(template)
            }
            Err(err) => {
                tracing::warn!(%path, error = %rt::chain(&err), "removing a damaged template");
                remove(&path);
                None
            }
        }
    }

    /// Keeps a template that was tried out, and removes those of other platforms:
    /// nothing will ever begin from them again. Blocks.
    ///
    /// # Errors
    /// The disk is full or broken.
    pub(crate) fn keep(
        &self,
        platform: &Platform,
        shape: Shape,
        template: Arc<Template>,
    ) -> io::Result<()> {
        let path = self.path(platform, shape);
        let draft = self.dir.join(format!("{DRAFT}{}", path.file_name().unwrap_or_default()));
        remove(&draft);
        fs::DirBuilder::new().mode(0o700).create(&draft)?;
        let key = (platform.name(), shape);
        let files = self.files_lock(&key);
        let stored = store(&draft, platform, &template).and_then(|()| {
            let _files = locked(&files);
            remove(&path);
            fs::rename(&draft, &path)?;
            rt::fs::sync_dir(self.dir.as_std_path())?;
            locked(&self.loaded).insert(key, template);
            Ok(())
        });
        if stored.is_err() {
            remove(&draft);
        }
        stored?;
        self.collect(platform);
        Ok(())
    }

    /// Removes a template that could not be restored. Blocks.
    pub(crate) fn discard(&self, platform: &Platform, shape: Shape) {
        let key = (platform.name(), shape);
        let files = self.files_lock(&key);
        let _files = locked(&files);
        locked(&self.loaded).remove(&key);
        remove(&self.path(platform, shape));
    }

    /// Removes what no machine can begin from: templates of other platforms.
    pub(crate) fn collect(&self, platform: &Platform) {
        let name = platform.name();
        locked(&self.loaded).retain(|(of, _), _| *of == name);
        locked(&self.files).retain(|(of, _), _| *of == name);
        for entry in self.dir.read_dir_utf8().into_iter().flatten().flatten() {
            let template = entry.path().join(MANIFEST).exists();
            if template && !entry.file_name().starts_with(&name) {
                remove(entry.path());
            }
        }
    }

    fn path(&self, platform: &Platform, shape: Shape) -> Utf8PathBuf {
        let Shape { vcpus, memory_mib } = shape;
        self.dir.join(format!("{}-{vcpus}x{memory_mib}", platform.name()))
    }

    fn files_lock(&self, key: &Key) -> Arc<Mutex<()>> {
        locked(&self.files).entry(key.clone()).or_default().clone()
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn store(dir: &Utf8Path, platform: &Platform, template: &Template) -> io::Result<()> {
    let mut options = File::options();
    let ram = options.read(true).write(true).create_new(true).mode(0o600).open(dir.join(RAM))?;
    ram.set_len(template.ram.metadata()?.len())?;
    memory::copy(&template.ram, &ram, &CancellationToken::new())?;
    ram.sync_all()?;
    let manifest = Manifest {
        version: VERSION,
        platform: platform.properties().clone(),
        ram_sum: memory::digest(&template.ram)?,
        state: hex::encode(&template.state),
        state_sum: hex::encode(Sha256::digest(&template.state)),
    };
    let text = serde_json::to_vec_pretty(&manifest)?;
    rt::fs::write_atomic(dir.join(MANIFEST).as_std_path(), &text, 0o600)
}

fn load(dir: &Utf8Path, platform: &Platform, shape: Shape) -> io::Result<Template> {
    let manifest: Manifest = serde_json::from_slice(&fs::read(dir.join(MANIFEST))?)?;
    if manifest.version != VERSION {
        let text = format!("its manifest has version {}", manifest.version);
        return Err(io::Error::other(text));
    }
    if let Some(differs) = platform.differs(&manifest.platform) {
        return Err(io::Error::other(differs));
    }
    let ram = memory::fresh(shape.memory_mib)?;
    let file = File::open(dir.join(RAM))?;
    if file.metadata()?.len() != ram.metadata()?.len() {
        return Err(io::Error::other("its memory has another size"));
    }
    memory::copy(&file, &ram, &CancellationToken::new())?;
    let state = hex::decode(&manifest.state).map_err(io::Error::other)?;
    // The checksum covers the mapping that machines use, not the bytes that were read.
    if memory::digest(&ram)? != manifest.ram_sum
        || hex::encode(Sha256::digest(&state)) != manifest.state_sum
    {
        return Err(io::Error::other("its content is not what was written"));
    }
    Template::new(ram, state)
}

/// Removes a directory; what cannot be removed now is tried again later.
fn remove(path: &Utf8Path) {
    if let Err(err) = crate::process::boot_dir::ok_if_absent(fs::remove_dir_all(path)) {
        tracing::warn!(%path, error = %err, "cannot remove a template");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc;
    use std::time::Duration;

    #[test]
    fn a_template_that_is_being_loaded_does_not_block_the_question_whether_there_is_one() {
        let temp = tempfile::tempdir().unwrap();
        let templates = Templates::open(Utf8Path::from_path(temp.path()).unwrap()).unwrap();
        let platform = Platform::of_properties([("QEMU", "7.2.22")]);
        let shape = Shape { vcpus: 1, memory_mib: 128 };
        let path = templates.path(&platform, shape);
        fs::create_dir(&path).unwrap();
        // Opening it for reading blocks until there is a writer, as a slow disk would.
        let manifest = path.join(MANIFEST);
        let kind = rustix::fs::FileType::Fifo;
        rustix::fs::mknodat(rustix::fs::CWD, manifest.as_str(), kind, 0o600.into(), 0).unwrap();
        std::thread::scope(|scope| {
            let loading = scope.spawn(|| templates.get(&platform, shape));
            // Opens once the loader has opened the other side.
            let mut writer = File::options().write(true).open(&manifest).unwrap();
            let (sender, answer) = mpsc::channel();
            let (templates, platform) = (&templates, &platform);
            scope.spawn(move || sender.send(templates.has(platform, shape)));
            let answer = answer.recv_timeout(Duration::from_secs(10));
            writer.write_all(b"not a manifest").unwrap();
            drop(writer);
            assert_eq!(answer, Ok(true), "answered while the template was being loaded");
            assert!(loading.join().unwrap().is_none());
        });
        assert!(!templates.has(&platform, shape), "the damaged template was removed");
    }
}
