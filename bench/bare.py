"""The yardstick B: the same app in bare QEMU, booted by a script.

Kernel, drivers, root image, machine type, CPU, memory and kernel arguments
are those of a machine that Updraft boots; what Updraft adds is left out (its
init, the agent port, the jail, the API, the edge, templates). Disk and tap are
made before the clock starts, so the comparison favours bare QEMU.
"""
import select
import shutil
import subprocess
import time

from measure import first_byte

TAP, HOST, GUEST, MAC = "bench-bare", "10.255.255.1", "10.255.255.2", "02:00:00:be:0c:01"
READY = b"network is up"
# Flags of QEMU that are taken over from the machine.
SHAPE = ["-M", "-accel", "-cpu", "-smp", "-m"]
# Longest boot that is waited for.
DEADLINE = 120

INIT = f"""#!/bin/sh
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs dev /dev
while read module; do [ "$module" = -- ] || insmod "/modules/$module"; done </modules/order
mount -t squashfs -o ro /dev/vda /lower
mount -t ext4 -o noatime /dev/vdb /scratch
mkdir -p /scratch/upper /scratch/work
mount -t overlay -o lowerdir=/lower,upperdir=/scratch/upper,workdir=/scratch/work overlay /newroot
ip link set lo up
ip address add {GUEST}/30 dev eth0
ip link set eth0 up
echo {READY.decode()}
exec chroot /newroot /hello
"""


def value_of(args, flag):
    return args[args.index(flag) + 1]


def copy(source, target):
    """Holes stay holes; where the file system can, nothing is copied at all."""
    subprocess.run(["cp", "--sparse=always", "--reflink=auto", source, target], check=True)


class Bare:
    """Boots an app without Updraft.

    `like` is the command line of a machine that booted its kernel, `guest` the
    directory of Updraft's kernel and initramfs, `scratch` the bytes of a
    machine's writable disk.
    """

    def __init__(self, like, guest, root, scratch, work):
        self.dir = work / "bare"
        self.dir.mkdir()
        self.like = like
        self.qemu = like[0] if shutil.which(like[0]) else "qemu-system-x86_64"
        self.kernel, self.root = guest / "vmlinuz", root
        self.initramfs = self._initramfs(guest / "initramfs")
        self.blank = self.dir / "blank.ext4"
        with self.blank.open("wb") as disk:
            disk.truncate(scratch)
        subprocess.run(["mkfs.ext4", "-q", "-E", "nodiscard", self.blank], check=True)
        self._network()
        self.process = None

    def _initramfs(self, theirs):
        """That of the machine with busybox and a script in place of its init."""
        tree = self.dir / "tree"
        tree.mkdir()
        unpack = ["cpio", "--quiet", "-idm", "--no-absolute-filenames"]
        subprocess.run(unpack, cwd=tree, stdin=theirs.open("rb"), check=True)
        for name in ["bin", "proc", "sys", "lower", "scratch", "newroot"]:
            (tree / name).mkdir(exist_ok=True)
        shutil.copy("/bin/busybox", tree / "bin/busybox")
        for applet in ["sh", "mount", "insmod", "mkdir", "ip", "chroot"]:
            (tree / "bin" / applet).symlink_to("busybox")
        (tree / "init").write_text(INIT)
        (tree / "init").chmod(0o755)
        names = "\n".join(str(p.relative_to(tree)) for p in sorted(tree.rglob("*")))
        out = self.dir / "initramfs"
        with out.open("wb") as file:
            pack = ["cpio", "--quiet", "-o", "-H", "newc"]
            subprocess.run(pack, cwd=tree, input=names.encode(), stdout=file, check=True)
        return out

    def _network(self):
        run = lambda *words: subprocess.run(["ip", *words], check=True)
        run("tuntap", "add", TAP, "mode", "tap")
        run("address", "add", f"{HOST}/30", "dev", TAP)
        run("link", "set", TAP, "up")
        # No second is lost to neighbour discovery.
        run("neighbour", "replace", GUEST, "lladdr", MAC, "dev", TAP, "nud", "permanent")

    def value(self, flag):
        """What the machine has for a flag. How Updraft keeps a guest's memory is
        left out of the board's options."""
        value = value_of(self.like, flag)
        ours = ("memory-backend=", "suppress-vmdesc=")
        return ",".join(word for word in value.split(",") if not word.startswith(ours)) if flag == "-M" else value

    def shape(self):
        """What both have in common."""
        return " ".join(f"{flag} {self.value(flag)}" for flag in SHAPE)

    def board(self):
        """The VM without what its guest begins with."""
        disk = lambda name, path, more: [
            "-blockdev", f"driver=file,node-name={name},filename={path},{more}",
            "-device", f"virtio-blk-device,drive={name}",
        ]
        return [
            self.qemu, "-nodefaults", "-no-user-config", "-display", "none",
            *(word for flag in SHAPE for word in [flag, self.value(flag)]),
            "-serial", "stdio", "-no-reboot",
            *disk("root", self.root, "read-only=on"),
            *disk("scratch", self.dir / "scratch.ext4", "discard=unmap,detect-zeroes=unmap"),
            "-netdev", f"tap,id=net,ifname={TAP},script=no,downscript=no",
            "-device", f"virtio-net-device,netdev=net,mac={MAC}",
            "-object", "rng-builtin,id=rng", "-device", "virtio-rng-device,rng=rng",
        ]

    def kernel_arguments(self):
        return ["-kernel", self.kernel, "-initrd", self.initramfs, "-append", self.value("-append")]

    def start(self, more=(), pass_fds=()):
        """Seconds from QEMU's start to the app's first HTTP byte, and of them those
        until its guest's network was up. `more`: further arguments for QEMU."""
        self.fresh_scratch()
        log = (self.dir / "qemu.log").open("wb")
        began = time.perf_counter()
        self.process = subprocess.Popen(
            [*self.board(), *self.kernel_arguments(), *more], bufsize=0, pass_fds=pass_fds,
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=log,
        )
        log.close()
        reply = self._until_network()
        network = time.perf_counter() - began
        while time.perf_counter() - began < DEADLINE:
            if first_byte((GUEST, 8080), "bare", timeout=5):
                return time.perf_counter() - began, network
            time.sleep(0.001)
        raise RuntimeError(f"the app in bare QEMU never answered:\n{reply.decode(errors='replace')}")

    def fresh_scratch(self):
        copy(self.blank, self.dir / "scratch.ext4")

    def _until_network(self):
        """Only then it is worth to connect: earlier packets would pile up in
        front of the guest. Returns the guest's console output."""
        reply, output = b"", self.process.stdout
        deadline = time.monotonic() + DEADLINE
        while READY not in reply:
            readable, _, _ = select.select([output], [], [], max(0, deadline - time.monotonic()))
            chunk = output.read(65536) if readable else b""
            if not chunk:
                trouble = (self.dir / "qemu.log").read_text()
                raise RuntimeError(f"bare QEMU did not boot:\n{trouble}\n{reply.decode(errors='replace')}")
            reply += chunk
        return reply

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.stop()

    def stop(self):
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            if self.process.stdout is not None:
                self.process.stdout.close()
            self.process = None
