//! Control groups, version 1 and 2, for groups of processes under one name.
//!
//! Version 1 has a tree per controller (or per few of them), version 2 one tree
//! for all; hosts may have both. Of each controller we need, the tree that has
//! it is used. A controller that cannot be used is named in
//! [`Cgroups::warnings`]: VMs then run without that limit, visibly.

use crate::cgroup::limits::{self, Limits, settings};
use crate::cgroup::trees::{Controller, Tree, trees};
use crate::process::boot_dir::ok_if_absent;
use camino::{Utf8Path, Utf8PathBuf};
use std::fs;
use std::io;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// Below the platform's group: where the daemon is.
pub(super) const DAEMON: &str = "daemon";
/// Below the platform's group: the parent of the groups of VMs.
const VMS: &str = "vms";
/// File of a unified tree's group: controllers of the groups below it.
const SUBTREE_CONTROL: &str = "cgroup.subtree_control";

/// CPU weights, in thousandths of what an ordinary process (version 1) or group
/// (version 2) weighs. Machines are what the host is for: the platform weighs as
/// much as eight. Within it the daemon comes first: guests that are busy, or keep
/// the daemon busy, must not delay the API, the edge and other guests.
const PLATFORM_WEIGHT: u64 = 8000;
pub(super) const DAEMON_WEIGHT: u64 = 8000;
const VMS_WEIGHT: u64 = 1000;

/// The groups of one daemon.
///
/// ```text
/// <tree>/updraft-<instance>/daemon       the daemon itself, if it asks for that
///                          /vms/<name>   one group per VM
/// ```
#[derive(Debug)]
pub(crate) struct Cgroups {
    trees: Vec<Tree>,
    parent: String,
    /// Most memory of all VMs together, in bytes.
    vms_memory: Option<u64>,
    warnings: Vec<String>,
    // Keeps the removal of an empty parent apart from the making of a child.
    changing: Mutex<()>,
}

impl Cgroups {
    /// Looks at what is mounted and tries it. `vms_memory` limits all VMs together,
    /// in bytes.
    pub(crate) fn detect(instance: &str, vms_memory: Option<u64>) -> Self {
        let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
        let mut groups = Self {
            trees: trees(&mounts),
            parent: format!("updraft-{instance}"),
            vms_memory,
            warnings: Vec::new(),
            changing: Mutex::default(),
        };
        groups.keep_usable();
        groups.limit_running_vms();
        groups
    }

    /// Which limits could not be set here, and why. Controllers that had to be turned
    /// on for groups of the unified tree are off again afterwards, unless a group has
    /// come to use them.
    pub(crate) fn try_out(instance: &str) -> Vec<String> {
        let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
        let controls: Vec<_> = trees(&mounts)
            .into_iter()
            .filter(|tree| tree.unified)
            .map(|tree| tree.mount.join(SUBTREE_CONTROL))
            .map(|file| (fs::read_to_string(&file).unwrap_or_default(), file))
            .collect();
        let warnings = Self::detect(instance, None).warnings;
        for (before, file) in controls {
            let now = fs::read_to_string(&file).unwrap_or_default();
            for controller in turned_on(&before, &now) {
                // The kernel refuses for one that a group uses.
                let _ = write(&file, &format!("-{controller}"));
            }
        }
        warnings
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
            let dir = self.make_vms(tree)?.join(name);
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

    /// Has the kernel take memory from the processes of the group `name`, where it can: version 2
    /// of cgroups has `memory.reclaim`, version 1 nothing of the kind (kernel document
    /// `admin-guide/cgroup-v2`). Blocks until it has tried.
    ///
    /// # Errors
    /// The kernel could not take all of it.
    pub(crate) fn reclaim(&self, name: &str, bytes: u64) -> io::Result<()> {
        let of_memory =
            |tree: &&Tree| tree.unified && tree.controllers.contains(&Controller::Memory);
        match self.trees.iter().find(of_memory) {
            Some(tree) => write(&self.dir(tree, name).join("memory.reclaim"), &bytes.to_string()),
            None => Ok(()),
        }
    }

    /// Limits the CPU time of the group `name` to a quota in each period; `None` to that of so
    /// many vCPUs, as at its creation.
    ///
    /// # Errors
    /// There is no such group, or no controller for CPU time.
    pub(crate) fn limit_cpu(
        &self,
        name: &str,
        quota: Option<(Duration, Duration)>,
        vcpus: u32,
    ) -> io::Result<()> {
        let tree = self.cpu_tree().ok_or_else(|| io::Error::other("no cgroup controller cpu"))?;
        let all = || (limits::share(limits::all_vcpus(vcpus)), limits::PERIOD);
        let (quota, period) = quota.unwrap_or_else(all);
        let dir = self.dir(tree, name);
        let files = limits::quota(tree.unified, quota, period);
        files.iter().try_for_each(|(file, value)| write(&dir.join(file), value))
    }

    /// Time in which the processes of the group `name` were held back by a quota (kernel
    /// documents `scheduler/sched-bwc` and `admin-guide/cgroup-v2`).
    pub(crate) fn throttled(&self, name: &str) -> Option<Duration> {
        let tree = self.cpu_tree()?;
        let text = fs::read_to_string(self.dir(tree, name).join("cpu.stat")).ok()?;
        text.lines().find_map(|line| {
            let (key, value) = line.split_once(' ')?;
            match key {
                "throttled_time" => Some(Duration::from_nanos(value.trim().parse().ok()?)),
                "throttled_usec" => Some(Duration::from_micros(value.trim().parse().ok()?)),
                _ => None,
            }
        })
    }

    fn cpu_tree(&self) -> Option<&Tree> {
        self.trees.iter().find(|tree| tree.controllers.contains(&Controller::Cpu))
    }

    /// Processes in the group `name`.
    pub(crate) fn pids(&self, name: &str) -> Vec<u32> {
        let places = self.trees.iter().flat_map(|tree| self.places(tree, name));
        let texts = places.filter_map(|dir| fs::read_to_string(dir.join("cgroup.procs")).ok());
        let mut pids: Vec<u32> = texts
            .flat_map(|t| t.lines().filter_map(|l| l.parse().ok()).collect::<Vec<_>>())
            .collect();
        pids.sort_unstable();
        pids.dedup();
        pids
    }

    /// Names of the groups of all VMs.
    pub(crate) fn list(&self) -> Vec<String> {
        let parents = self.trees.iter().map(|tree| tree.mount.join(&self.parent));
        // VMs of an earlier version are beside `vms`.
        let dirs = parents.flat_map(|parent| [parent.join(VMS), parent]);
        let entries = dirs.filter_map(|dir| fs::read_dir(dir).ok()).flatten().flatten();
        let entries = entries.filter(|e| e.file_type().is_ok_and(|t| t.is_dir()));
        let mut names: Vec<String> =
            entries.filter_map(|e| e.file_name().into_string().ok()).collect();
        names.retain(|name| ![VMS, DAEMON].contains(&name.as_str()));
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
            for dir in self.places(tree, name) {
                ok_if_absent(fs::remove_dir(dir))?;
            }
            remove_if_empty(tree, &self.parent);
        }
        Ok(())
    }

    /// The group `name` and where an earlier version of this driver had it.
    fn places(&self, tree: &Tree, name: &str) -> [Utf8PathBuf; 2] {
        let parent = tree.mount.join(&self.parent);
        [parent.join(VMS).join(name), parent.join(name)]
    }

    /// The place of the group `name` that exists, or where it would be made.
    fn dir(&self, tree: &Tree, name: &str) -> Utf8PathBuf {
        let [now, earlier] = self.places(tree, name);
        if !now.exists() && earlier.exists() { earlier } else { now }
    }

    fn make_vms(&self, tree: &Tree) -> io::Result<Utf8PathBuf> {
        let parent = self.make_parent(tree)?;
        let vms = parent.join(VMS);
        if make_dir(&vms)? {
            warn_on_failure(set_weight(&vms, VMS_WEIGHT));
            warn_on_failure(self.limit_vms(tree));
        }
        if tree.unified {
            delegate(&vms, tree)?;
        }
        Ok(vms)
    }

    fn make_parent(&self, tree: &Tree) -> io::Result<Utf8PathBuf> {
        let parent = tree.mount.join(&self.parent);
        make_dir(&parent)?;
        warn_on_failure(set_weight(&parent, PLATFORM_WEIGHT));
        if tree.unified {
            delegate(&tree.mount, tree)?;
            delegate(&parent, tree)?;
        }
        Ok(parent)
    }

    /// Applies the limit on the memory of all VMs together.
    fn limit_vms(&self, tree: &Tree) -> io::Result<()> {
        let Some(bytes) = self.vms_memory else { return Ok(()) };
        if !tree.controllers.contains(&Controller::Memory) {
            return Ok(());
        }
        let vms = tree.mount.join(&self.parent).join(VMS);
        let hierarchy = vms.join("memory.use_hierarchy");
        if !tree.unified && hierarchy.exists() {
            // Version 1 counts groups below only with this; kernels from 5.11 always do.
            write(&hierarchy, "1")?;
        }
        let file = if tree.unified { "memory.max" } else { "memory.limit_in_bytes" };
        write(&vms.join(file), &bytes.to_string())
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

    /// The limit may be another one than when the first VM was started.
    fn limit_running_vms(&mut self) {
        let running = |tree: &&Tree| tree.mount.join(&self.parent).join(VMS).exists();
        let limited = self.trees.iter().filter(running).map(|tree| self.limit_vms(tree));
        if let Some(err) = limited.filter_map(Result::err).next() {
            self.warnings.push(format!("the memory of all VMs together is not limited: {err}"));
        }
    }

    /// The trees that share out CPU time, and the platform's group in each, made if
    /// it is absent.
    pub(super) fn cpu_groups(&self) -> io::Result<Vec<(&Tree, Utf8PathBuf)>> {
        let _changing = self.lock();
        let trees = self.trees.iter().filter(|t| t.controllers.contains(&Controller::Cpu));
        trees.map(|tree| Ok((tree, self.make_parent(tree)?))).collect()
    }

    /// Removes the platform's groups that have no processes.
    pub(super) fn remove_empty(&self) {
        let _changing = self.lock();
        for tree in &self.trees {
            remove_if_empty(tree, &self.parent);
        }
    }

    fn lock(&self) -> MutexGuard<'_, ()> {
        self.changing.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// VMs run without what is set for all of them together, rather than not at all.
fn warn_on_failure(set: io::Result<()>) {
    if let Err(err) = set {
        tracing::warn!(error = %err, "the VMs' parent cgroup is not set up as it should be");
    }
}

/// Returns whether it was made.
pub(super) fn make_dir(dir: &Utf8Path) -> io::Result<bool> {
    match fs::create_dir(dir) {
        Ok(()) => Ok(true),
        Err(err) if err.kind() == io::ErrorKind::AlreadyExists => Ok(false),
        Err(err) => named(Err(err), dir),
    }
}

/// The kernel refuses for groups that have processes or groups below them.
fn remove_if_empty(tree: &Tree, parent: &str) {
    let parent = tree.mount.join(parent);
    for dir in [parent.join(VMS), parent.join(DAEMON), parent] {
        let _ = fs::remove_dir(dir);
    }
}

/// Lets groups below `dir` have the controllers of a unified tree.
fn delegate(dir: &Utf8Path, tree: &Tree) -> io::Result<()> {
    let file = dir.join(SUBTREE_CONTROL);
    tree.controllers.iter().try_for_each(|c| write(&file, &format!("+{}", c.name())))
}

/// The controllers in `now` that are not in `before`.
fn turned_on<'a>(before: &str, now: &'a str) -> impl Iterator<Item = &'a str> {
    now.split_whitespace().filter(move |name| !before.split_whitespace().any(|had| had == *name))
}

/// Sets the CPU weight of a group, in thousandths, if its tree has that.
pub(super) fn set_weight(dir: &Utf8Path, weight: u64) -> io::Result<()> {
    let files = [("cpu.shares", weight * 1024 / 1000), ("cpu.weight", weight / 10)];
    let mut files = files.into_iter().map(|(name, value)| (dir.join(name), value));
    let Some((file, value)) = files.find(|(file, _)| file.exists()) else { return Ok(()) };
    write(&file, &value.to_string())
}

pub(super) fn write(file: &Utf8Path, value: &str) -> io::Result<()> {
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

    /// A tree of plain files: the kernel's rules do not hold, but paths and values
    /// can be read back.
    fn groups(unified: bool) -> (tempfile::TempDir, Cgroups) {
        let temp = tempfile::tempdir().unwrap();
        let mount = Utf8PathBuf::from_path_buf(temp.path().to_owned()).unwrap();
        let tree = Tree { mount, root: "/".into(), unified, controllers: Controller::ALL.into() };
        let groups = Cgroups {
            trees: vec![tree],
            parent: "updraft-t".into(),
            vms_memory: Some(1 << 30),
            warnings: Vec::new(),
            changing: Mutex::default(),
        };
        (temp, groups)
    }

    fn files(temp: &tempfile::TempDir, names: &[&str]) {
        for name in names {
            let path = temp.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, "").unwrap();
        }
    }

    fn read(temp: &tempfile::TempDir, name: &str) -> String {
        fs::read_to_string(temp.path().join(name)).unwrap()
    }

    #[test]
    fn the_daemon_outweighs_its_vms_in_both_versions() {
        for (unified, file, daemon, vms) in
            [(false, "cpu.shares", "8192", "1024"), (true, "cpu.weight", "800", "100")]
        {
            let (temp, groups) = groups(unified);
            let of = |name: &str| format!("updraft-t{name}/{file}");
            let control = |name: &str| format!("{name}cgroup.subtree_control");
            let all = [of(""), of("/vms"), of("/daemon"), control(""), control("updraft-t/")];
            files(&temp, &all.each_ref().map(String::as_str));
            let tree = &groups.trees[0];
            let parent = groups.make_parent(tree).unwrap();
            set_weight(&parent.join(VMS), VMS_WEIGHT).unwrap();
            set_weight(&parent.join(DAEMON), DAEMON_WEIGHT).unwrap();
            assert_eq!((read(&temp, &of("/daemon")).as_str(), daemon), (daemon, daemon));
            assert_eq!(read(&temp, &of("/vms")), vms);
            assert_eq!(read(&temp, &of("")), daemon, "among other processes of the host");
        }
    }

    #[test]
    fn a_trial_turns_off_what_it_has_turned_on_and_no_more() {
        let on = |before, now| turned_on(before, now).collect::<Vec<_>>();
        assert_eq!(on("memory\n", "cpu memory pids\n"), ["cpu", "pids"]);
        assert_eq!(on("cpu memory pids\n", "cpu memory pids\n"), [""; 0]);
        assert_eq!(on("cpuset\n", "cpuset cpu\n"), ["cpu"]);
    }

    #[test]
    fn all_vms_together_are_limited() {
        for (unified, file) in [(false, "memory.limit_in_bytes"), (true, "memory.max")] {
            let (temp, groups) = groups(unified);
            let file = format!("updraft-t/vms/{file}");
            files(&temp, &[&file]);
            groups.limit_vms(&groups.trees[0]).unwrap();
            assert_eq!(read(&temp, &file), (1 << 30).to_string());
        }
    }

    #[test]
    fn a_quota_is_set_and_lifted_and_its_effect_is_read() {
        for (unified, names, stat, limited, lifted) in [
            (
                false,
                &["cpu.cfs_period_us", "cpu.cfs_quota_us"][..],
                "nr_periods 9\nnr_throttled 4\nthrottled_time 2500000\n",
                "80000 5000",
                "100000 220000",
            ),
            (
                true,
                &["cpu.max"][..],
                "usage_usec 7\nthrottled_usec 2500\n",
                "5000 80000",
                "220000 100000",
            ),
        ] {
            let (temp, groups) = groups(unified);
            let of = |name: &str| format!("updraft-t/vms/a/{name}");
            let values = || {
                let mut text = String::new();
                for name in names {
                    // A file of the kernel has no remains of what was written before.
                    text.push_str(&read(&temp, &of(name)));
                    text.push(' ');
                    fs::write(temp.path().join(of(name)), "").unwrap();
                }
                text.trim_end().to_owned()
            };
            let all: Vec<String> = names.iter().chain(&["cpu.stat"]).map(|name| of(name)).collect();
            files(&temp, &all.iter().map(String::as_str).collect::<Vec<_>>());
            fs::write(temp.path().join(of("cpu.stat")), stat).unwrap();
            let ms = Duration::from_millis;
            groups.limit_cpu("a", Some((ms(5), ms(80))), 2).unwrap();
            assert_eq!(values(), limited);
            groups.limit_cpu("a", None, 2).unwrap();
            assert_eq!(values(), lifted);
            assert_eq!(groups.throttled("a"), Some(Duration::from_micros(2500)));
            assert!(groups.limit_cpu("none", None, 2).is_err());
            assert_eq!(groups.throttled("none"), None);
        }
    }

    #[test]
    fn groups_of_an_earlier_version_are_found_where_they_are() {
        let (temp, groups) = groups(false);
        files(&temp, &["updraft-t/old/cgroup.procs", "updraft-t/vms/new/cgroup.procs"]);
        fs::create_dir(temp.path().join("updraft-t/daemon")).unwrap();
        fs::write(temp.path().join("updraft-t/old/cgroup.procs"), "17\n").unwrap();
        assert_eq!(groups.list(), ["new", "old"]);
        assert_eq!(groups.pids("old"), [17]);
        groups.join("old", 18).unwrap();
        assert_eq!(read(&temp, "updraft-t/old/cgroup.procs"), "18\n", "written over \"17\"");
    }
}
