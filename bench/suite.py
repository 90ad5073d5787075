"""What is measured, in order. Runs in a network namespace of its own."""
import os
import sys
import time
import traceback
from types import SimpleNamespace

from about import about
from api import api
from daemon import Daemon
from flatten import flatten
from herd import herd
from measure import say
from report import publish
from sizes import sizes as by_size
from starts import create, memory, turns, yardstick
from warm import requests

PRESETS = [256, 512, 1024, 2048, 4096]
FULL = SimpleNamespace(
    creates=20, starts=10, rounds=3, seconds=2, idle=20, burst=30,
    presets=PRESETS, touched=[16, 64, 256, 1024], sized=3, flat_mib=500, flats=3,
)
QUICK = SimpleNamespace(
    creates=5, starts=2, rounds=1, seconds=1, idle=5, burst=10,
    presets=[256, 1024], touched=[16, 64, 256], sized=1, flat_mib=100, flats=1,
)


def run(program, work, args):
    sizes = QUICK if args.quick else FULL
    began = time.monotonic()
    result = {"failed": {}}
    say("starting updraft")
    with Daemon(program, work) as daemon:
        result["about"] = about(daemon.report, args)
        if "starts" in args.only:
            part(result, "starts", lambda: starts(result, daemon, work, sizes, args))
        if "requests" in args.only:
            part(result, "requests", lambda: warm(daemon, work, sizes))
        log = daemon.log()
    if "api" in args.only:
        part(result, "api", lambda: api(program, args.api, work, say))
    result["about"]["load after"] = "%.1f %.1f %.1f" % os.getloadavg()
    result["about"]["took"] = f"{time.monotonic() - began:.0f} s"
    publish(result, args.out)
    if log:
        print(f"the daemon complained:\n{log}", file=sys.stderr)
    return 1 if result["failed"] else 0


def part(result, name, measure):
    """One part that breaks does not cost the figures of the others."""
    try:
        result[name] = measure()
    except Exception as err:
        traceback.print_exc()
        result["failed"][name] = f"{type(err).__name__}: {err}"


def warm(daemon, work, sizes):
    daemon.import_image(work / "images/nginx", "nginx:latest")
    return requests(daemon, work, sizes, say)


def starts(result, daemon, work, sizes, args):
    roots = {}
    for name in ["hello", "padded", "shell"]:
        say(f"importing the image {name}")
        roots[name] = daemon.import_image(work / "images" / name, f"{name}:latest")
    part(result, "create", lambda: create(daemon, roots, work, sizes.creates, say))
    bare, share = yardstick(daemon, roots["hello"], work, say)
    result["about"]["both VMs"] = bare.shape()
    say("waiting for the template of 1x256")
    daemon.wait_for_template("1x256")
    with share, bare:
        part(result, "start", lambda: turns(daemon, bare, sizes.starts, say))
        part(result, "memory", lambda: memory(daemon, bare, say))
        part(result, "herd", lambda: herd(daemon, bare, sizes.idle, sizes.burst, say))
    part(result, "sizes", lambda: by_size(daemon, sizes.presets, sizes.touched, sizes.sized, say))
    if args.flatten.exists():
        part(result, "flatten", lambda: flatten(args.flatten, work, sizes.flat_mib, sizes.flats, say))
    else:
        result["failed"]["flatten"] = f"there is no {args.flatten}; `make bench` builds it"
