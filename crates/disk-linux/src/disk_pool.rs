//! Pool of scratch disks made in advance, for file systems without reflinks:
//! taking one is a rename.
//!
//! The pool is best effort. A disk that is not in it is copied from the
//! template; disks that a crash left behind are removed when the directory is
//! opened, since a power cut may have damaged them.

use crate::deadline::Deadline;
use crate::reflink::{clone_file, free_space};
use camino::{Utf8Path, Utf8PathBuf};
use std::fs;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Names of pooled disks begin with this.
pub(crate) const PREFIX: &str = ".spare-";
/// Pooled disks of one size.
const EACH: usize = 2;
/// Sizes that have pooled disks: the most recently used ones.
const SIZES: usize = 4;
/// The pool is not refilled if the file system has less free than this.
const MIN_FREE: u64 = 1 << 30;

/// The pooled disks of one directory.
#[derive(Debug, Default)]
pub(crate) struct DiskPool(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    /// The most recently used is last.
    sizes: Vec<Size>,
    /// Number of the last name used.
    last_number: u64,
    /// The machines' disks are on another file system, so a rename fails.
    disabled: bool,
}

#[derive(Debug)]
struct Size {
    template: Utf8PathBuf,
    ready: Vec<Utf8PathBuf>,
    /// A refill is running.
    refilling: bool,
}

impl DiskPool {
    /// Moves a pooled disk of this template to `path`. Returns `false` if there is none.
    pub(crate) fn take(&self, template: &Utf8Path, path: &Utf8Path) -> bool {
        let disk = self.lock().of(template).and_then(|size| size.ready.pop());
        let Some(disk) = disk else { return false };
        match fs::rename(&disk, path) {
            Ok(()) => true,
            Err(err) => {
                self.lock().disabled |= err.kind() == std::io::ErrorKind::CrossesDevices;
                let _ = fs::remove_file(&disk);
                false
            }
        }
    }

    /// Makes disks of this template until the pool has [`EACH`] of them.
    pub(crate) fn refill(&self, template: &Utf8Path) {
        let (begin, surplus) = self.lock().begin(template);
        surplus.iter().for_each(|disk| drop(fs::remove_file(disk)));
        if !begin {
            return;
        }
        loop {
            let next = self.lock().next(template);
            let Some(disk) = next else { break };
            if !make(template, &disk) {
                let _ = fs::remove_file(&disk);
                break;
            }
            if !self.lock().keep(template, &disk) {
                let _ = fs::remove_file(&disk);
            }
        }
        self.lock().end(template);
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // At worst, a panic of another thread leaves a size without pooled disks.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn of(&mut self, template: &Utf8Path) -> Option<&mut Size> {
        self.sizes.iter_mut().find(|size| size.template == template)
    }

    /// Whether the caller should refill, and the disks of sizes that were evicted.
    fn begin(&mut self, template: &Utf8Path) -> (bool, Vec<Utf8PathBuf>) {
        if self.disabled {
            return (false, self.sizes.drain(..).flat_map(|size| size.ready).collect());
        }
        let known = self.sizes.iter().position(|size| size.template == template);
        let mut size = match known {
            Some(at) => self.sizes.remove(at),
            None => Size { template: template.to_owned(), ready: Vec::new(), refilling: false },
        };
        let begin = !std::mem::replace(&mut size.refilling, true);
        self.sizes.push(size);
        let surplus = self.sizes.len().saturating_sub(SIZES);
        (begin, self.sizes.drain(..surplus).flat_map(|size| size.ready).collect())
    }

    /// Adds a disk. Returns `false` if its size was evicted meanwhile.
    fn keep(&mut self, template: &Utf8Path, disk: &Utf8Path) -> bool {
        self.of(template).map(|size| size.ready.push(disk.to_owned())).is_some()
    }

    fn end(&mut self, template: &Utf8Path) {
        if let Some(size) = self.of(template) {
            size.refilling = false;
        }
    }

    /// Path of the next disk, if the pool has fewer than [`EACH`].
    fn next(&mut self, template: &Utf8Path) -> Option<Utf8PathBuf> {
        let few = self.of(template).is_some_and(|size| size.ready.len() < EACH);
        self.last_number += u64::from(few);
        let name = format!("{PREFIX}{}", self.last_number);
        few.then(|| template.with_file_name(name))
    }
}

/// Copies the template. Fails where a copy is a reflink, which is as fast as the
/// rename.
fn make(template: &Utf8Path, disk: &Utf8Path) -> bool {
    let free = template.parent().and_then(|dir| free_space(dir).ok());
    free.is_some_and(|free| free >= MIN_FREE)
        && clone_file(template, disk, &Deadline::none()).is_ok_and(|shared| !shared)
}
