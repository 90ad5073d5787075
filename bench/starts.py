"""Starting, suspending and resuming one machine, beside bare QEMU by turns."""
import sqlite3
import statistics
import time
from contextlib import contextmanager
from types import SimpleNamespace

from bare import Bare
from daemon import EDGE
from frozen import Frozen
from measure import first_byte, pss_mib, spread
from plot import DURING
from share import Share

# A config with it boots its own kernel: no template has this word.
WORD = "updraft.bench=1"
# Seconds until a machine that has answered counts as idle.
IDLE = 2
SERVICE = {
    "protocol": "tcp",
    "ports": [{"port": 80, "handlers": ["http"]}],
    "autostart": True,
    "autostop": "off",
    "concurrency": {"type": "requests", "soft_limit": 1000, "hard_limit": 2000},
}


def config(image, port=8080, mib=256, **more):
    # A shared CPU may have 2 GiB.
    kind = "shared" if mib <= 2048 else "performance"
    guest = {"cpu_kind": kind, "cpus": 1, "memory_mb": mib}
    return {"image": image, "guest": guest, "services": [{**SERVICE, "internal_port": port}], **more}


class Subject:
    """A machine with an app of its own, woken through the edge."""

    def __init__(self, daemon, app, config):
        self.daemon, self.app, self.host = daemon, app, f"{app}.localhost"
        daemon.app(app)
        self.id = daemon.machine(app, config)["id"]

    def wake(self, origin):
        """Seconds of a request that wakes it, and milliseconds by stage. `origin`:
        how it has to be started for the figure to be valid."""
        before = self.daemon.last_event(self.app, self.id)
        took = first_byte(EDGE, self.host)
        start = self.daemon.staged(self.app, self.id, "start", before)
        if start.get("origin") != origin:
            raise RuntimeError(f"{self.id} was to start from {origin}: {start}")
        self.daemon.wait(self.app, self.id, "started")
        return took, start["stages_ms"]

    def suspend(self):
        return self.daemon.suspend(self.app, self.id)

    def stop(self):
        self.daemon.stop(self.app, self.id)

    def destroy(self):
        self.daemon.destroy(self.app, self.id)


@contextmanager
def subject(daemon, app, config):
    one = Subject(daemon, app, config)
    try:
        yield one
    finally:
        one.destroy()


def create(daemon, roots, work, rounds, say):
    """The API's answer to a create, beside one durable commit of this disk."""
    say("creating machines")
    times = {"hello": [], "padded": [], "commit": []}
    database = sqlite3.connect(work / "commit.db", isolation_level=None)
    database.execute("PRAGMA journal_mode=WAL")
    database.execute("PRAGMA synchronous=FULL")
    database.execute("CREATE TABLE t (x)")
    daemon.app("create")
    for _ in range(rounds):
        for image in ["hello", "padded"]:
            body = {"skip_launch": True, "config": config(f"{image}:latest")}
            made, took = daemon.call("POST", "/apps/create/machines", body)
            times[image].append(took)
            daemon.destroy("create", made["id"])
        began = time.perf_counter()
        database.execute("INSERT INTO t VALUES (randomblob(1000))")
        times["commit"].append(time.perf_counter() - began)
    database.close()
    ms = {name: spread(values) for name, values in times.items()}
    sizes = {name: root.stat().st_size / (1 << 20) for name, root in roots.items()}
    return {"ms": ms, "root_mib": sizes, "seconds": times}


def yardstick(daemon, root, work, say):
    """Bare QEMU, made after a machine that boots its own kernel, and its share of the CPU."""
    say("booting the same app in bare QEMU")
    with subject(daemon, "like", config("hello:latest", init={"kernel_args": [WORD]})) as one:
        like = [" ".join(w for w in words.split(" ") if w != WORD) for words in daemon.command_line(one.id)]
        (scratch,) = (path for path in (daemon.data / "machines" / one.id).iterdir() if "scratch" in path.name)
        guest = next((daemon.data / "guest").glob("guest-*"))
        return Bare(like, guest, root, scratch.stat().st_size, work), Share(daemon.vm_pid(one.id))


def turns(daemon, bare, rounds, say):
    """All ways to begin and to be saved, by turns, each alone on the machine."""
    found = SimpleNamespace(a=[], b=[], cold=[], resumed=[], first=[], again=[], r=[], s=[], p=[])
    frozen = Frozen(bare)
    # The machine that has to boot shows what a start without a template costs.
    cold = config("hello:latest", init={"kernel_args": [WORD]})
    with subject(daemon, "hello", config("hello:latest")) as one, subject(daemon, "cold", cold) as two:
        one.stop()
        two.stop()
        for turn in range(rounds):
            say(f"turn {turn + 1} of {rounds}: start, suspend and resume; bare QEMU's boot, restore and save")
            found.a.append(one.wake("template"))
            found.b.append(bare.start())
            bare.stop()
            found.first.append(one.suspend())
            found.s.append(frozen.save())
            for again in range(2):
                found.r.append(frozen.restore())
                found.resumed.append(one.wake("resumed"))
                found.s.append(frozen.save())
                found.p.append(frozen.save_private())
                found.again.append(one.suspend())
            one.stop()
            found.cold.append(two.wake("cold"))
            two.stop()
    return summary(found)


def summary(found):
    seconds = lambda pairs: [first for first, _ in pairs]
    a, b, resumed = seconds(found.a), seconds(found.b), seconds(found.resumed)
    r = [(one["process"] + one["load"] + one["cont"]) / 1e3 for one in found.r]
    answer = [one["answer"] / 1e3 for one in found.r]
    saves = [stages["save"] / 1e3 for _, stages in found.again]
    firsts = [stages["save"] / 1e3 for _, stages in found.first]
    # The first save of a turn is beside the machine's first.
    s_first, s_again = found.s[0::3], [one for n, one in enumerate(found.s) if n % 3]
    over = lambda left, right: spread([x / y for x, y in zip(left, right)], 1)
    return {
        "a_ms": spread(a), "b_ms": spread(b), "cold_ms": spread(seconds(found.cold)), "a_b": over(a, b),
        "resumed_ms": spread(resumed), "r_ms": spread(r), "r_answer_ms": spread(answer),
        "above_r": over([w - x for w, x in zip(resumed, r)], r),
        "bare_above_r": over(answer, r),
        "above_bare_ms": spread([w - x - y for w, x, y in zip(resumed, r, answer)]),
        "save_first_ms": spread(firsts), "save_ms": spread(saves), "s_ms": spread(found.s), "p_ms": spread(found.p),
        "save_p": over(saves, found.p),
        "save_s": over(saves, s_again), "save_first_s": over(firsts, s_first),
        "suspend_first_ms": spread(seconds(found.first)), "suspend_ms": spread(seconds(found.again)),
        "stages": {
            "a": by_stage(found.a), "cold": by_stage(found.cold), "resumed": by_stage(found.resumed),
            "first": medians([stages for _, stages in found.first]),
            "again": medians([stages for _, stages in found.again]),
            "r": medians(found.r),
            "b": medians([{"boot": net * 1e3, "app": (whole - net) * 1e3} for whole, net in found.b]),
        },
        "every": vars(found),
    }


def by_stage(found):
    """Medians, with what no stage covers."""
    after = lambda stages: sum(ms for name, ms in stages.items() if name not in DURING)
    return medians([{**stages, "rest": took * 1e3 - after(stages)} for took, stages in found])


def medians(found):
    names = {name: None for one in found for name in one}
    return {name: statistics.median(one.get(name, 0.0) for one in found) for name in names}


def memory(daemon, bare, say):
    """A machine and bare QEMU, each alone and idle after one request."""
    say("measuring memory")
    bare.start()
    time.sleep(IDLE)
    alone = pss_mib(bare.process.pid)
    bare.stop()
    with subject(daemon, "alone", config("hello:latest")) as one:
        first_byte(EDGE, one.host)
        time.sleep(IDLE)
        ours = pss_mib(daemon.vm_pid(one.id))
    return {"updraft": ours, "bare": alone, "daemon": pss_mib(daemon.process.pid)}
