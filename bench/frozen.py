"""The yardsticks R and S: bare QEMU that is restored, and that is saved.

The classic way, by a script: the guest's memory is a file that stays where it
is (`x-ignore-shared`), and `migrate` writes the state of the devices beside it.
App, devices and network are those of the yardstick B.

- R: from QEMU's start until `cont` has answered. The file is mapped privately
  and in the page cache.
- S: from `stop` until `migrate` is done. The guest's memory is mapped shared, so
  all of it is in its file already: nothing is written but the devices' state.
- P: the same of a guest whose memory is mapped privately, as Updraft's is: all of
  its pages that are not zero go into the stream.
"""
import subprocess
import time

from bare import GUEST, copy
from measure import first_byte
from qmp import Qmp

def capabilities(ignore_shared):
    wanted = {"x-ignore-shared": ignore_shared, "events": True}
    return [{"capability": name, "state": state} for name, state in wanted.items()]


class Frozen:
    """A guest of `bare` whose app has answered once, and then was saved."""

    def __init__(self, bare):
        self.bare, self.dir = bare, bare.dir
        self.ram, self.state, self.scratch = (self.dir / name for name in ["ram", "state", "scratch.saved"])
        self.qmp = Qmp(self.dir / "qmp.sock")
        size = int(bare.value("-m")) << 20
        with self.ram.open("wb") as file:
            file.truncate(size)
        try:
            bare.start([*self._memory(self.ram, "on"), *self.qmp.arguments], self.qmp.fds)
            self.qmp.greet()
            self._save(self.state)
            self.qmp.ask("quit")
            bare.process.wait()
            copy(self.dir / "scratch.ext4", self.scratch)
        finally:
            self.stop()

    def restore(self):
        """Milliseconds by stage until `cont` has answered, and then until the app
        answers a request over its tap."""
        try:
            stages = self._restore(self.ram, "off")
            began = time.perf_counter()
            self._answer()
            return {**stages, "answer": (time.perf_counter() - began) * 1e3}
        finally:
            self.stop()

    def save(self):
        """Seconds to save a guest that runs and has just answered a request, S."""
        ram = self.dir / "ram.again"
        copy(self.ram, ram)
        try:
            return self._save_again(ram, "on")
        finally:
            ram.unlink()

    def save_private(self):
        """The same for P."""
        return self._save_again(self.ram, "off")

    def _save_again(self, ram, share):
        try:
            self._restore(ram, share)
            self._answer()
            return self._save(self.dir / "state.again", share == "on")
        finally:
            self.stop()

    def _memory(self, file, share):
        memory = f"memory-backend-file,id=ram,size={self.bare.value('-m')}M,mem-path={file},share={share}"
        # The later -M adds to the earlier one.
        return ["-M", "memory-backend=ram", "-object", memory]

    def _save(self, path, ignore_shared=True):
        with path.open("wb") as state:
            # QEMU's own limit is meant for networks.
            self.qmp.ask("migrate-set-parameters", **{"max-bandwidth": 1 << 40})
            began = time.perf_counter()
            self.qmp.ask("stop")
            self.qmp.ask("migrate-set-capabilities", capabilities=capabilities(ignore_shared))
            self.qmp.ask("getfd", state.fileno(), fdname="state")
            self.qmp.ask("migrate", uri="fd:state")
            self.qmp.until_migrated()
            return time.perf_counter() - began

    def _restore(self, ram, share):
        copy(self.scratch, self.dir / "scratch.ext4")
        self.qmp = Qmp(self.dir / "qmp.sock")
        command = [*self.bare.board(), *self._memory(ram, share), *self.qmp.arguments, "-incoming", "defer"]
        with self.state.open("rb") as state, (self.dir / "qemu.log").open("wb") as log:
            began = time.perf_counter()
            self.bare.process = subprocess.Popen(
                command, pass_fds=self.qmp.fds,
                stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=log,
            )
            self.qmp.greet()
            greeted = time.perf_counter()
            self.qmp.ask("migrate-set-capabilities", capabilities=capabilities(True))
            self.qmp.ask("getfd", state.fileno(), fdname="state")
            self.qmp.ask("migrate-incoming", uri="fd:state")
            self.qmp.until_migrated()
            loaded = time.perf_counter()
            self.qmp.ask("cont")
            done = time.perf_counter()
        return {"process": (greeted - began) * 1e3, "load": (loaded - greeted) * 1e3, "cont": (done - loaded) * 1e3}

    def _answer(self):
        """A frozen app listens, so it answers at the first try."""
        if first_byte((GUEST, 8080), "bare", timeout=10) is None:
            raise RuntimeError("the app of a restored bare QEMU does not listen")

    def stop(self):
        self.bare.stop()
        self.qmp.close()
