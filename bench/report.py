"""The results as tables on the terminal, and as files."""
import json
from datetime import datetime, timezone

from measure import table

# Stages of a start that follow each other, and what happens in them.
STAGES = {
    "image": "root image looked up",
    "disk": "scratch disk made",
    "network": "tap, addresses, rules",
    "spawn": "QEMU in its jail",
    "boot": "guest kernel, init, agent port",
    "guest_drivers": "block and network drivers",
    "guest_devices": "disks and card there",
    "guest_network": "addresses set",
    "guest_root": "root and scratch mounted",
    "guest_mounts": "/proc, /sys, /dev, ...",
    "guest_files": "hosts, resolv.conf, ...",
    "guest_exec": "app's process started",
}


SPREAD = ["", "median", "min", "max", "n"]


def spread_row(name, one):
    return [name, one["median"], one["min"], one["max"], one["n"]]


def create(made):
    rows = [
        spread_row(f"create, root image of {made['root_mib'][name]:.1f} MiB", made["ms"][name])
        for name in ["hello", "padded"]
    ]
    rows.append(spread_row("one SQLite commit (WAL, FULL) on this disk", made["ms"]["commit"]))
    return table("Create: the API's answer, image cached, ms", SPREAD, rows)


def start(found):
    rows = [
        spread_row("A: a request through the edge wakes it", found["a_ms"]),
        spread_row("B: bare QEMU, full boot", found["b_ms"]),
        spread_row("A/B, pair by pair", found["ratio"]),
    ]
    return table("Start of a stopped machine to the app's first HTTP byte, ms", SPREAD, rows)


def stages(found):
    whole, ms = found["a_ms"]["median"], found["stages_ms"]
    meanings = {**STAGES, "rest": "decision, commits, the app's own start, answer"}
    rows = [[f"{name}: {meaning}", ms[name], f"{100 * ms[name] / whole:.0f} %"] for name, meaning in meanings.items()]
    return table("A by stages, medians, ms", ["", "ms", "of A"], rows)


def memory(found):
    names = {"updraft": "QEMU of a machine", "bare": "bare QEMU", "daemon": "the daemon, all services"}
    rows = [[name, found[key]["pss"], found[key]["private"]] for key, name in names.items()]
    title = "Memory of an idle 256 MiB machine after one request, each alone, MiB"
    return table(title, ["", "PSS", "of it private"], rows)


def requests(found):
    rows = []
    for row in found:
        for name, way in row["ways"].items():
            added = None if name == "direct" else (way["p50"] - row["ways"]["direct"]["p50"]) * 1e6
            cpu = None if way["cpu"] is None else way["cpu"] * 1e6
            rows.append([f"{title_of(row)}, {name}", way["rate"], way["p50"] * 1e6, way["p99"] * 1e6, added, cpu])
    header = ["", "req/s", "p50 µs", "p99 µs", "p50 - direct", "CPU µs/req"]
    note = "CPU is that of the proxy: the whole Updraft process, or all of nginx's."
    return table("Warm requests, keep-alive, medians of the rounds", header, rows, note)


def against_nginx(found):
    rows = []
    for row in found:
        edge, nginx = row["ways"]["edge"], row["ways"]["nginx"]
        # Few requests may cost less than the clock of the kernel can tell.
        ratio = lambda key: edge[key] / nginx[key] if nginx[key] else None
        rows.append([title_of(row), ratio("rate"), ratio("cpu"), ratio("p50"), ratio("p99")])
    return table("The edge relative to nginx (1.00)", ["", "req/s", "CPU/req", "p50", "p99"], rows)


def title_of(row):
    return f"{row['what']}, {row['path']}, {row['connections']} conn"


def tables(result):
    """All of it as Markdown."""
    about = [f"- {name}: {value}" for name, value in result["about"].items()]
    yield "### The run\n\n" + "\n".join(about) + "\n"
    yield create(result["create"])
    yield start(result["start"])
    yield stages(result["start"])
    yield memory(result["memory"])
    yield requests(result["requests"])
    yield against_nginx(result["requests"])


def publish(result, out):
    markdown = "\n".join(tables(result))
    print(markdown)
    out.mkdir(parents=True, exist_ok=True)
    stem = datetime.now(timezone.utc).strftime("%Y%m%d-%H%M%S")
    (out / f"{stem}.json").write_text(json.dumps(result, indent=1))
    (out / f"{stem}.md").write_text(markdown)
    print(f"written to {out / stem}.md and .json")
