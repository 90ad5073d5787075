"""What is measured, in order. Runs in a network namespace of its own."""
import contextlib
import os
import sqlite3
import statistics
import subprocess
import sys
import time
from types import SimpleNamespace

from about import about
from bare import Bare
from daemon import EDGE, Daemon
from measure import first_byte, pss_mib, spread
from proxies import BACKEND, NGINX_PORT, PROXY, Nginx, load, wait_for
from report import STAGES, publish

# One app for starts, one for requests.
APP, HOST = "hello", "hello.localhost"
WEB, WEB_HOST = "web", "web.localhost"
MEMORY_MIB = 256
SERVICE = {
    "protocol": "tcp",
    "ports": [{"port": 80, "handlers": ["http"]}],
    "autostart": True,
    "autostop": "off",
    "concurrency": {"type": "requests", "soft_limit": 1000, "hard_limit": 2000},
}
FULL = SimpleNamespace(creates=20, starts=10, rounds=3, seconds=2)
QUICK = SimpleNamespace(creates=5, starts=2, rounds=1, seconds=1)


def say(what):
    print(f"{what} ...", file=sys.stderr, flush=True)


def config(image, port=8080, **more):
    guest = {"cpu_kind": "shared", "cpus": 1, "memory_mb": MEMORY_MIB}
    return {"image": image, "guest": guest, "services": [{**SERVICE, "internal_port": port}], **more}


def web_config():
    """nginx without its access log: a line per request would be measured too."""
    quiet = "busybox sed -i 's/access_log .*/access_log off;/' /etc/nginx/nginx.conf"
    script = f"PATH=/bin; {quiet}; exec /usr/sbin/nginx -g 'daemon off;'"
    return config("nginx:latest", 80, init={"exec": ["/bin/sh", "-c", script]})


def run(program, repository, work, out, quick):
    sizes = QUICK if quick else FULL
    began = time.monotonic()
    with contextlib.ExitStack() as stack:
        say("starting updraft")
        daemon = stack.enter_context(Daemon(program, work))
        result = {"about": about(daemon.report, program, repository, quick)}
        roots = {}
        for name in ["hello", "nginx", "padded"]:
            say(f"importing the image {name}")
            roots[name] = daemon.import_image(work / "images" / name, f"{name}:latest")
        for app in [APP, WEB]:
            daemon.call("POST", "/apps", {"app_name": app, "org_slug": "personal"})
        result["create"] = create(daemon, roots, work, sizes)
        machine = started(daemon, APP, config("hello:latest"))
        say("booting the same app in bare QEMU")
        bare = Bare(daemon, machine["id"], roots["hello"], work)
        stack.callback(bare.stop)
        result["about"]["both VMs"] = bare.shape()
        result["start"] = starts(daemon, machine["id"], bare, sizes)
        result["memory"] = memory(daemon, machine["id"], bare)
        daemon.stop(APP, machine["id"])
        result["requests"] = requests(daemon, work, sizes)
        log = daemon.log()
    result["about"]["load after"] = "%.1f %.1f %.1f" % os.getloadavg()
    result["about"]["took"] = f"{time.monotonic() - began:.0f} s"
    publish(result, out)
    if log:
        print(f"the daemon complained:\n{log}", file=sys.stderr)
    return 0


def started(daemon, app, config):
    """A new machine that runs."""
    machine, _ = daemon.call("POST", f"/apps/{app}/machines", {"config": config})
    daemon.wait(app, machine["id"], "started")
    return machine


def create(daemon, roots, work, sizes):
    """The API's answer to a create, beside one durable commit of this disk."""
    say("creating machines")
    times = {"hello": [], "padded": [], "commit": []}
    database = sqlite3.connect(work / "commit.db", isolation_level=None)
    database.execute("PRAGMA journal_mode=WAL")
    database.execute("PRAGMA synchronous=FULL")
    database.execute("CREATE TABLE t (x)")
    for _ in range(sizes.creates):
        for image in ["hello", "padded"]:
            body = {"skip_launch": True, "config": config(f"{image}:latest")}
            made, took = daemon.call("POST", f"/apps/{APP}/machines", body)
            times[image].append(took)
            daemon.call("DELETE", f"/apps/{APP}/machines/{made['id']}?force=true")
        began = time.perf_counter()
        database.execute("INSERT INTO t VALUES (randomblob(1000))")
        times["commit"].append(time.perf_counter() - began)
    database.close()
    ms = {name: spread(values) for name, values in times.items()}
    return {"ms": ms, "root_mib": {name: root.stat().st_size / (1 << 20) for name, root in roots.items()}}


def starts(daemon, machine, bare, sizes):
    """A and B by turns; each alone on the machine."""
    a, b, stages = [], [], []
    daemon.stop(APP, machine)
    for turn in range(sizes.starts):
        say(f"start {turn + 1} of {sizes.starts}: a request to a stopped machine, then bare QEMU")
        a.append(first_byte(EDGE, HOST))
        one = daemon.start_stages(APP, machine)
        one["rest"] = a[-1] * 1e3 - sum(one.get(name, 0) for name in STAGES)
        stages.append(one)
        daemon.stop(APP, machine)
        b.append(bare.start())
        bare.stop()
    median = {name: statistics.median(one.get(name, 0.0) for one in stages) for name in [*STAGES, "rest"]}
    ratio = [left / right for left, right in zip(a, b)]
    summary = {"a_ms": spread(a), "b_ms": spread(b), "ratio": spread(ratio, 1), "stages_ms": median}
    return {**summary, "seconds": {"a": a, "b": b}}


def memory(daemon, machine, bare):
    """Each alone and idle after one request."""
    say("measuring memory")
    bare.start()
    yardstick = pss_mib(bare.process.pid)
    bare.stop()
    first_byte(EDGE, HOST)
    ours = pss_mib(daemon.vm_pid(machine))
    return {"updraft": ours, "bare": yardstick, "daemon": pss_mib(daemon.process.pid)}


def requests(daemon, work, sizes):
    """Direct, through the edge and through nginx: first an app in its VM, then
    a fast backend in place of the VM, which shows the proxies themselves."""
    say("starting a machine for requests")
    machine = started(daemon, WEB, web_config())
    address, port = machine["private_ipv4"], 80
    ways = {"direct": ((address, port), lambda: []), "edge": (EDGE, lambda: [daemon.process.pid])}
    rows = []
    # The edge holds its request until the app listens; nginx would fail.
    wait_for(EDGE, WEB_HOST)
    with Nginx(work / "proxy", PROXY, address=address, port=port, listen=NGINX_PORT) as nginx:
        ways["nginx"] = (("127.0.0.1", NGINX_PORT), nginx.pids)
        wait_for(ways["nginx"][0], WEB_HOST)
        for connections in [1, 64]:
            rows.append(one_row("nginx in a VM", "/", connections, ways, sizes))
        # The namespace's own address hides the route to the VM.
        own = lambda verb: subprocess.run(["ip", "address", verb, f"{address}/32", "dev", "lo"], check=True)
        own("add")
        with Nginx(work / "backend", BACKEND, address=address, port=port, root=files(work)):
            for way, _ in ways.values():
                wait_for(way, WEB_HOST)
            for path, connections in [("/1k", 1), ("/1k", 64), ("/100k", 64)]:
                rows.append(one_row("local backend", path, connections, ways, sizes))
        own("del")
    return rows


def files(work):
    """What the local backend serves."""
    dir = work / "files"
    dir.mkdir()
    for name, size in [("1k", 1 << 10), ("100k", 100 << 10), ("index.html", 10)]:
        (dir / name).write_bytes(b"x" * size)
    return dir


def one_row(what, path, connections, ways, sizes):
    """Medians over the rounds, the ways interleaved."""
    say(f"requests: {what}, {path}, {connections} connections")
    found = {name: [] for name in ways}
    for _ in range(sizes.rounds):
        for name, (way, pids) in ways.items():
            found[name].append(load(way, WEB_HOST, path, connections, sizes.seconds, pids()))
    median = lambda runs, key: None if runs[0][key] is None else statistics.median(run[key] for run in runs)
    figures = {name: {key: median(runs, key) for key in runs[0]} for name, runs in found.items()}
    return {"what": what, "path": path, "connections": connections, "ways": figures, "rounds": found}
