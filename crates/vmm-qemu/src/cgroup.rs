//! Control groups, version 1 and 2, for groups of processes under one name.
//!
//! Version 1 has a tree per controller (or per few of them), version 2 one tree
//! for all; hosts may have both. Of each controller we need, the tree that has
//! it is used. A controller that cannot be used is named in
//! [`Cgroups::warnings`]: VMs then run without that limit, visibly.

use camino::{Utf8Path, Utf8PathBuf};
use std::fs;
use std::io;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Limits of one group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Share of the CPU when there is not enough, in thousandths of a core.
    pub cpu_weight: u32,
    /// Most CPU time, in thousandths of a core.
    pub cpu_quota: u32,
    /// Most memory in bytes.
    pub memory: u64,
    /// Most processes and threads.
    pub pids: u32,
}

/// A controller that VMs are limited by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Controller {
    Cpu,
    Memory,
    Pids,
}

use Controller::{Cpu, Memory, Pids};

impl Controller {
    const ALL: [Self; 3] = [Cpu, Memory, Pids];

    fn name(self) -> &'static str {
        match self {
            Cpu => "cpu",
            Memory => "memory",
            Pids => "pids",
        }
    }
}

/// A mounted tree.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Tree {
    mount: Utf8PathBuf,
    unified: bool,
    controllers: Vec<Controller>,
}

/// The groups of one daemon: `<tree>/updraft-<instance>/<name>`.
#[derive(Debug)]
pub struct Cgroups {
    trees: Vec<Tree>,
    parent: String,
    warnings: Vec<String>,
    // Keeps the removal of an empty parent apart from the making of a child.
    changing: Mutex<()>,
}

impl Cgroups {
    /// Looks at what is mounted and tries it.
    pub fn detect(instance: &str) -> Self {
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
    pub fn warnings(&self) -> &[String] {
        &self.warnings
    }

    /// Makes the group `name` with its limits.
    ///
    /// # Errors
    /// A tree that was usable refuses; what was made is left for [`Self::remove`].
    pub fn create(&self, name: &str, limits: Limits) -> io::Result<()> {
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
    pub fn join(&self, name: &str, pid: u32) -> io::Result<()> {
        for tree in &self.trees {
            write(&self.dir(tree, name).join("cgroup.procs"), &pid.to_string())?;
        }
        Ok(())
    }

    /// Processes in the group `name`.
    pub fn pids(&self, name: &str) -> Vec<u32> {
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
    pub fn list(&self) -> Vec<String> {
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
    pub fn remove(&self, name: &str) -> io::Result<()> {
        let _changing = self.lock();
        for tree in &self.trees {
            crate::bootdir::ok_if_absent(fs::remove_dir(self.dir(tree, name)))?;
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

/// Files and what to write to them. The weight of one core is the kernel's
/// default in both versions.
fn settings(of: Controller, unified: bool, limits: Limits) -> Vec<(&'static str, String)> {
    const PERIOD_US: u64 = 100_000;
    let quota_us = (u64::from(limits.cpu_quota) * PERIOD_US / 1000).max(1000);
    let weight = u64::from(limits.cpu_weight);
    match (of, unified) {
        (Cpu, false) => vec![
            ("cpu.shares", (weight * 1024 / 1000).clamp(2, 262_144).to_string()),
            ("cpu.cfs_period_us", PERIOD_US.to_string()),
            ("cpu.cfs_quota_us", quota_us.to_string()),
        ],
        (Cpu, true) => vec![
            ("cpu.weight", (weight / 10).clamp(1, 10_000).to_string()),
            ("cpu.max", format!("{quota_us} {PERIOD_US}")),
        ],
        (Memory, false) => vec![("memory.limit_in_bytes", limits.memory.to_string())],
        (Memory, true) => {
            vec![("memory.max", limits.memory.to_string()), ("memory.oom.group", "1".into())]
        }
        (Pids, _) => vec![("pids.max", limits.pids.to_string())],
    }
}

/// The trees to use: those of version 1 that have what we need, then the
/// unified one if it has any of the rest.
fn trees(mountinfo: &str) -> Vec<Tree> {
    let mut missing = Controller::ALL.to_vec();
    let mut trees = Vec::new();
    for (mount, kind, options) in mountinfo.lines().filter_map(cgroup_mount) {
        let offered = match kind {
            "cgroup" => options.replace(',', " "),
            _ => fs::read_to_string(Utf8Path::new(mount).join("cgroup.controllers"))
                .unwrap_or_default(),
        };
        let has = |c: &Controller| offered.split_whitespace().any(|word| word == c.name());
        let controllers: Vec<_> = missing.iter().copied().filter(has).collect();
        missing.retain(|c| !controllers.contains(c));
        if !controllers.is_empty() {
            trees.push(Tree { mount: mount.into(), unified: kind == "cgroup2", controllers });
        }
    }
    trees
}

/// Mount point, type and super options of a cgroup mount; see
/// proc_pid_mountinfo(5).
fn cgroup_mount(line: &str) -> Option<(&str, &str, &str)> {
    let (head, tail) = line.split_once(" - ")?;
    let mount = head.split(' ').nth(4)?;
    let mut tail = tail.split(' ');
    let kind = tail.next().filter(|kind| matches!(*kind, "cgroup" | "cgroup2"))?;
    Some((mount, kind, tail.nth(1)?))
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

#[cfg(test)]
mod tests {
    use super::*;
    use expect_test::expect;

    const V1: &str = "\
31 30 0:27 / /sys/fs/cgroup/cpu,cpuacct rw,relatime - cgroup cgroup rw,cpu,cpuacct
35 30 0:31 / /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory
39 30 0:35 / /sys/fs/cgroup/pids rw,relatime shared:9 - cgroup cgroup rw,pids
40 30 0:36 / /sys/fs/cgroup/systemd rw,relatime - cgroup cgroup rw,name=systemd
22 1 254:0 / / rw,relatime - ext4 /dev/vda rw
";

    #[test]
    fn version_one_trees_are_found_by_their_controllers() {
        let found: Vec<_> =
            trees(V1).iter().map(|t| format!("{} {:?}", t.mount, t.controllers)).collect();
        expect![[r#"
            /sys/fs/cgroup/cpu,cpuacct [Cpu]
            /sys/fs/cgroup/memory [Memory]
            /sys/fs/cgroup/pids [Pids]"#]]
        .assert_eq(&found.join("\n"));
    }

    #[test]
    fn the_unified_tree_gives_what_version_one_does_not() {
        let temp = tempfile::tempdir().unwrap();
        let mount = temp.path().to_str().unwrap();
        fs::write(temp.path().join("cgroup.controllers"), "cpuset cpu io memory pids\n").unwrap();
        let line = format!("42 30 0:38 / {mount} rw - cgroup2 cgroup2 rw,nsdelegate");
        let found = trees(&line);
        assert_eq!(found[0].controllers, Controller::ALL);
        assert!(found[0].unified);
        let memory_first = V1.lines().nth(1).unwrap();
        assert_eq!(trees(&format!("{memory_first}\n{line}"))[1].controllers, [Cpu, Pids]);
    }

    #[test]
    fn what_is_written_for_two_vcpus_of_a_tenth_of_a_core() {
        let limits = Limits { cpu_weight: 100, cpu_quota: 2200, memory: 1 << 28, pids: 66 };
        let mut text = String::new();
        for unified in [false, true] {
            for (file, value) in Controller::ALL.iter().flat_map(|c| settings(*c, unified, limits))
            {
                text.push_str(&format!("{file} = {value}\n"));
            }
        }
        expect![[r#"
            cpu.shares = 102
            cpu.cfs_period_us = 100000
            cpu.cfs_quota_us = 220000
            memory.limit_in_bytes = 268435456
            pids.max = 66
            cpu.weight = 10
            cpu.max = 220000 100000
            memory.max = 268435456
            memory.oom.group = 1
            pids.max = 66
        "#]]
        .assert_eq(&text);
    }
}
