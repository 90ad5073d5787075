"""Many machines of one template: what they hold, running and suspended, and how
they wake all at once."""
import contextlib
import socket
import statistics
import threading
import time
from pathlib import Path

from daemon import EDGE, processes_of
from measure import pss_mib, spread
from starts import IDLE, Subject, config


def herd(daemon, bare, idle, burst, say):
    """`idle` machines whose memory is measured, `burst` that wake in a second."""
    yardsticks = [alone(bare)]
    before = in_use()
    with contextlib.ExitStack() as stack:
        subjects = []
        for number in range(max(idle, burst)):
            say(f"machine {number + 1} of {max(idle, burst)}")
            one = Subject(daemon, f"herd-{number}", config("hello:latest"))
            stack.callback(one.destroy)
            one.stop()
            subjects.append(one)
        few = subjects[:idle]
        stopped = in_use()
        for one in few:
            one.wake("template")
        time.sleep(IDLE)
        say("measuring memory")
        pids = [daemon.vm_pid(one.id) for one in few]
        pss = [pss_mib(pid) for pid in pids]
        running = {**in_use(), "host": daemon.host()["memory_used_mib"]}
        for one in few:
            one.suspend()
        left = [pid for one in few for pid in processes_of(one.id)]
        time.sleep(IDLE)
        suspended = {**in_use(), "host": daemon.host()["memory_used_mib"]}
        found = {
            "n": idle, "pss_mib": spread([one["pss"] for one in pss], 1),
            "mean_mib": statistics.mean(one["pss"] for one in pss),
            "private_mib": spread([one["private"] for one in pss], 1),
            "suspended": {"processes": left, "before": before, "stopped": stopped, "running": running, "suspended": suspended},
        }
        for one in subjects[idle:]:
            one.wake("template")
            one.suspend()
        found["burst"] = {"suspended": wake(subjects[:burst], say, "suspended")}
        for one in subjects[:burst]:
            one.stop()
        found["burst"]["stopped"] = wake(subjects[:burst], say, "stopped")
    yardsticks.append(alone(bare))
    found["bare_mib"] = spread(yardsticks, 1)
    found["ratio"] = found["mean_mib"] / statistics.mean(yardsticks)
    return found


def alone(bare):
    """PSS of bare QEMU with nothing beside it."""
    bare.start()
    time.sleep(IDLE)
    pss = pss_mib(bare.process.pid)["pss"]
    bare.stop()
    return pss


def in_use():
    """MiB of this host's memory that nothing but its owner can give back: of
    processes, and of files in memory."""
    lines = dict(line.split(":") for line in Path("/proc/meminfo").read_text().splitlines())
    mib = lambda name: int(lines[name].split()[0]) / 1024
    return {"processes": mib("AnonPages"), "files in memory": mib("Shmem")}


def wake(subjects, say, state):
    """One request to each within a second, evenly."""
    say(f"waking {len(subjects)} {state} machines within a second")
    answers = [None] * len(subjects)
    began = time.perf_counter() + 0.1

    def ask(number):
        time.sleep(max(0, began + number / len(subjects) - time.perf_counter()))
        sent = time.perf_counter()
        status = status_of(subjects[number].host)
        answers[number] = (status, time.perf_counter() - sent, time.perf_counter() - began)

    threads = [threading.Thread(target=ask, args=[number]) for number in range(len(subjects))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    statuses = [status for status, _, _ in answers]
    return {
        "n": len(subjects), "failed": [status for status in statuses if status != "200"],
        "all_s": max(end for _, _, end in answers), "ms": spread([took for _, took, _ in answers]), "every": answers,
    }


def status_of(host):
    """The answer's status, or what went wrong."""
    try:
        with socket.create_connection(EDGE, 120) as stream:
            stream.sendall(f"GET / HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n".encode())
            return stream.makefile("rb").readline().decode().split()[1]
    except (OSError, IndexError) as err:
        return repr(err)
