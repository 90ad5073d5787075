//! Control groups, version 1 and 2, for groups of processes under one name.
//!
//! Version 1 has a tree per controller (or per few of them), version 2 one tree
//! for all; hosts may have both. Of each controller we need, the tree that has
//! it is used. A controller that cannot be used is named in
//! [`Cgroups::warnings`]: VMs then run without that limit, visibly.

use crate::cgroup::limits::{Limits, settings};
use crate::cgroup::trees::{Controller, Tree, trees};
use camino::{Utf8Path, Utf8PathBuf};
use std::fs;
use std::io;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// The groups of one daemon: `<tree>/updraft-<instance>/<name>`.
#[derive(Debug)]
pub(crate) struct Cgroups {
    trees: Vec<Tree>,
    parent: String,
    warnings: Vec<String>,
    // Keeps the removal of an empty parent apart from the making of a child.
    changing: Mutex<()>,
}

impl Cgroups {
    /// Looks at what is mounted and tries it.
    pub(crate) fn detect(instance: &str) -> Self {
        let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
        let mut groups = Self {
            trees: trees(&mounts),
            parent: format!("updraft-{instance}"),
            warnings: Vec::new(),
            changing: Mutex::default(),
        };
        groups.keep_usable();
        groups
    }

    /// Which limits cannot be set here, and why.
    pub(crate) fn warnings(&self) -> &[String] {
        &self.warnings
    }

    /// Makes the group `name` with its limits.
    ///
    /// # Errors
    /// A tree that was usable refuses; what was made is left for [`Self::remove`].
    pub(crate) fn create(&self, name: &str, limits: Limits) -> io::Result<()> {
        let _changing = self.lock();
        for tree in &self.trees {
            let dir = self.make_parent(tree)?.join(name);
            make_dir(&dir)?;
            for (file, value) in
                tree.controllers.iter().flat_map(|c| settings(*c, tree.unified, limits))
            {
                write(&dir.join(file), &value)?;
            }
        }
        Ok(())
    }

    /// Puts a process with all its threads into the group `name`. Blocks for some
    /// milliseconds: the kernel waits until no thread of the host is being made.
    ///
    /// # Errors
    /// There is no such group or process.
    pub(crate) fn join(&self, name: &str, pid: u32) -> io::Result<()> {
        for tree in &self.trees {
            write(&self.dir(tree, name).join("cgroup.procs"), &pid.to_string())?;
        }
        Ok(())
    }

    /// Processes in the group `name`.
    pub(crate) fn pids(&self, name: &str) -> Vec<u32> {
        let files = self.trees.iter().map(|tree| self.dir(tree, name).join("cgroup.procs"));
        let texts = files.filter_map(|file| fs::read_to_string(file).ok());
        let mut pids: Vec<u32> = texts
            .flat_map(|t| t.lines().filter_map(|l| l.parse().ok()).collect::<Vec<_>>())
            .collect();
        pids.sort_unstable();
        pids.dedup();
        pids
    }

    /// Names of all groups that are there.
    pub(crate) fn list(&self) -> Vec<String> {
        let dirs =
            self.trees.iter().filter_map(|tree| fs::read_dir(tree.mount.join(&self.parent)).ok());
        let entries = dirs.flatten().flatten().filter(|e| e.file_type().is_ok_and(|t| t.is_dir()));
        let mut names: Vec<String> =
            entries.filter_map(|e| e.file_name().into_string().ok()).collect();
        names.sort_unstable();
        names.dedup();
        names
    }

    /// Removes the group `name`, and the parent with the last one. A group that
    /// is not there is fine.
    ///
    /// # Errors
    /// Processes are still in it.
    pub(crate) fn remove(&self, name: &str) -> io::Result<()> {
        let _changing = self.lock();
        for tree in &self.trees {
            crate::process::boot_dir::ok_if_absent(fs::remove_dir(self.dir(tree, name)))?;
            // Fails while there are other groups, which is what we want.
            let _ = fs::remove_dir(tree.mount.join(&self.parent));
        }
        Ok(())
    }

    fn dir(&self, tree: &Tree, name: &str) -> Utf8PathBuf {
        tree.mount.join(&self.parent).join(name)
    }

    fn make_parent(&self, tree: &Tree) -> io::Result<Utf8PathBuf> {
        let parent = tree.mount.join(&self.parent);
        make_dir(&parent)?;
        // Machines are what the host is for: together they weigh as much as
        // eight ordinary processes. Where it cannot be set they weigh as one.
        for (file, weight) in [("cpu.shares", "8192"), ("cpu.weight", "800")] {
            if parent.join(file).exists() {
                let _ = fs::write(parent.join(file), weight);
            }
        }
        if tree.unified {
            for dir in [&tree.mount, &parent] {
                for controller in &tree.controllers {
                    write(&dir.join("cgroup.subtree_control"), &format!("+{}", controller.name()))?;
                }
            }
        }
        Ok(parent)
    }

    /// Drops trees that cannot be written and warns of controllers without one.
    fn keep_usable(&mut self) {
        let probe = Limits { cpu_weight: 1000, cpu_quota: 1000, memory: 1 << 30, pids: 64 };
        let mut usable = Vec::new();
        for tree in std::mem::take(&mut self.trees) {
            self.trees = vec![tree.clone()];
            let name = format!("probe-{}", std::process::id());
            match self.create(&name, probe) {
                Ok(_) => usable.push(tree.clone()),
                Err(err) => {
                    self.warnings.push(format!("cgroup tree {} cannot be used: {err}", tree.mount));
                }
            }
            // A tree that refused to be changed has nothing to be removed.
            let _ = self.remove(&name);
        }
        self.trees = usable;
        for controller in Controller::ALL {
            if !self.trees.iter().any(|t| t.controllers.contains(&controller)) {
                let name = controller.name();
                self.warnings
                    .push(format!("no cgroup controller {name}: VMs run without {name} limits"));
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, ()> {
        self.changing.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn make_dir(dir: &Utf8Path) -> io::Result<()> {
    match fs::create_dir(dir) {
        Err(err) if err.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        other => named(other, dir),
    }
}

fn write(file: &Utf8Path, value: &str) -> io::Result<()> {
    // Not created: in a cgroup tree a missing file is a missing feature.
    named(fs::OpenOptions::new().write(true).open(file), file)
        .and_then(|mut open| named(io::Write::write_all(&mut open, value.as_bytes()), file))
}

fn named<T>(result: io::Result<T>, path: &Utf8Path) -> io::Result<T> {
    result.map_err(|err| io::Error::new(err.kind(), format!("{path}: {err}")))
}
