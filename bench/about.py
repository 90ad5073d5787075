"""On what was measured."""
import os
import platform
import subprocess
from datetime import datetime, timezone
from pathlib import Path


def about(report, repository, quick):
    """`report` is what the daemon said when it was ready."""
    return {
        "date": datetime.now(timezone.utc).strftime("%Y-%m-%d %H:%M UTC"),
        "command": "bench/run" + (" --quick" if quick else ""),
        "machine": f"{cpu_model()}, {os.cpu_count()} CPUs, {memory_gib():.0f} GiB, Linux {platform.release()}",
        "accelerator": report.get("accelerator", "?").split()[0],
        "hypervisor": report.get("hypervisor", "?"),
        "guest kernel": report.get("kernel", "?"),
        "updraft": revision(repository),
        "nginx": output("nginx", "-v").rpartition("/")[2],
        "load before": "%.1f %.1f %.1f" % os.getloadavg(),
    }


def revision(repository):
    """The commit, and whether the sources differ from it."""
    git = lambda *words: output("git", "--no-optional-locks", "-C", str(repository), *words)
    changed = git("status", "--porcelain", "crates", "Cargo.toml", "Cargo.lock")
    return git("rev-parse", "--short", "HEAD") + (" with changes" if changed else "")


def output(*command):
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return (done.stdout or done.stderr).strip()


def cpu_model():
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "?")


def memory_gib():
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / (1 << 30)
