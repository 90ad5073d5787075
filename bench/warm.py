"""Warm requests: direct, through the edge and through nginx."""
import statistics
import subprocess

from daemon import EDGE
from proxies import BACKEND, NGINX_PORT, PROXY, Nginx, load, wait_for
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
    address, port = machine["private_ipv4"], 80
    ways = {"direct": ((address, port), lambda: []), "edge": (EDGE, lambda: [daemon.process.pid])}
    rows = []
    # The edge holds its request until the app listens; nginx would fail.
    wait_for(EDGE, WEB_HOST)
    with Nginx(work / "proxy", PROXY, address=address, port=port, listen=NGINX_PORT) as nginx:
        ways["nginx"] = (("127.0.0.1", NGINX_PORT), nginx.pids)
        wait_for(ways["nginx"][0], WEB_HOST)
        for connections in [1, 64]:
            rows.append(one_row("nginx in a VM", "/", connections, ways, sizes, say))
        # The namespace's own address hides the route to the VM.
        own = lambda verb: subprocess.run(["ip", "address", verb, f"{address}/32", "dev", "lo"], check=True)
        own("add")
        with Nginx(work / "backend", BACKEND, address=address, port=port, root=files(work)):
            for way, _ in ways.values():
                wait_for(way, WEB_HOST)
            for path, connections in [("/1k", 1), ("/1k", 64), ("/100k", 64)]:
                rows.append(one_row("local backend", path, connections, ways, sizes, say))
        own("del")
    return rows


def files(work):
    """What the local backend serves."""
    dir = work / "files"
    dir.mkdir()
    for name, size in [("1k", 1 << 10), ("100k", 100 << 10), ("index.html", 10)]:
        (dir / name).write_bytes(b"x" * size)
    return dir


def one_row(what, path, connections, ways, sizes, say):
    """Medians over the rounds, the ways interleaved."""
    say(f"requests: {what}, {path}, {connections} connections")
    found = {name: [] for name in ways}
    for _ in range(sizes.rounds):
        for name, (way, pids) in ways.items():
            found[name].append(load(way, WEB_HOST, path, connections, sizes.seconds, pids()))
    median = lambda runs, key: None if runs[0][key] is None else statistics.median(run[key] for run in runs)
    figures = {name: {key: median(runs, key) for key in runs[0]} for name, runs in found.items()}
    return {"what": what, "path": path, "connections": connections, "ways": figures, "rounds": found}
