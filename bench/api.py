"""The API's own work: durable changes, long lists, watches, a host of many machines at rest."""
import json
import os
import signal
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor
from http.client import HTTPConnection
from types import SimpleNamespace

from daemon import API, Daemon
from measure import table, text

# Machines of the host that rests.
RESTING = 1000
# Seconds in which its CPU is counted, after as many of rest.
IDLE = 20


def api(program, example, work, say):
    """Fake hypervisors for what they do not change, `updraft up` for the rest."""
    say("changes, lists and watches")
    place = work / "api"
    place.mkdir()
    run = subprocess.run([example, place], check=True, stdout=subprocess.PIPE)
    return {**json.loads(run.stdout), "host": host(program, work, say)}


def host(program, work, say):
    """Start and idle CPU of a daemon with machines that are all stopped."""
    place = work / "many"
    place.mkdir()
    # Their disks may grow to more than there is: none of them is written to.
    with Daemon(program, place, ["--disk-overcommit", "1000"]) as daemon:
        daemon.import_image(work / "images/hello", "hello:latest")
        daemon.app("many")
        say(f"{RESTING} machines at rest")
        with ThreadPoolExecutor(16) as threads:
            list(threads.map(lambda _: create(daemon.token), range(RESTING)))
        states = SimpleNamespace(count=0)
        deadline = time.monotonic() + 600
        while states.count < RESTING and time.monotonic() < deadline:
            machines, _ = daemon.call("GET", "/apps/many/machines?state=stopped&summary=true")
            states.count = len(machines)
            time.sleep(0.5)
        os.kill(daemon.process.pid, signal.SIGKILL)
        daemon.process.wait()
        say("starting it again")
        starts = [started(daemon) for _ in range(3)]
        say("watching it rest")
        time.sleep(IDLE)
        before = cpu(daemon.process.pid)
        time.sleep(IDLE)
        used = cpu(daemon.process.pid) - before
        listed, _ = daemon.call("GET", "/apps/many/machines")
    return {"machines": len(listed), "start s": sorted(starts), "idle CPU": used / IDLE}


def create(token):
    connection = HTTPConnection(*API, timeout=120)
    headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
    body = json.dumps({"skip_launch": True, "config": {"image": "hello:latest"}})
    connection.request("POST", "/v1/apps/many/machines", body, headers)
    answer = connection.getresponse()
    text = answer.read()
    connection.close()
    if answer.status != 200:
        raise RuntimeError(f"create: {answer.status} {text!r}")


def started(daemon):
    """Seconds from the start of the process until it answers, after a kill."""
    if daemon.process.poll() is None:
        os.kill(daemon.process.pid, signal.SIGKILL)
        daemon.process.wait()
    began = time.monotonic()
    daemon.__enter__()
    daemon.call("GET", "/apps/many/machines?limit=1")
    return time.monotonic() - began


def cpu(pid):
    """Seconds of CPU that a process has used."""
    with open(f"/proc/{pid}/stat") as stat:
        fields = stat.read().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def tables(found):
    """The aims, and the figures."""
    changes, lists, watch, host = found["changes"], found["list"], found["watch"], found["host"]
    one, many = changes["host, one caller / bare"], changes["host, 64 callers / bare"]
    whole = lists["whole, ms"]["median"]
    every, own = watch["every event to all, ms"], watch["own machine each, ms"]
    start = host["start s"][len(host["start s"]) // 2]
    judged = [
        ("durable changes per second of a host, one caller, by bare commits", ">= 0.8", one, one >= 0.8),
        ("the same with 64 callers", "> 1", many, many > 1),
        (f"list of {lists['machines']} machines, ms", "<= 100", whole, whole <= 100),
        ("watch of an app, 1000 watchers, p99, ms", "<= 10", every["p99"], every["p99"] <= 10),
        ("watches of 1000 machines, p99, ms", "<= 10", own["p99"], own["p99"] <= 10),
        (f"start of a host with {host['machines']} stopped machines, s", "<= 2", start, start <= 2),
        ("its CPU at rest, cores", "< 0.01", f"{host['idle CPU']:.4f}", host["idle CPU"] < 0.01),
    ]
    rows = [[name, aim, measured, "yes" if met else "no"] for name, aim, measured, met in judged]
    yield table("The API: the aims", ["", "aim", "measured", "met?"], rows)
    rows = [[name, value] for name, value in changes.items() if name.endswith("/s")]
    rows.append(["creates/s, 64 callers", lists["creates/s"]])
    note = "Bare commits: one row of a SQLite file beside it, WAL and synchronous=FULL, by turns with the others."
    yield table("Durable changes", ["", "per second"], rows, note)
    rows = [
        [name, one["median"], one["p99"], one["min"], one["max"], one["n"]]
        for name, one in [
            (f"list, {text(lists['whole, MB'])} MB", lists["whole, ms"]),
            (f"list, summary, {text(lists['summary, MB'])} MB", lists["summary, ms"]),
            ("event to 1000 watchers of the app", every),
            ("event to one of 1000 watchers", own),
        ]
    ]
    note = "Events: from the answer of the call that made it to the client's read. Clients run on the same cores."
    yield table("Lists and watches, ms", ["", "median", "p99", "min", "max", "n"], rows, note)
