"""Warm requests: direct, through the edge and through nginx."""
import statistics
import subprocess
from contextlib import contextmanager

from daemon import EDGE
from namespace import entered, listener
from proxies import BACKEND, NGINX, PROXY, Nginx, load, wait_for
from share import Beside
from starts import config

WEB, WEB_HOST = "web", "web.localhost"


def web_config():
    """nginx without its access log: a line per request would be measured too."""
    quiet = "busybox sed -i 's/access_log .*/access_log off;/' /etc/nginx/nginx.conf"
    script = f"PATH=/bin; {quiet}; exec /usr/sbin/nginx -g 'daemon off;'"
    return config("nginx:latest", 80, init={"exec": ["/bin/sh", "-c", script]})


def requests(daemon, work, sizes, say):
    """Direct, through the edge and through nginx: first an app in its VM, then
    a fast backend in place of the VM, which shows the proxies themselves."""
    say("starting a machine for requests")
    daemon.app(WEB)
    machine = daemon.machine(WEB, web_config())
    address, inside = (machine["private_ipv4"], 80), entered()
    rows = []
    # The edge holds its request until the app listens; nginx would fail.
    wait_for(EDGE, WEB_HOST)
    with Beside(daemon.process.pid), proxy(work, address, inside) as nginx:
        # Target, the proxy's processes, and where wrk runs.
        ways = {
            "direct": (address, lambda: [], inside),
            "edge": (EDGE, lambda: [daemon.process.pid], []),
            "nginx": (NGINX, nginx.pids, []),
        }
        wait_for(NGINX, WEB_HOST)
        for connections in [1, 64]:
            rows.append(one_row("nginx in a VM", "/", connections, ways, sizes, say))
        with local_backend(work, address, inside):
            wait_for(NGINX, WEB_HOST)
            for path, connections in [("/1k", 1), ("/1k", 64), ("/100k", 64)]:
                rows.append(one_row("local backend", path, connections, ways, sizes, say))
    return rows


def proxy(work, address, inside):
    """nginx as the edge is: it accepts in this namespace and connects to the
    guest where that is reached."""
    to = {"address": address[0], "port": address[1]}
    return Nginx(work / "proxy", PROXY, inside, listener(NGINX), listen="%s:%d" % NGINX, **to)


@contextmanager
def local_backend(work, address, inside):
    """Answers at the address of a running VM: an address of the namespace's own
    hides the route to the VM."""
    own = lambda verb: subprocess.run([*inside, "ip", "address", verb, f"{address[0]}/32", "dev", "lo"], check=True)
    own("add")
    try:
        with Nginx(work / "backend", BACKEND, inside, address=address[0], port=address[1], root=files(work)):
            wait_for(EDGE, WEB_HOST)
            yield
    finally:
        own("del")


def files(work):
    """What the local backend serves."""
    dir = work / "files"
    dir.mkdir(exist_ok=True)
    for name, size in [("1k", 1 << 10), ("100k", 100 << 10), ("index.html", 10)]:
        (dir / name).write_bytes(b"x" * size)
    return dir


def one_row(what, path, connections, ways, sizes, say):
    """Medians over the rounds, the ways interleaved."""
    say(f"requests: {what}, {path}, {connections} connections")
    found = {name: [] for name in ways}
    for _ in range(sizes.rounds):
        for name, (target, pids, inside) in ways.items():
            found[name].append(load(target, WEB_HOST, path, connections, sizes.seconds, pids(), inside))
    median = lambda runs, key: None if runs[0][key] is None else statistics.median(run[key] for run in runs)
    figures = {name: {key: median(runs, key) for key in runs[0]} for name, runs in found.items()}
    return {"what": what, "path": path, "connections": connections, "ways": figures, "rounds": found}
