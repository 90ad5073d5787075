"""The table of a comparison of two programs."""
import statistics
from types import SimpleNamespace

from measure import table

# The most that a cost may have grown to count as the same.
AIM = 1.03
# Figure, its title, and the power of its ratio: a rate counts as time per request.
FIGURES = [
    ("create", "create, skip_launch, ms", 1),
    ("start", "start of a stopped machine, from a template, to the first byte, ms", 1),
    ("cold", "the same without a template, ms", 1),
    ("resume", "request to a suspended machine, to the first byte, ms", 1),
    ("suspend_first", "suspend, the first one of a start, ms", 1),
    ("suspend", "suspend of a machine that was resumed, ms", 1),
    ("suspend_first: save", "of it save: the guest is paused, first, ms", 1),
    ("suspend: save", "of it save: the guest is paused, resumed, ms", 1),
    ("pss", "PSS of one of 10 idle machines, MiB", 1),
    ("daemon", "PSS of the daemon with them, MiB", 1),
    *((f"{key}{load}", f"edge, {load} conn, {what}", power)
      for load in ["/1k 1", "/1k 64", "/100k 64"]
      for key, what, power in [("rate", "req/s", -1), ("cpu", "CPU µs/req", 1)]),
]


def ratios(compared):
    """By figure: medians of both programs, their ratio round by round, and those of
    each program to itself. None where only one program has the figure."""
    return {key: of_figure(rounds, key) for rounds in compared.values() for key in keys(rounds[0])}


def keys(sides):
    """Figures of a round, each once, in their order."""
    return dict.fromkeys(key for side in ["before 1", "after 1"] for key in sides[side])


def of_figure(rounds, key):
    of = lambda program: [[one[f"{program} {number}"].get(key) for one in rounds] for number in [1, 2]]
    before, after = of("before"), of("after")
    both = lambda two: [x + y if None not in (x, y) else None for x, y in zip(*two)]
    return SimpleNamespace(
        before=median(sum(before, [])), after=median(sum(after, [])),
        ratio=over(both(after), both(before)), same=[over(*before[::-1]), over(*after[::-1])],
    )


def over(above, below):
    return median([x / y for x, y in zip(above, below) if x is not None and y])


def median(values):
    known = [value for value in values if value is not None]
    return statistics.median(known) if known else None


def tables(compared):
    found = ratios(compared)
    rows = [row(title, found[key], power) for key, title, power in FIGURES if key in found]
    note = (
        f"Medians. The ratio is that of the costs: above 1 is worse, also for req/s. It is met up to {AIM}, or within what "
        "the same program differs from itself in this run."
    )
    header = ["", "before", "after", "ratio", "before/before", "after/after", "met?"]
    yield table("Both programs by turns", header, rows, note)
    shown = {key for key, _, _ in FIGURES}
    stages = [[key, one.before, one.after, one.ratio] for key, one in found.items() if key not in shown]
    yield table("Their stages and the rest, medians", ["", "before", "after", "ratio"], stages)


def row(title, one, power):
    ratio, same = one.ratio ** power, [value ** power for value in one.same]
    noise = max(max(value, 1 / value) for value in same)
    return [title, one.before, one.after, ratio, *same, "yes" if ratio <= max(AIM, noise) else "no"]
