"""Every size starts, suspends and resumes; and what that costs by memory touched."""
from measure import spread
from starts import config, subject

# Written by a shell in the guest: copies of one random MiB, which is faster to
# make than random bytes and as little zero. A file in memory has at most half
# of it unless one says otherwise.
TOUCH = """
PATH=/bin; cd /dev/shm
busybox mount -o remount,size=90% /dev/shm 2>/dev/null
[ -e seed ] || busybox dd if=/dev/urandom of=seed bs=64k count=16 2>/dev/null
set -e
i=0; while [ $i -lt {mib} ]; do busybox cat seed; i=$((i+1)); done >touched
"""


def sizes(daemon, presets, touched, rounds, say):
    """For each size of `presets` (MiB) those of `touched` that fit in its half."""
    rows = []
    for mib in presets:
        with subject(daemon, f"size-{mib}", config("shell:latest", mib=mib)) as one:
            say(f"{mib} MiB: waiting for its template")
            daemon.wait_for_template(f"1x{mib}")
            one.stop()
            rows.append(one_size(one, mib, rounds, say))
            for amount in touched:
                if amount <= mib // 2:
                    rows[-1]["touched"].append(one_amount(daemon, one, mib, amount, rounds, say))
    return {"rows": rows}


def one_size(one, mib, rounds, say):
    starts, firsts, resumes = [], [], []
    for turn in range(rounds):
        say(f"{mib} MiB: start, suspend, resume, {turn + 1} of {rounds}")
        starts.append(one.wake("template"))
        firsts.append(one.suspend())
        resumes.append(one.wake("resumed"))
        if turn + 1 < rounds:
            one.stop()
    return {
        "mib": mib, **figures(firsts, resumes), "touched": [],
        "start_ms": spread([took for took, _ in starts]),
        "every": {"starts": starts, "suspends": firsts, "resumes": resumes},
    }


def one_amount(daemon, one, mib, amount, rounds, say):
    """The machine runs before and after."""
    suspends, resumes = [], []
    for turn in range(rounds):
        say(f"{mib} MiB, {amount} MiB touched, {turn + 1} of {rounds}")
        daemon.execute(one.app, one.id, "/bin/busybox", "sh", "-c", TOUCH.format(mib=amount))
        suspends.append(one.suspend())
        resumes.append(one.wake("resumed"))
    return {"touched_mib": amount, **figures(suspends, resumes), "every": {"suspends": suspends, "resumes": resumes}}


def figures(suspends, resumes):
    stage = lambda name: spread([stages.get(name, 0.0) for _, stages in suspends], 1)
    return {
        "suspend_ms": spread([took for took, _ in suspends]),
        **{f"{name}_ms": stage(name) for name in ["prepare", "save", "sync"]},
        "resume_ms": spread([took for took, _ in resumes]),
    }
