"""Two programs by turns.

Two daemons of each program are up at the same time; one of the four works at a
time, and a round is one measurement by each. So both programs meet the same
weather, and the two daemons of one program show how far a ratio is noise.
"""
import contextlib
import os
import time
from types import SimpleNamespace

from about import about
from measure import say
from report import publish
from side import Side

FULL = SimpleNamespace(create=16, cycle=16, cold=6, requests=8, density=1)
QUICK = SimpleNamespace(create=4, cycle=4, cold=1, requests=2, density=1)


def run(args, work):
    sizes, began = QUICK if args.quick else FULL, time.monotonic()
    programs = {"before": args.against, "after": args.updraft}
    with contextlib.ExitStack() as stack:
        sides = [
            stack.enter_context(Side(f"{name} {number}", program, work / "images", work / f"{name}-{number}"))
            for number in [1, 2] for name, program in programs.items()
        ]
        rounds = {}
        for side in sides:
            say(f"starting {side.name}")
            report = side.ask("prepare")
        result = {"about": about(report, args), "failed": {}, "compare": rounds}
        for part, count in vars(sizes).items():
            rounds[part] = []
            for number in range(count):
                say(f"{part}, round {number + 1} of {count}")
                # Every other round backwards: none is always the first.
                turns = sides if number % 2 == 0 else sides[::-1]
                rounds[part].append({side.name: side.ask(part) for side in turns})
    result["about"]["load after"] = "%.1f %.1f %.1f" % os.getloadavg()
    result["about"]["took"] = f"{time.monotonic() - began:.0f} s"
    publish(result, args.out)
    return 0
