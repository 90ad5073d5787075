"""The aims of starting machines, and whether a run meets them."""
from measure import table, text


def aims(result):
    met = {True: "yes", False: "no", None: "not measured"}
    rows = [[figure, aim, measured, met[holds]] for figure, aim, measured, holds in judged(result)]
    note = "Medians. Several figures of a row must all hold."
    return table("Starting machines: the aims", ["", "aim", "measured", "met?"], rows, note)


def judged(result):
    """Figure, aim, measured, whether it holds; None where a part is missing."""
    rows = [
        ("start of a stopped machine, A/B", "<= 0.20", start),
        ("request to a suspended machine, (first byte - R)/R", "<= 1.5", resumed),
        ("suspend until it can be continued or gone, save/S", "<= 2", saved),
        ("create from a cached image", "<= 50 ms, whatever its size", created),
        ("image of 10 layers, 500 MiB, by skopeo + umoci", "<= 0.5", flattened),
        ("PSS of an idle machine of 20, by bare QEMU alone", "<= 0.5", idle),
        ("suspended machine", "no process, no RAM", suspended),
        ("suspend and resume, the same memory touched in another size", "<= 2 times as long", grows),
        ("every size starts, suspends, resumes", "256 to 4096 MiB", every_size),
        ("30 machines woken within a second", "no request fails", burst),
    ]
    for figure, aim, judge in rows:
        try:
            yield figure, aim, *judge(result)
        except KeyError:
            yield figure, aim, "", None


def start(result):
    return at_most(result["start"]["a_b"]["median"], 0.2)


def resumed(result):
    floor = result["start"]["bare_above_r"]["median"]
    shown, holds = at_most(result["start"]["above_r"]["median"], 1.5)
    return f"{shown}; bare QEMU itself {text(floor)}", holds


def saved(result):
    again, first = (result["start"][name]["median"] for name in ["save_s", "save_first_s"])
    return f"{text(again)}; first of a start {text(first)}", max(again, first) <= 2


def created(result):
    small, large = (result["create"]["ms"][name]["median"] for name in ["hello", "padded"])
    # Noise of a busy machine is no dependence on size.
    return f"{text(small)} ms; with 200 MiB more {text(large)} ms", max(small, large) <= 50 and large <= 2 * small


def flattened(result):
    return at_most(result["flatten"]["ratio"]["median"], 0.5)


def idle(result):
    return at_most(result["herd"]["ratio"], 0.5)


def suspended(result):
    sampled = result["herd"]["suspended"]
    processes, mib = len(sampled["processes"]), sampled["suspended"]["host"]
    return f"{processes} processes, {mib} MiB", not processes and not mib


def grows(result):
    """The same amount touched in machines of different sizes."""
    by_amount = {}
    for row in result["sizes"]["rows"]:
        for one in row["touched"]:
            by_amount.setdefault(one["touched_mib"], []).append((one["suspend_ms"]["median"], one["resume_ms"]["median"]))
    ratios = [worst(side) for found in by_amount.values() if len(found) > 1 for side in zip(*found)]
    if not ratios:
        raise KeyError("no amount was touched in two sizes")
    return f"at most {text(max(ratios))}", max(ratios) <= 2


def worst(values):
    return max(values) / min(values)


def every_size(result):
    done = [row["mib"] for row in result["sizes"]["rows"]]
    # A quick run leaves some out.
    return " ".join(map(str, done)), True if set(done) >= {256, 512, 1024, 2048, 4096} else None


def burst(result):
    rows = result["herd"]["burst"].values()
    failed = sum(len(one["failed"]) for one in rows)
    last = max(one["all_s"] for one in rows)
    return f"{failed} of {sum(one['n'] for one in rows)} failed; all answered after {text(last)} s", not failed


def at_most(value, limit):
    return text(value), value <= limit
