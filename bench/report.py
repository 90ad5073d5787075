"""The results as tables on the terminal, and as files."""
import json
from datetime import datetime, timezone

import aims
import api
import plot
import ratios
from measure import table

# Stages of a start, in their order, and what happens in them.
STAGES = {
    "image": "root image looked up",
    "disk": "scratch disk made",
    "network": "tap, addresses, rules",
    "spawn": "QEMU in its jail",
    "restore": "guest of the template is resumed, agent port",
    "boot": "guest kernel, init, agent port",
    "guest_modules": "of boot: drivers of the agent port",
    "guest_port": "of boot: the port is there",
    "guest_drivers": "of boot: all other drivers",
    "guest_ready": "of boot: the rest before the guest config",
    "guest_config": "of boot or restore: until the guest config came",
    "guest_orders": "the same, as release 0.1 names it",
    "guest_identity": "clock, entropy, name",
    "guest_disks": "disks bound",
    "guest_layers": "root and scratch mounted",
    "guest_root": "root entered",
    "guest_files": "hosts, resolv.conf, ...",
    "guest_nic": "card bound",
    "guest_network": "addresses set",
    "guest_exec": "app's process started",
    "rest": "decision, commits, the guest's own time until the answer",
}
# What the parts of docs/performance.md show of a run.
PARTS_OF_DOCS = {
    "starts": ["create", "start", "memory", "herd", "sizes", "flatten"],
    "requests": ["requests"],
    "api": ["api"],
    "compare": ["compare"],
}
SPREAD = ["", "median", "min", "max", "n"]


def spread_row(name, one):
    return [name, one["median"], one["min"], one["max"], one["n"]]


def spreads(title, rows, note=""):
    return table(title, SPREAD, [spread_row(name, one) for name, one in rows], note)


def create(made):
    rows = [
        (f"create, root image of {made['root_mib'][name]:.1f} MiB", made["ms"][name])
        for name in ["hello", "padded"]
    ]
    rows.append(("one SQLite commit (WAL, FULL) on this disk", made["ms"]["commit"]))
    return spreads("Create: the API's answer, image cached, ms", rows)


def start(found):
    return spreads("Start of a stopped machine to the app's first HTTP byte, ms", [
        ("A: a request through the edge wakes it, from a template", found["a_ms"]),
        ("the same without a template: its kernel boots", found["cold_ms"]),
        ("B: bare QEMU, full boot", found["b_ms"]),
        ("A/B, pair by pair", found["a_b"]),
    ])


def resume(found):
    note = (
        "R ends before the guest runs. What bare QEMU needs from there to its first answer is the guest's own time, which "
        "emulation makes long: it translates all code again. The last row is what Updraft adds to both."
    )
    return spreads("A request to a suspended machine, ms", [
        ("W: to its first byte through the edge", found["resumed_ms"]),
        ("R: bare QEMU's start until cont", found["r_ms"]),
        ("(W - R)/R, pair by pair", found["above_r"]),
        ("bare QEMU: from cont to its app's first byte", found["r_answer_ms"]),
        ("that/R: what the ratio would be if Updraft took no time", found["bare_above_r"]),
        ("W - R - bare QEMU's cont to first byte", found["above_bare_ms"]),
    ], note)


def suspend(found):
    note = (
        "save: from the pause of the guest until it may be resumed or killed. S writes no memory: bare QEMU's is in its file all along. P writes all of it. "
        "The first suspend of a start writes all that the machine has touched, a later one what it touched since it was resumed."
    )
    return spreads("Suspend, ms", [
        ("save, of a machine that was resumed", found["save_ms"]),
        ("save, the first one of a start", found["save_first_ms"]),
        ("S: bare QEMU, stop and migrate", found["s_ms"]),
        ("P: the same, of a guest with private memory", found["p_ms"]),
        ("save/S, pair by pair", found["save_s"]),
        ("save/P, pair by pair", found["save_p"]),
        ("save/S, the first one of a start", found["save_first_s"]),
        ("API call to state suspended", found["suspend_ms"]),
        ("the same, the first one of a start", found["suspend_first_ms"]),
    ], note)


def ordered(stages):
    """Known stages in their order, before those that are not."""
    rank = {name: place for place, name in enumerate(STAGES)}
    return dict(sorted(stages.items(), key=lambda item: rank.get(item[0], len(rank) - 1.5)))


def stages(found):
    columns = {"A": "a", "no template": "cold", "resumed": "resumed"}
    shown = {title: found["stages"][key] for title, key in columns.items()}
    names = ordered({name: None for one in shown.values() for name in one})
    title = lambda name: f"{name}: {STAGES[name]}" if name in STAGES else name
    rows = [[title(name), *(one.get(name) for one in shown.values())] for name in names]
    return table("Starts by stages, medians, ms", ["", *shown], rows)


def suspend_stages(found):
    meanings = {
        "prepare": "room, and what is shared copied; the guest runs",
        "save": "devices and touched memory; the guest is paused",
        "sync": "durable, summed up",
    }
    both = [found["stages"]["first"], found["stages"]["again"]]
    rows = [[f"{name}: {meaning}", *(one.get(name) for one in both)] for name, meaning in meanings.items()]
    return table("Suspends by stages, medians, ms", ["", "first", "again"], rows)


def memory(found):
    names = {"updraft": "QEMU of a machine", "bare": "bare QEMU", "daemon": "the daemon, all services"}
    rows = [[name, found[key]["pss"], found[key]["private"]] for key, name in names.items()]
    title = "Memory of an idle 256 MiB machine after one request, each alone, MiB"
    return table(title, ["", "PSS", "of it private"], rows)


def herd(found):
    rows = [
        (f"PSS of one of {found['n']} machines", found["pss_mib"]),
        ("of it private", found["private_mib"]),
        ("PSS of bare QEMU, alone, before and after", found["bare_mib"]),
    ]
    note = f"Mean of the machines {found['mean_mib']:.1f} MiB: {found['ratio']:.2f} of bare QEMU."
    yield spreads(f"Memory of {found['n']} idle 256 MiB machines of one template, MiB", rows, note)
    sampled = found["suspended"]
    rows = [
        [name, one["processes"], one["files in memory"], one.get("host")]
        for name, one in [
            ("before the machines", sampled["before"]), ("stopped", sampled["stopped"]),
            ("running", sampled["running"]), ("suspended", sampled["suspended"]),
        ]
    ]
    note = f"Processes of suspended machines: {len(sampled['processes'])}. Other work on the machine counts too, but for the last column."
    header = ["", "processes", "files in memory", "machines, says the API"]
    yield table(f"Memory of the host with {found['n']} machines, MiB", header, rows, note)
    rows = []
    for state, one in found["burst"].items():
        ms = one["ms"]
        rows.append([f"{one['n']} {state} machines", one["all_s"] * 1e3, ms["median"], ms["min"], ms["max"], len(one["failed"])])
    yield table("Woken within one second, ms", ["", "all answered after", "median", "min", "max", "failed"], rows)


def sizes(found):
    median = lambda one, *names: [one[name]["median"] for name in names]
    keys = ["suspend_ms", "prepare_ms", "save_ms", "sync_ms", "resume_ms"]
    header = ["suspend", "prepare", "save", "sync", "resume"]
    rows = [[f"{row['mib']} MiB", *median(row, "start_ms", *keys)] for row in found["rows"]]
    note = "Start and resume: a request through the edge to its first byte. The suspend is the first one of a start."
    yield table("Each size, medians, ms", ["", "start", *header], rows, note)
    rows = [
        [f"{one['touched_mib']} MiB touched of {row['mib']}", *median(one, *keys)]
        for row in sorted(found["rows"], key=lambda row: row["mib"]) for one in row["touched"]
    ]
    rows.sort(key=lambda row: int(row[0].split()[0]))
    note = "Touched: written to a file in the guest's memory since it was resumed; what else it touched comes on top."
    yield table("By memory touched, medians, ms", ["", *header], rows, note)


def flatten(found):
    ms = found["ms"]
    title = f"Image of {found['layers']} layers and {found['mib']} MiB to a root filesystem ({found['root_mib']:.0f} MiB), all warm, ms"
    return spreads(title, [
        ("updraft: layers to a root image", ms["updraft"]),
        ("skopeo copy + umoci unpack", ms["both"]),
        ("of it skopeo copy", ms["skopeo"]), ("of it umoci unpack", ms["umoci"]),
        ("updraft/both, pair by pair", found["ratio"]),
    ])


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
        # Few requests may cost less than the resolution of the kernel's clock.
        ratio = lambda key: edge[key] / nginx[key] if nginx[key] else None
        rows.append([title_of(row), ratio("rate"), ratio("cpu"), ratio("p50"), ratio("p99")])
    return table("The edge relative to nginx (1.00)", ["", "req/s", "CPU/req", "p50", "p99"], rows)


def title_of(row):
    return f"{row['what']}, {row['path']}, {row['connections']} conn"


def tables(result):
    """All of it as Markdown."""
    about = [f"- {name}: {value}" for name, value in result["about"].items()]
    yield "### The run\n\n" + "\n".join(about) + "\n"
    if "starts" not in result["failed"] and any(name in result for name in ["create", "start"]):
        yield aims.aims(result)
    sections = [
        ("create", [create]), ("start", [start, resume, suspend, stages, suspend_stages]), ("memory", [memory]),
        ("herd", [herd]), ("sizes", [sizes]), ("flatten", [flatten]), ("requests", [requests, against_nginx]),
        ("api", [api.tables]), ("compare", [ratios.tables]),
    ]
    for name, shows in sections:
        for show in shows if name in result else []:
            shown = show(result[name])
            yield from [shown] if isinstance(shown, str) else shown
    if result["failed"]:
        yield "### Failed\n\n" + "\n".join(f"- {name}: {why}" for name, why in result["failed"].items()) + "\n"


def publish(result, out):
    out.mkdir(parents=True, exist_ok=True)
    stem = datetime.now(timezone.utc).strftime("%Y%m%d-%H%M%S")
    # First, so that a figure that no table expects costs no run.
    (out / f"{stem}.json").write_text(json.dumps(result, indent=1))
    markdown = "\n".join(tables(result))
    print(markdown)
    (out / f"{stem}.md").write_text(markdown)
    pictures = plot.pictures(result)
    for name, picture in pictures.items():
        (out / f"{stem}-{name}.svg").write_text(picture)
    print(f"written to {out / stem}: {', '.join(['.md', '.json', *(f'-{name}.svg' for name in pictures)])}")


def publish_in(docs, result):
    """Puts the tables into docs/performance.md in place of those of an earlier run,
    and the pictures beside it."""
    if result["failed"]:
        raise SystemExit(f"bench: a part of that run failed, docs are left alone: {result['failed']}")
    page = docs / "performance.md"
    text = page.read_text()
    for name, keys in PARTS_OF_DOCS.items():
        shown = {key: result[key] for key in keys if key in result}
        if not shown:
            continue
        markdown = "\n".join(tables({"about": result["about"], "failed": {}, **shown})).replace("### ", "#### ")
        begin, end = f"<!-- tables: {name} -->", f"<!-- end of tables: {name} -->"
        head, _, rest = text.partition(begin)
        text = f"{head}{begin}\n\n{markdown}\n{end}{rest.partition(end)[2]}"
    page.write_text(text)
    for name, picture in plot.pictures(result).items():
        (docs / f"performance-{name}.svg").write_text(picture)
