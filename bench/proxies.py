"""The edge and nginx in front of the same address, loaded with wrk."""
import os
import re
import shutil
import subprocess
import time
from pathlib import Path

from measure import first_byte

NGINX = ("127.0.0.1", 8089)
UNITS = {"us": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0}

# Tuned: kept connections to the app, no log, buffers that take a large answer.
PROXY = """
worker_processes auto;
upstream app {{ server {address}:{port}; keepalive 256; keepalive_requests 1000000; }}
server {{
    listen {listen} backlog=1024;
    location / {{
        proxy_pass http://app;
        proxy_http_version 1.1;
        proxy_set_header Connection "";
        proxy_set_header Host $host;
        proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
        proxy_buffer_size 64k;
        proxy_buffers 16 64k;
        proxy_busy_buffers_size 128k;
    }}
}}
"""
BACKEND = """
worker_processes 1;
server {{
    listen {address}:{port} backlog=1024;
    root {root};
    open_file_cache max=10;
}}
"""


class Nginx:
    """One nginx with its files in `dir`. To be used with `with`.

    `inside`: words in front of its command, see `namespace.entered`. `listener`:
    a socket to accept from in place of one of its own; nginx takes it over as it
    does from an earlier nginx when its program is upgraded.
    """

    def __init__(self, dir, servers, inside, listener=None, **values):
        dir.mkdir()
        self.inside, self.listener = inside, listener
        workers, _, http = servers.format(**values).strip().partition("\n")
        temp = " ".join(f"{kind}_temp_path {dir};" for kind in ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"])
        self.config = dir / "nginx.conf"
        self.config.write_text(
            f"{workers} user root; daemon off; pid {dir}/pid; error_log {dir}/error.log;\n"
            "events { worker_connections 4096; }\n"
            "http { access_log off; keepalive_requests 1000000; sendfile on; tcp_nopush on;\n"
            f"{temp}\n{http}\n}}\n"
        )
        self.dir = dir

    def __enter__(self):
        fds = [] if self.listener is None else [self.listener.fileno()]
        inherited = {"NGINX": "".join(f"{fd};" for fd in fds)} if fds else {}
        command = [*self.inside, "nginx", "-e", self.dir / "error.log", "-c", self.config]
        self.process = subprocess.Popen(
            command, stderr=subprocess.DEVNULL, pass_fds=fds, env={**os.environ, **inherited}
        )
        if self.listener is not None:
            self.listener.close()
        try:
            self._wait_for_workers()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_):
        self.process.terminate()
        self.process.wait()
        shutil.rmtree(self.dir)

    def _wait_for_workers(self):
        """It listens before it starts them."""
        deadline = time.monotonic() + 10
        while len(self.pids()) == 1:
            if self.process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"nginx did not start:\n{(self.dir / 'error.log').read_text()}")
            time.sleep(0.01)

    def pids(self):
        """Master and workers."""
        task = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children")
        return [self.process.pid, *map(int, task.read_text().split())]


def wait_for(address, host):
    """Waits until the proxy that was just started answers."""
    deadline = time.monotonic() + 30
    while first_byte(address, host) is None:
        if time.monotonic() > deadline:
            raise RuntimeError(f"there is no answer at {address}")
        time.sleep(0.01)


def cpu_seconds(pids):
    """User and system time of processes since their start."""
    tick = os.sysconf("SC_CLK_TCK")
    total = 0
    for pid in pids:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        total += int(fields[11]) + int(fields[12])
    return total / tick


def load(address, host, path, connections, seconds, pids, inside=()):
    """One run of wrk against `address`; `pids` are the proxy's. `inside`: words in
    front of the command."""
    before = cpu_seconds(pids)
    command = [*inside, "wrk", f"-t{1 if connections == 1 else 2}", f"-c{connections}", f"-d{seconds}s"]
    command += ["--latency", "--timeout", "10s", "-H", f"Host: {host}", "http://%s:%d%s" % (*address, path)]
    reply = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    spent = cpu_seconds(pids) - before
    # wrk counts what is neither 2xx nor 3xx, and what broke.
    if "Non-2xx" in reply or "Socket errors" in reply:
        raise RuntimeError(f"requests failed:\n{' '.join(map(str, command))}\n{reply}")
    requests = int(re.search(r"(\d+) requests in", reply)[1])
    at = lambda percent: _seconds(re.search(rf"{percent}%\s+([\d.]+)(us|ms|s|m)", reply))
    rate = float(re.search(r"Requests/sec:\s+([\d.]+)", reply)[1])
    cpu = spent / requests if pids else None
    return {"rate": rate, "p50": at(50), "p99": at(99), "cpu": cpu}


def _seconds(match):
    return float(match[1]) * UNITS[match[2]]
