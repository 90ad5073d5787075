"""An Updraft of the benchmark's own, and calls of its API."""
import http.client
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

API = ("127.0.0.1", 4280)
EDGE = ("127.0.0.1", 8088)


class Daemon:
    """`updraft up` in a directory of its own. To be used with `with`."""

    def __init__(self, program, work, settings=()):
        self.program, self.data, self.work = program, work / "data", work
        # Settings of a platform that runs here are not ours.
        self.env = {k: v for k, v in os.environ.items() if not k.startswith(("UPDRAFT_", "FLY_"))}
        self.env.update(UPDRAFT_CONFIG_DIR=str(work / "config"), NO_COLOR="1")
        self.env.update(UPDRAFT_DATA_DIR=str(self.data))
        # Further arguments of `updraft up`.
        self.settings = settings
        self.report = {}

    def __enter__(self):
        ready, log = self.work / "ready", self.work / "daemon.log"
        command = [self.program, "up", "--api", "%s:%d" % API, "--edge", "%s:%d" % EDGE, "--log", "warn"]
        command += self.settings
        with ready.open("w") as out, log.open("w") as err:
            self.process = subprocess.Popen(command, env=self.env, stdout=out, stderr=err)
        try:
            deadline = time.monotonic() + 120
            while "is ready" not in ready.read_text() or not ready.read_text().endswith("\n"):
                if self.process.poll() is not None or time.monotonic() > deadline:
                    raise RuntimeError(f"updraft did not come up:\n{log.read_text()}")
                time.sleep(0.05)
        except BaseException:
            self.__exit__()
            raise
        for line in ready.read_text().splitlines()[1:]:
            name, _, value = line.strip().partition("  ")
            self.report[name] = value.strip()
        self.token = (self.data / "admin-token").read_text().strip()
        self.connection, self.used = http.client.HTTPConnection(*API, timeout=700), 0
        return self

    def __exit__(self, *_):
        subprocess.run([self.program, "down"], env=self.env, check=False, stderr=subprocess.DEVNULL)
        if self.process.poll() is None:
            self.process.terminate()
        self.process.wait()
        # It ends its VMs itself, unless it is what is broken.
        for path in self.data.glob("vms/*/*/pid"):
            pid = int(path.read_text().split()[0])
            if b"updraft-" in read(Path(f"/proc/{pid}/cmdline")):
                print(f"bench: updraft left process {pid}, ending it", file=sys.stderr)
                os.kill(pid, signal.SIGKILL)

    def log(self):
        return (self.work / "daemon.log").read_text()

    def call(self, method, path, body=None):
        """The answer's JSON, and the seconds from the request's first byte to
        the answer's last."""
        content = None if body is None else json.dumps(body).encode()
        headers = {"Authorization": f"Bearer {self.token}", "Content-Type": "application/json"}
        # The API closes a connection that was idle for ten seconds.
        if time.monotonic() - self.used > 5:
            self.connection.close()
        if self.connection.sock is None:
            self.connection.connect()
        began = time.perf_counter()
        try:
            self.connection.request(method, "/v1" + path, content, headers)
            answer = self.connection.getresponse()
            text = answer.read()
        except BaseException:
            self.connection.close()
            raise
        took = time.perf_counter() - began
        self.used = time.monotonic()
        if answer.status >= 300:
            raise RuntimeError(f"{method} {path}: {answer.status} {text.decode(errors='replace')}")
        return (json.loads(text) if text else None), took

    def import_image(self, path, name):
        """The root image that was made of it."""
        before = set((self.data / "images/roots").iterdir())
        command = [self.program, "image", "import", path, "--name", name]
        env = {**self.env, "UPDRAFT_API": "http://%s:%d" % API, "UPDRAFT_TOKEN": self.token}
        subprocess.run(command, env=env, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
        (root,) = set((self.data / "images/roots").iterdir()) - before
        return root

    def wait(self, app, machine, state):
        """A long poll: it answers when the state is there."""
        self.call("GET", f"/apps/{app}/machines/{machine}/wait?state={state}&timeout=60")

    def app(self, name):
        self.call("POST", "/apps", {"app_name": name, "org_slug": "personal"})

    def machine(self, app, config):
        """A new machine that runs."""
        machine, _ = self.call("POST", f"/apps/{app}/machines", {"config": config})
        self.wait(app, machine["id"], "started")
        return machine

    def destroy(self, app, machine):
        self.call("DELETE", f"/apps/{app}/machines/{machine}?force=true")

    def stop(self, app, machine):
        self.call("POST", f"/apps/{app}/machines/{machine}/stop", {})
        self.wait(app, machine, "stopped")

    def suspend(self, app, machine):
        """Seconds from the call to the state, and milliseconds by stage."""
        before = self.last_event(app, machine)
        began = time.perf_counter()
        self.call("POST", f"/apps/{app}/machines/{machine}/suspend", {})
        self.wait(app, machine, "suspended")
        took = time.perf_counter() - began
        return took, self.staged(app, machine, "suspend", before)["stages_ms"]

    def execute(self, app, machine, *command, timeout=600):
        answer, took = self.call(
            "POST", f"/apps/{app}/machines/{machine}/exec", {"command": command, "timeout": timeout}
        )
        if answer["exit_code"]:
            raise RuntimeError(f"{' '.join(command)} in a machine: {answer}")
        return answer["stdout"], took

    def events(self, app, machine):
        """The newest first."""
        return self.call("GET", f"/apps/{app}/machines/{machine}/events?limit=20")[0]

    def last_event(self, app, machine):
        return next((event["id"] for event in self.events(app, machine)), None)

    def staged(self, app, machine, kind, after):
        """The newest event of `kind` that has stages, later than the event `after`.
        The answer of an app may be there before its event. Earlier versions had the
        stages in `request`."""
        deadline = time.monotonic() + 10
        while time.monotonic() < deadline:
            for event in self.events(app, machine):
                if event["id"] == after:
                    break
                details = {**(event.get("request") or {}), **event}
                if event["type"] == kind and details.get("stages_ms"):
                    return details
            time.sleep(0.02)
        raise RuntimeError(f"no {kind} of {machine} with its stages: {self.events(app, machine)}")

    def host(self):
        return self.call("GET", "/platform/hosts")[0][0]

    def wait_for_template(self, shape, seconds=180):
        """Templates are made in the background."""
        deadline = time.monotonic() + seconds
        while shape not in self.host().get("templates", []):
            if time.monotonic() > deadline:
                raise RuntimeError(f"there is no template of {shape} after {seconds} s: {self.host()}")
            time.sleep(0.2)

    def vm_pids(self, machine):
        """Processes of a machine's VMs, as the daemon wrote them down."""
        return [int(path.read_text().split()[0]) for path in (self.data / "vms" / machine).glob("*/pid")]

    def vm_pid(self, machine):
        (pid,) = self.vm_pids(machine)
        return pid

    def command_line(self, machine):
        return Path(f"/proc/{self.vm_pid(machine)}/cmdline").read_text().rstrip("\0").split("\0")


def read(path):
    try:
        return path.read_bytes()
    except OSError:
        return b""


def processes_of(machine):
    """Every process on this host that has the machine's id in its command line."""
    lines = {path: read(path) for path in Path("/proc").glob("[0-9]*/cmdline")}
    return [int(path.parent.name) for path, line in lines.items() if machine.encode() in line]
