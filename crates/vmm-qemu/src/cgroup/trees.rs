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
    /// The part of the hierarchy that is mounted there.
    pub(super) root: String,
    pub(super) unified: bool,
    pub(super) controllers: Vec<Controller>,
}

/// The trees to use: those of version 1 that have what we need, then the
/// unified one if it has any of the rest.
pub(super) fn trees(mountinfo: &str) -> Vec<Tree> {
    let mut missing = Controller::ALL.to_vec();
    let mut trees = Vec::new();
    for (root, mount, kind, options) in mountinfo.lines().filter_map(cgroup_mount) {
        let offered = match kind {
            "cgroup" => options.replace(',', " "),
            _ => fs::read_to_string(Utf8Path::new(mount).join("cgroup.controllers"))
                .unwrap_or_default(),
        };
        let has = |c: &Controller| offered.split_whitespace().any(|word| word == c.name());
        let controllers: Vec<_> = missing.iter().copied().filter(has).collect();
        missing.retain(|c| !controllers.contains(c));
        if !controllers.is_empty() {
            let root = root.to_owned();
            trees.push(Tree { mount: mount.into(), root, unified: kind == "cgroup2", controllers });
        }
    }
    trees
}

/// Root, mount point, type and super options of a cgroup mount; see
/// proc_pid_mountinfo(5).
fn cgroup_mount(line: &str) -> Option<(&str, &str, &str, &str)> {
    let (head, tail) = line.split_once(" - ")?;
    let mut head = head.split(' ').skip(3);
    let (root, mount) = (head.next()?, head.next()?);
    let mut tail = tail.split(' ');
    let kind = tail.next().filter(|kind| matches!(*kind, "cgroup" | "cgroup2"))?;
    Some((root, mount, kind, tail.nth(1)?))
}

impl Tree {
    /// The group of a process in this tree, from its `/proc/<pid>/cgroup`. `None` if
    /// it is outside of what is mounted.
    pub(super) fn group_of(&self, proc_cgroup: &str) -> Option<Utf8PathBuf> {
        let path = proc_cgroup.lines().find_map(|line| {
            let mut fields = line.splitn(3, ':').skip(1);
            let (controllers, path) = (fields.next()?, fields.next()?);
            let ours = match self.unified {
                true => controllers.is_empty(),
                false => {
                    self.controllers.iter().any(|c| controllers.split(',').any(|n| n == c.name()))
                }
            };
            ours.then_some(path)
        })?;
        let below = path.strip_prefix(self.root.trim_end_matches('/'))?;
        let inside = below.is_empty() || below.starts_with('/');
        inside.then(|| self.mount.join(below.trim_start_matches('/')))
    }
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

    #[test]
    fn the_group_of_a_process_is_found_in_the_tree() {
        let tree = |root: &str, unified| Tree {
            mount: "/cg".into(),
            root: root.into(),
            unified,
            controllers: vec![Cpu],
        };
        let text = "4:memory:/m\n3:cpu,cpuacct:/docker/7/x\n0::/system.slice/u.service\n";
        let of = |root, unified| tree(root, unified).group_of(text).map(Utf8PathBuf::into_string);
        assert_eq!(of("/", false).as_deref(), Some("/cg/docker/7/x"));
        assert_eq!(of("/docker/7", false).as_deref(), Some("/cg/x"));
        assert_eq!(of("/docker/70", false), None);
        assert_eq!(of("/", true).as_deref(), Some("/cg/system.slice/u.service"));
    }
}
