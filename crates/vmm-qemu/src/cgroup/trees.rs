//! The cgroup trees that the host has mounted, and which controllers each offers.

use camino::{Utf8Path, Utf8PathBuf};
use std::fs;

/// A controller that VMs are limited by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Controller {
    Cpu,
    Memory,
    Pids,
}

impl Controller {
    pub(super) const ALL: [Self; 3] = [Self::Cpu, Self::Memory, Self::Pids];

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Cpu => "cpu",
            Self::Memory => "memory",
            Self::Pids => "pids",
        }
    }
}

/// A mounted tree.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Tree {
    pub(super) mount: Utf8PathBuf,
    pub(super) unified: bool,
    pub(super) controllers: Vec<Controller>,
}

/// The trees to use: those of version 1 that have what we need, then the
/// unified one if it has any of the rest.
pub(super) fn trees(mountinfo: &str) -> Vec<Tree> {
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

#[cfg(test)]
mod tests {
    use super::Controller::{Cpu, Pids};
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
}
