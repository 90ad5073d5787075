"""Pictures of a run, as SVG."""
import math
from html import escape

INK, FAINT, PAPER = "#1f2430", "#d9dce3", "#ffffff"
FONT = "font-family='DejaVu Sans, Helvetica, Arial, sans-serif'"
# What a start's time goes to, and the stages that belong to it.
KINDS = {
    "disk, network": ("#8a93a6", ["image", "disk", "network"]),
    "QEMU's process, state loaded": ("#2f6fb0", ["spawn", "process", "load", "cont"]),
    "guest boots, or is resumed": ("#e0a030", ["boot", "restore"]),
    "guest is set up": ("#3f9a6b", None),
    "the rest, with the app's answer": ("#c4574e", ["rest", "app", "answer"]),
}
SET_UP = "guest is set up"
# Stages of the guest that are within the host's `boot` or `restore`.
DURING = {f"guest_{name}" for name in ["modules", "port", "drivers", "ready", "config", "orders"]}
# Sizes of machines, the smallest lightest.
SHADES = ["#a9c8e8", "#6ea3d6", "#3f7fbf", "#235f9c", "#0f3d70"]


def pictures(result):
    found = {}
    if "start" in result:
        found["starts"] = starts(result["start"], result["about"])
    if any(row["touched"] for row in result.get("sizes", {}).get("rows", [])):
        found["touched"] = touched(result["sizes"], result["about"])
    return found


def text(x, y, what, size=13, anchor="start", color=INK, more=""):
    return f"<text x='{x:.1f}' y='{y:.1f}' font-size='{size}' text-anchor='{anchor}' fill='{color}' {more}>{escape(what)}</text>"


def line(x1, y1, x2, y2, color=FAINT, width=1.0):
    return f"<line x1='{x1:.1f}' y1='{y1:.1f}' x2='{x2:.1f}' y2='{y2:.1f}' stroke='{color}' stroke-width='{width}'/>"


def box(x, y, width, height, color, title=""):
    return f"<rect x='{x:.1f}' y='{y:.1f}' width='{max(width, 0):.1f}' height='{height:.1f}' fill='{color}'><title>{escape(title)}</title></rect>"


def svg(width, height, parts):
    head = f"<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 {width} {height}' width='{width}' height='{height}' {FONT}>"
    return "\n".join([head, box(0, 0, width, height, PAPER), *parts, "</svg>\n"])


def subtitle(about):
    return f"{about['accelerator']}, {about['machine'].split(',')[0]}, {about['date'][:10]}; medians, thin lines from least to greatest"


def ms(value):
    for least, shown in [(10_000, "{s:.0f} s"), (1000, "{s:.2f} s"), (10, "{ms:.0f} ms"), (0, "{ms:.1f} ms")]:
        if value >= least:
            return shown.format(s=value / 1000, ms=value)
    return f"{value:.1f} ms"


def starts(found, about):
    """Bars by kind of stage, with median and spread of the whole beside them."""
    bars = [
        ("B: bare QEMU boots", "b", found["b_ms"]),
        ("no template: kernel boots", "cold", found["cold_ms"]),
        ("A: stopped, from a template", "a", found["a_ms"]),
        ("W: suspended, resumed", "resumed", found["resumed_ms"]),
        ("R: bare QEMU restored ...", "r", found["r_ms"]),
    ]
    width, left, right, top, step, high = 900, 215, 130, 104, 46, 26
    longest = max(whole["max"] for _, _, whole in bars)
    scale = (width - left - right) / longest
    bottom = top + step * len(bars)
    parts = [text(20, 30, "From a request to the app's first byte", 17), text(20, 51, subtitle(about), 12)]
    at = 20
    for kind, (color, _) in KINDS.items():
        parts += [box(at, 66, 12, 12, color), text(at + 17, 76.5, kind, 11.5)]
        at += 34 + 6.6 * len(kind)
    for tick in ticks(longest):
        x = left + tick * scale
        parts += [line(x, top - 8, x, bottom - 8), text(x, bottom + 10, ms(tick) if tick else "0", 11, "middle")]
    for number, (name, key, whole) in enumerate(bars):
        y, x = top + step * number, left
        parts.append(text(left - 10, y + 18, name, 12.5, "end"))
        end = whole
        if key == "r":
            parts.append(text(left - 10, y + 33, "and its first answer", 11, "end"))
            end = {name: whole[name] + found["r_answer_ms"][name] for name in ["median", "min", "max"]}
        kinds = by_kind(found["stages"][key])
        # The medians of the stages need not make the median of the whole.
        stretch = end["median"] / sum(kinds.values())
        for kind, amount in kinds.items():
            parts.append(box(x, y, amount * stretch * scale, high, KINDS[kind][0], f"{kind}: {ms(amount)}"))
            x += amount * stretch * scale
        middle = y + high + 4
        parts.append(line(left + end["min"] * scale, middle, left + end["max"] * scale, middle, INK, 1.2))
        label = ms(whole["median"]) if key != "r" else f"{ms(whole['median'])} + {ms(found['r_answer_ms']['median'])}"
        parts.append(text(max(x, left + end["max"] * scale) + 8, y + 18, label, 12.5, more="font-weight='bold'"))
    return svg(width, bottom + 24, parts)


def by_kind(stages):
    amounts = {kind: 0.0 for kind in KINDS}
    for name, amount in stages.items():
        if name in DURING:
            continue
        kind = next((kind for kind, (_, names) in KINDS.items() if names and name in names), SET_UP)
        amounts[kind] += max(amount, 0)
    return amounts


def ticks(most, wanted=6):
    """Round numbers from nought to `most`."""
    rough = most / wanted
    step = 10 ** math.floor(math.log10(rough))
    step = next(step * times for times in [1, 2, 5, 10] if step * times >= rough)
    return [step * number for number in range(int(most / step) + 1)]


def touched(found, about):
    """Two panels with a line for each size of machine."""
    panels = [
        ("Suspend: the guest is paused (save)", "save_ms"),
        ("Suspend: API call to suspended, durable", "suspend_ms"),
        ("Resume: request to first byte", "resume_ms"),
    ]
    rows = sorted((row for row in found["rows"] if row["touched"]), key=lambda row: row["mib"])
    width, top, bottom = 1080, 124, 400
    parts = [text(20, 30, "Suspend and resume by memory touched, for machines of different sizes", 17), text(20, 51, subtitle(about), 12)]
    at = 20
    for number, row in enumerate(rows):
        parts += [line(at, 72, at + 20, 72, shade(number, rows), 3), text(at + 26, 76.5, f"{row['mib']} MiB", 12)]
        at += 110
    amounts = sorted({one["touched_mib"] for row in rows for one in row["touched"]})
    values = [one[key][end] for row in rows for one in row["touched"] for _, key in panels for end in ["min", "max"]]
    # One scale for all panels.
    low, high = 10 ** math.floor(math.log10(max(min(values), 0.1))), 10 ** math.ceil(math.log10(max(values)))
    y_of = lambda value: bottom - (math.log10(max(value, low) / low) / math.log10(high / low)) * (bottom - top)
    for place, (title, key) in enumerate(panels):
        left = 70 + place * 340
        x_of = lambda amount: left + 10 + math.log(amount / amounts[0]) / max(math.log(amounts[-1] / amounts[0]), 1e-9) * 265
        parts.append(text(left, top - 14, title, 13))
        for power in range(round(math.log10(high / low)) + 1):
            tick = low * 10 ** power
            parts += [line(left, y_of(tick), left + 290, y_of(tick)), text(left - 6, y_of(tick) + 4, ms(tick), 11, "end")]
        for amount in amounts:
            parts.append(text(x_of(amount), bottom + 17, f"{amount}", 11, "middle"))
        parts.append(text(left + 145, bottom + 36, "MiB touched", 11, "middle"))
        for number, row in enumerate(rows):
            color = shade(number, rows)
            points = [(x_of(one["touched_mib"]), one[key]) for one in row["touched"]]
            path = " ".join(f"{x:.1f},{y_of(one['median']):.1f}" for x, one in points)
            parts.append(f"<polyline points='{path}' fill='none' stroke='{color}' stroke-width='2'/>")
            for x, one in points:
                parts.append(line(x, y_of(one["min"]), x, y_of(one["max"]), color))
                tip = f"{row['mib']} MiB: {ms(one['median'])}"
                parts.append(f"<circle cx='{x:.1f}' cy='{y_of(one['median']):.1f}' r='3.5' fill='{color}'><title>{tip}</title></circle>")
    return svg(width, bottom + 52, parts)


def shade(number, rows):
    return SHADES[number * (len(SHADES) - 1) // max(len(rows) - 1, 1)]
