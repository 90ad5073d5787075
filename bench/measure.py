"""Timers, statistics and tables."""
import errno
import socket
import statistics
import sys
import time
from pathlib import Path

# The port is not open yet.
NOT_YET = {errno.ECONNREFUSED, errno.ECONNRESET, errno.EHOSTUNREACH}


def say(what):
    """On standard error: what the bench is about to do."""
    print(f"{what} ...", file=sys.stderr, flush=True)


def first_byte(address, host, timeout=90):
    """Seconds from the request's first byte to the answer's first, or None if
    no process listens. The connection is made before."""
    request = f"GET / HTTP/1.1\r\nHost: {host}\r\n\r\n".encode()
    try:
        with socket.create_connection(address, timeout) as stream:
            began = time.perf_counter()
            stream.sendall(request)
            answer = stream.recv(1)
            took = time.perf_counter() - began
            while len(answer) < 12 and (chunk := stream.recv(4096)):
                answer += chunk
    except OSError as err:
        if err.errno in NOT_YET:
            return None
        raise
    if not answer.startswith(b"HTTP/1.1 200"):
        raise RuntimeError(f"{host} at {address} answered {answer[:200]!r}")
    return took


def spread(values, scale=1e3):
    """Median, least and greatest, scaled (seconds to milliseconds)."""
    scaled = [value * scale for value in values]
    return {"median": statistics.median(scaled), "min": min(scaled), "max": max(scaled), "n": len(scaled)}


def pss_mib(pid):
    """What a process holds of the machine's memory; shared pages count by share."""
    rollup = dict(
        line.split(":") for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()[1:]
    )
    return {name: int(rollup[key].split()[0]) / 1024 for name, key in [
        ("pss", "Pss"), ("private", "Private_Dirty"), ("file", "Pss_File"),
    ] if key in rollup}


def table(title, header, rows, note=""):
    """A table as Markdown that also reads well on a terminal."""
    cells = [header] + [[text(cell) for cell in row] for row in rows]
    widths = [max(2, *(len(row[i]) for row in cells)) for i in range(len(header))]
    # The first column is names, the others are figures.
    align = lambda row: [row[0].ljust(widths[0])] + [c.rjust(w) for c, w in zip(row[1:], widths[1:])]
    lines = ["| " + " | ".join(align(row)) + " |" for row in cells]
    rule = ["-" * widths[0]] + ["-" * (w - 1) + ":" for w in widths[1:]]
    lines.insert(1, "| " + " | ".join(rule) + " |")
    return "\n".join([f"### {title}", ""] + lines + ([""] + [note] if note else [])) + "\n"


def text(cell):
    if not isinstance(cell, float):
        return "" if cell is None else str(cell)
    return f"{cell:.0f}" if abs(cell) >= 100 else f"{cell:.1f}" if abs(cell) >= 10 else f"{cell:.2f}"
