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
/// Most templates that a host keeps, on disk and loaded. The one that no machine has
/// started from for longest is removed; its memory is freed with the last machine
/// that runs from it.
const MAX_TEMPLATES: usize = 16;

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
    /// Those on disk. Held for an instant only: [`Self::has`] and [`Self::all`] are
    /// asked on async threads.
    index: Mutex<Index>,
    /// Held for an instant only.
    loaded: Mutex<BTreeMap<Key, Arc<Template>>>,
    /// A lock per template, held while its files are read or replaced.
    files: Mutex<BTreeMap<Key, Arc<Mutex<()>>>>,
}

/// Name of a platform, and shape.
type Key = (String, Shape);

/// Which templates are on disk, and in which order they were used.
#[derive(Debug, Default)]
struct Index {
    last_use: BTreeMap<Key, u64>,
    uses: u64,
}

impl Index {
    fn used(&mut self, key: &Key) {
        self.uses += 1;
        self.last_use.insert(key.clone(), self.uses);
    }

    /// Takes out those that are too many, the longest unused first.
    fn take_excess(&mut self) -> Vec<Key> {
        let excess = self.last_use.len().saturating_sub(MAX_TEMPLATES);
        let mut keys: Vec<_> =
            self.last_use.iter().map(|(key, used)| (*used, key.clone())).collect();
        keys.sort();
        let oldest: Vec<_> = keys.into_iter().take(excess).map(|(_, key)| key).collect();
        self.last_use.retain(|key, _| !oldest.contains(key));
        oldest
    }
}

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
        Ok(Self {
            dir: dir.to_owned(),
            index: Mutex::default(),
            loaded: Mutex::default(),
            files: Mutex::default(),
        })
    }

    /// Whether there is a template. Does not wait for one that is being loaded, nor for
    /// the disk.
    pub(crate) fn has(&self, platform: &Platform, shape: Shape) -> bool {
        locked(&self.index).last_use.contains_key(&(platform.name(), shape))
    }

    /// The shapes that have one. Does not wait for the disk.
    pub(crate) fn all(&self, platform: &Platform) -> Vec<Shape> {
        let name = platform.name();
        let index = locked(&self.index);
        index.last_use.keys().filter(|(of, _)| *of == name).map(|(_, shape)| *shape).collect()
    }

    /// The template of a shape; loads it from disk the first time. One that is
    /// damaged is removed. Blocks.
    pub(crate) fn get(&self, platform: &Platform, shape: Shape) -> Option<Arc<Template>> {
        let key = (platform.name(), shape);
        if let Some(template) = self.loaded(&key) {
            return Some(template);
        }
        // A second caller waits for the first, and finds what it has loaded.
        let files = self.files_lock(&key);
        let _files = locked(&files);
        if let Some(template) = self.loaded(&key) {
            return Some(template);
        }
        let path = self.path(platform, shape);
        if !path.join(MANIFEST).exists() {
            locked(&self.index).last_use.remove(&key);
            return None;
        }
        match load(&path, platform, shape) {
            Ok(template) => {
                let template = Arc::new(template);
                locked(&self.index).used(&key);
                locked(&self.loaded).insert(key, template.clone());
                Some(template)
            }
            Err(err) => {
                tracing::warn!(%path, error = %rt::chain(&err), "removing a damaged template");
                locked(&self.index).last_use.remove(&key);
                remove(&path);
                None
            }
        }
    }

    /// Keeps a template that was tried out, and removes those of other platforms, since
    /// nothing will ever begin from them again, and those that are too many. Blocks.
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
            locked(&self.loaded).insert(key.clone(), template);
            locked(&self.index).used(&key);
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
        locked(&self.index).last_use.remove(&key);
        locked(&self.loaded).remove(&key);
        remove(&self.path(platform, shape));
    }

    /// Finds the templates of this platform, and removes those of others, from which
    /// no machine can begin, and those that are too many. Blocks.
    pub(crate) fn collect(&self, platform: &Platform) {
        let name = platform.name();
        locked(&self.loaded).retain(|(of, _), _| *of == name);
        locked(&self.files).retain(|(of, _), _| *of == name);
        locked(&self.index).last_use.retain(|(of, _), _| *of == name);
        for entry in self.dir.read_dir_utf8().into_iter().flatten().flatten() {
            if !entry.path().join(MANIFEST).exists() {
                continue;
            }
            if let Some(shape) = shape_of(entry.file_name(), &name) {
                locked(&self.index).last_use.entry((name.clone(), shape)).or_default();
            } else if !entry.file_name().starts_with(&name) {
                remove(entry.path());
            }
        }
        self.remove_excess(platform);
    }

    fn remove_excess(&self, platform: &Platform) {
        let excess = locked(&self.index).take_excess();
        for key in excess {
            tracing::info!(shape = ?key.1, "removing the template that was unused for longest");
            let files = self.files_lock(&key);
            let _files = locked(&files);
            // It may have been loaded just before.
            locked(&self.index).last_use.remove(&key);
            locked(&self.loaded).remove(&key);
            remove(&self.path(platform, key.1));
        }
    }

    /// A loaded template, which is used now.
    fn loaded(&self, key: &Key) -> Option<Arc<Template>> {
        let template = locked(&self.loaded).get(key).cloned()?;
        locked(&self.index).used(key);
        Some(template)
    }

    fn path(&self, platform: &Platform, shape: Shape) -> Utf8PathBuf {
        let Shape { vcpus, memory_mib } = shape;
        self.dir.join(format!("{}-{vcpus}x{memory_mib}", platform.name()))
    }

    fn files_lock(&self, key: &Key) -> Arc<Mutex<()>> {
        locked(&self.files).entry(key.clone()).or_default().clone()
    }
}

/// The shape in the name of a template's directory. An operator may have copies with
/// other names beside it.
fn shape_of(directory: &str, platform: &str) -> Option<Shape> {
    let (vcpus, mib) = directory.strip_prefix(platform)?.strip_prefix('-')?.split_once('x')?;
    Some(Shape { vcpus: vcpus.parse().ok()?, memory_mib: mib.parse().ok()? })
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
        templates.collect(&platform);
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

    #[test]
    fn only_so_many_templates_are_kept_and_the_longest_unused_are_removed() {
        let temp = tempfile::tempdir().unwrap();
        let dir = Utf8Path::from_path(temp.path()).unwrap();
        let platform = Platform::of_properties([("QEMU", "7.2.22")]);
        let shape = |memory_mib| Shape { vcpus: 1, memory_mib };
        let templates = Templates::open(dir).unwrap();
        let keep = |shape| {
            let template = Template::new(memory::fresh(1).unwrap(), vec![7]).unwrap();
            templates.keep(&platform, shape, Arc::new(template)).unwrap();
        };
        let most = MAX_TEMPLATES as u32;
        (1..=most).for_each(|n| keep(shape(n)));
        assert!(templates.get(&platform, shape(1)).is_some());
        keep(shape(most + 1));
        assert_eq!(templates.all(&platform).len(), MAX_TEMPLATES);
        assert!(templates.has(&platform, shape(1)), "it was used since");
        assert!(
            !templates.has(&platform, shape(2)) && !templates.path(&platform, shape(2)).exists()
        );
        assert!(templates.get(&platform, shape(2)).is_none(), "its memory is not held either");
        assert_eq!(locked(&templates.loaded).len(), MAX_TEMPLATES);

        // So do those that an earlier daemon has left.
        fs::create_dir(templates.path(&platform, shape(900))).unwrap();
        fs::write(templates.path(&platform, shape(900)).join(MANIFEST), "{}").unwrap();
        let later = Templates::open(dir).unwrap();
        later.collect(&platform);
        assert_eq!(later.all(&platform).len(), MAX_TEMPLATES);
    }

    #[test]
    fn directories_with_other_names_are_no_templates() {
        let temp = tempfile::tempdir().unwrap();
        let templates = Templates::open(Utf8Path::from_path(temp.path()).unwrap()).unwrap();
        let platform = Platform::of_properties([("QEMU", "7.2.22")]);
        let name = platform.name();
        let names = [name.clone(), format!("{name}\u{fc}1x256"), format!("{name}-1x256.bak")];
        for name in names.iter().chain([&format!("{name}-2x512")]) {
            let path = templates.dir.join(name);
            fs::create_dir(&path).unwrap();
            fs::write(path.join(MANIFEST), "{}").unwrap();
        }
        templates.collect(&platform);
        assert_eq!(templates.all(&platform), [Shape { vcpus: 2, memory_mib: 512 }]);
        assert!(names.iter().all(|name| templates.dir.join(name).exists()), "left to the operator");
    }
}
