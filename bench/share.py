"""The share of the CPU that Updraft has when others want it too.

Its daemon and its VMs are in control groups of their own. On a busy machine a bare
QEMU outside would be slower for that alone, so it gets a group of the same weight
([`Share`]). A load generator outside would be preempted at each request that it
sends, which costs the proxy more per request; so it runs in the daemon's own group
([`Beside`]).
"""
import os
from pathlib import Path

CGROUP = Path("/sys/fs/cgroup")


class Share:
    """While it is entered, this process and what it starts are in a group that
    weighs as much as that of the VM `pid` and its neighbours; without such a
    group nothing is done."""

    def __init__(self, pid):
        found = dict(_places(pid))
        self.home = dict(_places("self"))
        # A VM's group is in that of its daemon, which is what weighs.
        self.tree = next((tree for tree, path in found.items() if path.parent != Path("/")), None)
        if self.tree is not None:
            parent = _dir(self.tree, found[self.tree].parent)
            self.weight = next(parent / name for name in ["cpu.shares", "cpu.weight"] if (parent / name).exists())
            self.value = self.weight.read_text()
            self.dir = self.tree / f"updraft-bench.{os.getpid()}"

    def __enter__(self):
        if self.tree is not None:
            self.dir.mkdir()
            (self.dir / self.weight.name).write_text(self.value)
            (self.dir / "cgroup.procs").write_text(str(os.getpid()))
        return self

    def __exit__(self, *_):
        if self.tree is not None:
            (_dir(self.tree, self.home[self.tree]) / "cgroup.procs").write_text(str(os.getpid()))
            self.dir.rmdir()


class Beside:
    """While it is entered, this process and what it starts are in the control group
    of the process `pid` for the CPU. Earlier versions of the daemon have none."""

    def __init__(self, pid):
        home = dict(_places("self"))
        self.moves = [(tree, home[tree], path) for tree, path in _places(pid) if path != home.get(tree)]

    def __enter__(self):
        for tree, _, path in self.moves:
            (_dir(tree, path) / "cgroup.procs").write_text(str(os.getpid()))
        return self

    def __exit__(self, *_):
        for tree, home, _ in self.moves:
            (_dir(tree, home) / "cgroup.procs").write_text(str(os.getpid()))


def _places(pid):
    """The trees with the CPU controller, and the process's place in each."""
    for line in Path(f"/proc/{pid}/cgroup").read_text().splitlines():
        _, controllers, path = line.split(":", 2)
        if "cpu" in controllers.split(","):
            tree = next((CGROUP / name for name in [controllers, "cpu"] if (CGROUP / name).exists()), None)
        elif not controllers:
            tree = CGROUP if (CGROUP / "cgroup.procs").exists() else None
        else:
            tree = None
        if tree is not None:
            yield tree, Path(path)


def _dir(tree, path):
    return tree / path.relative_to("/")
