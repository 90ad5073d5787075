//! Ready-made scratch disks, where the file system cannot share blocks: to give
//! one to a machine is a rename.
//!
//! All of it is best effort: what is missing is copied as before, and what a
//! crash leaves is removed when the directory is opened, since a power cut may
//! have damaged it.

use crate::scratch::{clone_file, probe_space};
use camino::{Utf8Path, Utf8PathBuf};
use std::fs;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Names of spares begin so.
pub(crate) const PREFIX: &str = ".spare-";
/// Spares of one size.
const EACH: usize = 2;
/// Sizes that have spares: those that were asked for last.
const SIZES: usize = 4;
/// No spares if the file system has less free than this.
const ROOM: u64 = 1 << 30;

/// The spares of one directory.
#[derive(Debug, Default)]
pub(crate) struct Spares(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    /// What was asked for last is last.
    sizes: Vec<Size>,
    /// Tells the names apart.
    made: u64,
    /// The machines' disks are on another file system.
    useless: bool,
}

#[derive(Debug)]
struct Size {
    template: Utf8PathBuf,
    ready: Vec<Utf8PathBuf>,
    /// Somebody makes more.
    busy: bool,
}

impl Spares {
    /// Moves a spare of this template to `path`, if there is one. Says whether.
    pub(crate) fn take(&self, template: &Utf8Path, path: &Utf8Path) -> bool {
        let spare = self.lock().of(template).and_then(|size| size.ready.pop());
        let Some(spare) = spare else { return false };
        match fs::rename(&spare, path) {
            Ok(()) => true,
            Err(err) => {
                self.lock().useless |= err.kind() == std::io::ErrorKind::CrossesDevices;
                let _ = fs::remove_file(&spare);
                false
            }
        }
    }

    /// A disk of this template was taken: makes spares up to the bound.
    pub(crate) fn refill(&self, template: &Utf8Path) {
        let (begun, surplus) = self.lock().begin(template);
        surplus.iter().for_each(|spare| drop(fs::remove_file(spare)));
        if !begun {
            return;
        }
        loop {
            let next = self.lock().next(template);
            let Some(spare) = next else { break };
            if !make(template, &spare) {
                let _ = fs::remove_file(&spare);
                break;
            }
            if !self.lock().keep(template, &spare) {
                let _ = fs::remove_file(&spare);
            }
        }
        self.lock().end(template);
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // At worst, a panic of another maker leaves a size without spares.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn of(&mut self, template: &Utf8Path) -> Option<&mut Size> {
        self.sizes.iter_mut().find(|size| size.template == template)
    }

    /// Whether the caller is to make spares, and those that are too many.
    fn begin(&mut self, template: &Utf8Path) -> (bool, Vec<Utf8PathBuf>) {
        if self.useless {
            return (false, self.sizes.drain(..).flat_map(|size| size.ready).collect());
        }
        let known = self.sizes.iter().position(|size| size.template == template);
        let mut size = match known {
            Some(at) => self.sizes.remove(at),
            None => Size { template: template.to_owned(), ready: Vec::new(), busy: false },
        };
        let begun = !std::mem::replace(&mut size.busy, true);
        self.sizes.push(size);
        let surplus = self.sizes.len().saturating_sub(SIZES);
        (begun, self.sizes.drain(..surplus).flat_map(|size| size.ready).collect())
    }

    /// Whether the spare is wanted: its size may have been given up meanwhile.
    fn keep(&mut self, template: &Utf8Path, spare: &Utf8Path) -> bool {
        self.of(template).map(|size| size.ready.push(spare.to_owned())).is_some()
    }

    fn end(&mut self, template: &Utf8Path) {
        if let Some(size) = self.of(template) {
            size.busy = false;
        }
    }

    /// Where the next spare goes, if there are too few.
    fn next(&mut self, template: &Utf8Path) -> Option<Utf8PathBuf> {
        let few = self.of(template).is_some_and(|size| size.ready.len() < EACH);
        self.made += u64::from(few);
        let name = format!("{PREFIX}{}", self.made);
        few.then(|| template.with_file_name(name))
    }
}

/// Copies the template. No spare where a copy shares its blocks: it is as fast
/// as the rename.
fn make(template: &Utf8Path, spare: &Utf8Path) -> bool {
    let room = template.parent().and_then(|dir| probe_space(dir).ok());
    room.is_some_and(|free| free >= ROOM) && clone_file(template, spare).is_ok_and(|shared| !shared)
}
