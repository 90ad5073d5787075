"""From an OCI image to what a machine boots from: Updraft's way beside skopeo
and umoci. Both sides read the same OCI layout, which is in the page cache, and
begin with an empty store; what they write is not waited for on either side,
but for what they wait for themselves.
"""
import shutil
import subprocess
import time

from images import layered
from measure import spread

LAYERS = 10


def flatten(program, work, mib, rounds, say):
    """`program` is crates/oci/examples/flatten."""
    say(f"building an image of {LAYERS} layers and {mib} MiB")
    image, out = work / "layered", work / "flat"
    layered(image, LAYERS, mib)
    found = {"updraft": [], "skopeo": [], "umoci": []}
    try:
        for turn in range(rounds + 1):
            say(f"image to root filesystem, {turn or 'to warm up'}")
            times = {"updraft": _timed(out, [program, image, out / "store"])}
            root = max(_sizes(out / "store/roots"))
            _empty(out)
            times["skopeo"] = _timed(out, ["skopeo", "copy", "--quiet", f"oci:{image}:latest", f"oci:{out}/copy:latest"])
            times["umoci"] = _timed(None, ["umoci", "unpack", "--image", f"{out}/copy:latest", out / "bundle"])
            _empty(out)
            if turn:
                for name, took in times.items():
                    found[name].append(took)
    finally:
        shutil.rmtree(out, ignore_errors=True)
        shutil.rmtree(image, ignore_errors=True)
    both = [skopeo + umoci for skopeo, umoci in zip(found["skopeo"], found["umoci"])]
    ratio = [ours / theirs for ours, theirs in zip(found["updraft"], both)]
    return {
        "layers": LAYERS, "mib": mib, "root_mib": root / (1 << 20),
        "ms": {"both": spread(both), **{name: spread(times) for name, times in found.items()}},
        "ratio": spread(ratio, 1), "seconds": found,
    }


def _timed(fresh, command):
    """Seconds of a command; what earlier ones wrote is on the disk before."""
    if fresh is not None:
        fresh.mkdir(exist_ok=True)
    subprocess.run(["sync"], check=True)
    began = time.perf_counter()
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    took = time.perf_counter() - began
    if done.returncode:
        raise RuntimeError(f"{' '.join(map(str, command))}: {done.stdout}{done.stderr}")
    return took


def _empty(dir):
    shutil.rmtree(dir)


def _sizes(dir):
    return [path.stat().st_size for path in dir.iterdir()]
