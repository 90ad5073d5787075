"""An Updraft of the benchmark's own, and calls of its API."""
import http.client
import json
import os
import subprocess
import time

API = ("127.0.0.1", 4280)
EDGE = ("127.0.0.1", 8088)


class Daemon:
    """`updraft up` in a directory of its own. To be used with `with`."""

    def __init__(self, program, work):
        self.program, self.data, self.work = program, work / "data", work
        # Settings of a platform that runs here are not ours.
        self.env = {k: v for k, v in os.environ.items() if not k.startswith(("UPDRAFT_", "FLY_"))}
        self.env.update(UPDRAFT_CONFIG_DIR=str(work / "config"), NO_COLOR="1")
        self.env.update(UPDRAFT_DATA_DIR=str(self.data))
        self.report = {}

    def __enter__(self):
        ready, log = self.work / "ready", self.work / "daemon.log"
        command = [self.program, "up", "--api", "%s:%d" % API, "--edge", "%s:%d" % EDGE, "--log", "warn"]
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
        self.connection = http.client.HTTPConnection(*API, timeout=120)
        return self

    def __exit__(self, *_):
        subprocess.run([self.program, "down"], env=self.env, check=False, stderr=subprocess.DEVNULL)
        if self.process.poll() is None:
            self.process.terminate()
        self.process.wait()

    def log(self):
        return (self.work / "daemon.log").read_text()

    def call(self, method, path, body=None):
        """The answer's JSON, and the seconds from the request's first byte to
        the answer's last."""
        content = None if body is None else json.dumps(body).encode()
        headers = {"Authorization": f"Bearer {self.token}", "Content-Type": "application/json"}
        self.connection.connect() if self.connection.sock is None else None
        began = time.perf_counter()
        self.connection.request(method, "/v1" + path, content, headers)
        answer = self.connection.getresponse()
        text = answer.read()
        took = time.perf_counter() - began
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

    def stop(self, app, machine):
        self.call("POST", f"/apps/{app}/machines/{machine}/stop", {})
        self.wait(app, machine, "stopped")

    def start_stages(self, app, machine):
        """Milliseconds by stage of the machine's latest start."""
        events, _ = self.call("GET", f"/apps/{app}/machines/{machine}/events?limit=10")
        stages = [e["request"]["stages_ms"] for e in events if (e.get("request") or {}).get("stages_ms")]
        return stages[0]

    def vm_pid(self, machine):
        pids = list((self.data / "vms" / machine).glob("*/pid"))
        return int(pids[0].read_text().split()[0])
