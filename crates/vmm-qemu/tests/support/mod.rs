//! A driver in a directory of its own, and a guest of busybox that takes commands
//! as lines of text over the agent port.

use camino::{Utf8Path, Utf8PathBuf};
use model::id::{BootId, MachineId};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use vmm_qemu::{Accelerator, CpuModel, GuestImage, JailConfig, QemuConfig, QemuHypervisor, kernel};
use worker::ports::{AgentIo, BootSpec, Hypervisor, Vm, VmExit};

/// Generous: the host may be busy and emulate.
pub(crate) const PATIENCE: Duration = Duration::from_secs(90);

const INIT: &str = r#"#!/bin/busybox sh
/bin/busybox mount -t proc proc /proc
/bin/busybox mount -t sysfs sys /sys
/bin/busybox mount -t devtmpfs dev /dev
late=
while read -r m; do
  [ "$m" = -- ] && late=yes
  [ "$late" ] || /bin/busybox insmod /modules/$m
done </modules/order
# As our init does: drivers look at disks and network only when they are asked for.
drivers() {
  while read -r m; do [ "$m" = -- ] || /bin/busybox insmod /modules/$m 2>/dev/null; done </modules/order
}
# Opened once: what the host sent before is lost when a port is closed.
until command exec 3<>/dev/vport0p1; do /bin/busybox usleep 5000; done
while :; do
  # Reads end at once while no host is there.
  read -r word rest <&3 || { /bin/busybox usleep 20000; continue; }
  case "$word" in
    echo) echo "$rest" >&3 ;;
    disks) drivers; echo $(/bin/busybox cat /sys/block/vda/size /sys/block/vda/ro /sys/block/vdb/size) >&3 ;;
    nic) drivers; /bin/busybox cat /sys/class/net/eth0/address >&3 ;;
    flood) /bin/busybox seq 1 20000; echo flooded >&3 ;;
    fill) /bin/busybox tail /dev/zero; echo filled >&3 ;;
    flags) /bin/busybox grep -m1 flags /proc/cpuinfo >&3 ;;
    count) n=$((n + 1)); echo $n >&3 ;;
    keep) /bin/busybox dd if=/dev/urandom of=/kept bs=1M count=$rest 2>/dev/null; echo kept >&3 ;;
    sum) /bin/busybox md5sum /kept >&3 ;;
    off) /bin/busybox poweroff -f ;;
    panic) echo c >/proc/sysrq-trigger ;;
  esac
done
"#;

/// A driver's world; removes what is left when dropped.
pub(crate) struct World {
    pub(crate) temp: Temp,
    pub(crate) config: QemuConfig,
}

/// A directory that is removed with its owner, or one that belongs to another world.
pub(crate) enum Temp {
    Owned(tempfile::TempDir),
    Given(std::path::PathBuf),
}

impl Temp {
    pub(crate) fn path(&self) -> &std::path::Path {
        match self {
            Self::Owned(temp) => temp.path(),
            Self::Given(path) => path,
        }
    }
}

const GIVEN_DIR: &str = "VMM_QEMU_TEST_DIR";
const GIVEN_INSTANCE: &str = "VMM_QEMU_TEST_INSTANCE";

impl World {
    pub(crate) fn new() -> Self {
        static NUMBER: AtomicU64 = AtomicU64::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let temp = Temp::Owned(tempfile::tempdir().unwrap());
        Self::at(temp, format!("test-{}-{number}", std::process::id()))
    }

    /// The world of the test that started this process by [`World::child`].
    pub(crate) fn given() -> Self {
        let var = |name: &str| std::env::var_os(name).unwrap().into_string().unwrap();
        Self::at(Temp::Given(var(GIVEN_DIR).into()), var(GIVEN_INSTANCE))
    }

    /// A process that runs one ignored test in this world.
    pub(crate) fn child(&self, test: &str) -> std::process::Child {
        self.child_with(test, &[])
    }

    /// The same, with more variables.
    pub(crate) fn child_with(&self, test: &str, vars: &[(&str, &str)]) -> std::process::Child {
        std::process::Command::new(std::env::current_exe().unwrap())
            .args(["--exact", test, "--ignored", "--quiet", "--nocapture"])
            .env(GIVEN_DIR, self.temp.path())
            .env(GIVEN_INSTANCE, &self.config.instance)
            .envs(vars.iter().copied())
            .stdout(std::process::Stdio::null())
            .spawn()
            .unwrap()
    }

    /// Nothing of this world is left; a launcher that ends with its daemon may
    /// still be on its way out.
    pub(crate) async fn assert_empty(&self) {
        let gone = async {
            // Polled: nothing announces the end of a process that is not a child.
            while !self.remains().is_empty() {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        let gone = tokio::time::timeout(Duration::from_secs(10), gone).await;
        assert!(gone.is_ok(), "{:?}", self.remains());
    }

    fn at(temp: Temp, instance: String) -> Self {
        let dir = Utf8Path::from_path(temp.path()).unwrap();
        let disk = |name: &str| std::fs::File::create(dir.join(name)).unwrap();
        disk("root").set_len(1 << 20).unwrap();
        disk("scratch").set_len(2 << 20).unwrap();
        // Beside the disks, so that a child takes it from there.
        let guest = GuestImage { vmlinuz: dir.join("vmlinuz"), initramfs: dir.join("initramfs") };
        if !guest.initramfs.exists() {
            std::fs::hard_link(&made_guest().vmlinuz, &guest.vmlinuz).unwrap();
            std::fs::hard_link(&made_guest().initramfs, &guest.initramfs).unwrap();
        }
        let config = QemuConfig {
            run_dir: dir.join("vms"),
            template_dir: dir.join("templates"),
            instance,
            qemu: vmm_qemu::config::find_qemu(None).unwrap(),
            guest,
            accelerator: Accelerator::Tcg,
            cpu_model: CpuModel::default(),
            vms_memory_mib: Some(8 << 10),
            jail: JailConfig::new(env!("CARGO_BIN_EXE_vmm-qemu-launcher")),
            start_deadline: PATIENCE,
        };
        Self { temp, config }
    }

    pub(crate) fn driver(&self) -> QemuHypervisor {
        QemuHypervisor::open(self.config.clone()).unwrap()
    }

    pub(crate) fn spec(&self, machine: MachineId, boot: BootId) -> BootSpec {
        let dir = self.config.run_dir.parent().unwrap();
        BootSpec {
            machine,
            boot,
            vcpus: 1,
            memory_mib: 128,
            cpu_weight: 1000,
            root: dir.join("root"),
            scratch: dir.join("scratch"),
            images: Vec::new(),
            volumes: Vec::new(),
            nic: None,
            kernel_args: Vec::new(),
            snapshot: None,
            cold: None,
        }
    }

    /// The remains of this world on the host.
    pub(crate) fn remains(&self) -> Vec<String> {
        let mut found = Vec::new();
        for entry in std::fs::read_dir(&self.config.run_dir).into_iter().flatten().flatten() {
            found.push(format!("directory {:?}", entry.file_name()));
        }
        for tree in std::fs::read_dir("/sys/fs/cgroup").into_iter().flatten().flatten() {
            let group = tree.path().join(format!("updraft-{}", self.config.instance));
            found.extend(group.exists().then(|| format!("cgroup {}", group.display())));
        }
        let run_dir = self.config.run_dir.as_str();
        for entry in std::fs::read_dir("/proc").unwrap().flatten() {
            let name = entry.file_name().into_string().unwrap();
            let Ok(pid) = name.parse::<u32>() else { continue };
            let mounts = std::fs::read_to_string(format!("/proc/{pid}/mountinfo"));
            if mounts.is_ok_and(|m| m.contains(run_dir)) {
                found.push(format!("mount seen by {pid}"));
            }
            let environ = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            if String::from_utf8_lossy(&environ).contains(run_dir) {
                found.push(format!("process {pid}"));
            }
        }
        found
    }
}

impl Drop for World {
    fn drop(&mut self) {
        if matches!(self.temp, Temp::Given(_)) {
            return;
        }
        // For a test that failed: every process of ours by number, recorded by
        // the launcher, and the cgroups.
        let vms = std::fs::read_dir(&self.config.run_dir).into_iter().flatten().flatten();
        for boot in vms.flat_map(|m| std::fs::read_dir(m.path()).into_iter().flatten().flatten()) {
            let pid = std::fs::read_to_string(boot.path().join("pid")).unwrap_or_default();
            let Some(pid) = pid.split(' ').next().and_then(|p| p.parse::<i32>().ok()) else {
                continue;
            };
            let name = boot.file_name().into_string().unwrap();
            let command = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            if String::from_utf8_lossy(&command).contains(&name) {
                signal(pid.unsigned_abs(), rustix::process::Signal::KILL);
            }
        }
    }
}

/// The value of a file below whichever cgroup tree has it.
pub(crate) fn cgroup_value(path: &str) -> Option<String> {
    let trees = std::fs::read_dir("/sys/fs/cgroup").into_iter().flatten().flatten();
    let mut trees = trees.map(|tree| tree.path()).chain(["/sys/fs/cgroup".into()]);
    trees.find_map(|tree| {
        let value = std::fs::read_to_string(format!("{}{path}", tree.display())).ok()?;
        Some(value.trim().to_owned())
    })
}

pub(crate) fn signal(pid: u32, signal: rustix::process::Signal) {
    let pid = rustix::process::Pid::from_raw(i32::try_from(pid).unwrap()).unwrap();
    // It may have ended meanwhile.
    let _ = rustix::process::kill_process(pid, signal);
}

pub(crate) fn ids(number: u64) -> (MachineId, BootId) {
    (MachineId::from_random(number), BootId::new(1, u128::from(number)))
}

/// Sends a line to the guest and returns its one line of answer.
pub(crate) async fn ask(agent: &mut dyn AgentIo, line: &str) -> String {
    send_line(agent, line).await;
    let answer = async {
        let mut answer = String::new();
        loop {
            match agent.read_u8().await.unwrap() {
                b'\n' => return answer,
                byte => answer.push(byte as char),
            }
        }
    };
    tokio::time::timeout(PATIENCE, answer).await.expect("an answer")
}

pub(crate) async fn send_line(agent: &mut dyn AgentIo, line: &str) {
    agent.write_all(format!("{line}\n").as_bytes()).await.unwrap();
}

pub(crate) async fn ended(vm: Vm) -> VmExit {
    tokio::time::timeout(PATIENCE, vm.exited).await.expect("an end")
}

pub(crate) async fn kill_all(driver: &QemuHypervisor) {
    for vm in driver.list().await.unwrap() {
        driver.kill(vm.machine, vm.boot).await.unwrap();
    }
}

/// Kernel and busybox guest, made once per test program.
fn made_guest() -> &'static GuestImage {
    static GUEST: OnceLock<(tempfile::TempDir, GuestImage)> = OnceLock::new();
    &GUEST
        .get_or_init(|| {
            let temp = tempfile::tempdir().unwrap();
            let dir = Utf8Path::from_path(temp.path()).unwrap().to_owned();
            (temp, make_guest(&dir))
        })
        .1
}

fn make_guest(dir: &Utf8Path) -> GuestImage {
    let kernel = kernel::find().unwrap();
    let image = vmm_qemu::initramfs::prepare(dir, &kernel, INIT.as_bytes()).unwrap();
    // The init is a script: what it needs is appended as a second archive,
    // which the kernel unpacks like the first.
    let busybox = std::fs::read("/bin/busybox").expect("apt install busybox-static");
    let mut more = Vec::new();
    for name in ["bin", "proc", "sys"] {
        more = entry(more, name, 0o040_755, b"");
    }
    more = entry(more, "bin/busybox", 0o100_755, &busybox);
    let mut bytes = std::fs::read(&image.initramfs).unwrap();
    bytes.extend(cpio::newc::trailer(more).unwrap());
    let initramfs: Utf8PathBuf = dir.join("busybox-initramfs");
    std::fs::write(&initramfs, bytes).unwrap();
    GuestImage { initramfs, ..image }
}

/// Kernel and the guest that machines have, in `dir`.
pub(crate) fn guest_with_our_init(dir: &std::path::Path) -> GuestImage {
    let init = std::fs::read(init_binary()).unwrap();
    let cache = Utf8Path::from_path(dir).unwrap().join("guest");
    vmm_qemu::initramfs::prepare(&cache, &kernel::find().unwrap(), &init).unwrap()
}

/// Our pid 1, static; built in a directory of its own, since the cargo that
/// started the test may hold the lock of the usual one.
fn init_binary() -> std::path::PathBuf {
    if let Some(path) = std::env::var_os("UPDRAFT_INIT_BIN") {
        return path.into();
    }
    let workspace = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let built = std::process::Command::new(env!("CARGO"))
        .args(["build", "--quiet", "-p", "updraft-init", "--profile", "guest"])
        .args(["--target", "x86_64-unknown-linux-gnu", "--target-dir", "target/guest"])
        .env("RUSTFLAGS", "-C target-feature=+crt-static")
        .env_remove("CARGO_ENCODED_RUSTFLAGS")
        .current_dir(&workspace)
        .status()
        .unwrap();
    assert!(built.success(), "updraft-init builds");
    workspace.join("target/guest/x86_64-unknown-linux-gnu/guest/updraft-init")
}

fn entry(out: Vec<u8>, name: &str, mode: u32, content: &[u8]) -> Vec<u8> {
    let size = u32::try_from(content.len()).unwrap();
    let mut writer = cpio::newc::Builder::new(name).mode(mode).write(out, size);
    std::io::Write::write_all(&mut writer, content).unwrap();
    writer.finish().unwrap()
}
