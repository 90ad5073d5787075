"""On what was measured."""
import os
import platform
import subprocess
from datetime import datetime, timezone
from pathlib import Path


def about(report, args):
    """`report` is what the daemon printed when it was ready."""
    return {
        "date": datetime.now(timezone.utc).strftime("%Y-%m-%d %H:%M UTC"),
        "command": " ".join(["bench/run", *args.words]),
        "machine": f"{cpu_model()}, {os.cpu_count()} CPUs, {memory_gib():.0f} GiB, Linux {platform.release()}",
        "accelerator": report.get("accelerator", "?").split()[0],
        "hypervisor": report.get("hypervisor", "?"),
        "guest kernel": report.get("kernel", "?"),
        "updraft": revision(args.updraft),
        **({"before": revision(args.against)} if args.against else {}),
        "nginx": output("nginx", "-v").rpartition("/")[2],
        "skopeo, umoci": ", ".join(output(tool, "--version").split()[2] for tool in ["skopeo", "umoci"]),
        "load before": "%.1f %.1f %.1f" % os.getloadavg(),
    }


def revision(program):
    """The commit, whether the sources differ from it, and the program from them."""
    git = lambda *words: output("git", "--no-optional-locks", "-C", str(program.parent), *words)
    repository = Path(git("rev-parse", "--show-toplevel"))
    if not (repository / "crates").is_dir():
        return "?"
    notes = ["sources changed"] if git("status", "--porcelain", ":/crates", ":/Cargo.toml", ":/Cargo.lock") else []
    newest = max(path.stat().st_mtime for path in (repository / "crates").rglob("*.rs"))
    if program.stat().st_mtime < newest:
        notes.append("the program is older than the sources")
    return ", ".join([git("rev-parse", "--short", "HEAD"), *notes])


def output(*command):
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return (done.stdout or done.stderr).strip()


def cpu_model():
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "?")


def memory_gib():
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / (1 << 30)
