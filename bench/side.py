"""One program of a comparison: an Updraft in a network namespace of its own, and
a process beside it that measures one round of one part when it is asked.

Runs as `python3 side.py PROGRAM WORK`. Each line of the input names a part; each
line of the output is its figures as JSON, or `{"failed": …}`.
"""
import json
import os
import shutil
import signal
import statistics
import subprocess
import sys
import time
import traceback
from pathlib import Path

from daemon import EDGE, Daemon
from measure import first_byte, pss_mib
from namespace import entered
from proxies import load
from share import Beside
from starts import IDLE, WORD, Subject, config, subject
from warm import WEB_HOST, local_backend, web_config

CREATES = 10
# Seconds of each load, by path and connections.
LOADS = {("/1k", 1): 1, ("/1k", 64): 2, ("/100k", 64): 1}


class Side:
    """The asking end. To be used with `with`."""

    def __init__(self, name, program, images, work):
        work.mkdir()
        (work / "images").symlink_to(images)
        self.name, self.work = name, work
        # A build meanwhile must not exchange it.
        self.program = shutil.copy2(program, work / "updraft")

    def __enter__(self):
        command = ["unshare", "--net", sys.executable, "-B", __file__, self.program, self.work]
        # A group of its own: a Ctrl-C reaches it once, through us.
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, start_new_session=True
        )
        return self

    def __exit__(self, failed, *_):
        if failed:
            self.process.terminate()
        self.process.stdin.close()
        self.process.wait()

    def ask(self, part):
        """Figures of one round of `part`."""
        self.process.stdin.write(f"{part}\n")
        self.process.stdin.flush()
        answer = json.loads(self.process.stdout.readline() or '{"failed": "its process ended"}')
        if "failed" in answer:
            raise RuntimeError(f"{self.name}: {part}: {answer['failed']}")
        return answer


class Parts:
    """What can be asked of a side."""

    def __init__(self, daemon, work):
        self.daemon, self.work = daemon, work

    def prepare(self):
        """Images, the template and machines that are stopped."""
        for image in ["hello", "nginx"]:
            self.daemon.import_image(self.work / "images" / image, f"{image}:latest")
        self.daemon.app("create")
        self.hello = Subject(self.daemon, "hello", config("hello:latest"))
        self.cold_one = Subject(self.daemon, "cold", config("hello:latest", init={"kernel_args": [WORD]}))
        self.web = Subject(self.daemon, "web", web_config())
        for one in [self.hello, self.cold_one, self.web]:
            one.stop()
        self.daemon.wait_for_template("1x256")
        return self.daemon.report

    def create(self):
        body = {"skip_launch": True, "config": config("hello:latest")}
        times = []
        for _ in range(CREATES):
            made, took = self.daemon.call("POST", "/apps/create/machines", body)
            times.append(took)
            self.daemon.destroy("create", made["id"])
        return {"create": statistics.median(times) * 1e3}

    def cycle(self):
        """A start from the template, the first suspend, a resume, another suspend."""
        found = {}
        self._wake(found, self.hello, "start", "template")
        self._suspend(found, "suspend_first")
        self._wake(found, self.hello, "resume", "resumed")
        self._suspend(found, "suspend")
        self.hello.stop()
        return found

    def cold(self):
        found = {}
        self._wake(found, self.cold_one, "cold", "cold")
        self.cold_one.stop()
        return found

    def requests(self):
        """The edge alone: the backend takes the place of the VM."""
        first_byte(EDGE, WEB_HOST)
        machine, _ = self.daemon.call("GET", f"/apps/web/machines/{self.web.id}")
        found, pids = {}, [self.daemon.process.pid]
        with Beside(pids[0]), local_backend(self.work, (machine["private_ipv4"], 80), entered()):
            for (path, connections), seconds in LOADS.items():
                run = load(EDGE, WEB_HOST, path, connections, seconds, pids)
                for key, scale in [("rate", 1), ("cpu", 1e6), ("p50", 1e6), ("p99", 1e6)]:
                    found[f"{key}{path} {connections}"] = run[key] * scale
        self.web.stop()
        return found

    def density(self):
        """Idle machines of one template."""
        subjects = [Subject(self.daemon, f"dense-{number}", config("hello:latest")) for number in range(10)]
        for one in subjects:
            one.stop()
            one.wake("template")
        time.sleep(IDLE)
        pss = [pss_mib(self.daemon.vm_pid(one.id)) for one in subjects]
        found = {name: statistics.mean(one[name] for one in pss) for name in ["pss", "private"]}
        for one in subjects:
            one.destroy()
        return {**found, "daemon": pss_mib(self.daemon.process.pid)["pss"]}

    def _wake(self, found, one, name, origin):
        took, stages = one.wake(origin)
        found[name] = took * 1e3
        found.update({f"{name}: {stage}": ms for stage, ms in stages.items()})

    def _suspend(self, found, name):
        took, stages = self.hello.suspend()
        found[name] = took * 1e3
        found.update({f"{name}: {stage}": ms for stage, ms in stages.items()})


def main(program, work):
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    # What the programs print is not for the asking end.
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
    with Daemon(program, work) as daemon:
        parts = Parts(daemon, work)
        for part in sys.stdin:
            try:
                answer = getattr(parts, part.strip())()
            except Exception as err:
                traceback.print_exc()
                answer = {"failed": f"{type(err).__name__}: {err}"}
            print(json.dumps(answer), file=answers, flush=True)
        complaints = daemon.log()
    if complaints:
        print(f"{program} complained:\n{complaints}", file=sys.stderr)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
