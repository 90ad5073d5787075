//! The driver with real QEMU, a real kernel and a guest that takes commands.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod counting;
mod saved;
mod support;

use rustix::process::Signal;
use std::fs;
use std::os::fd::{AsRawFd, OwnedFd};
use support::{PATIENCE, World, ask, ended, ids, kill_all, send_line, signal};
use worker::ports::{Hypervisor, Nic, Shape};

#[tokio::test]
async fn it_passes_the_contract_that_the_fake_passes() {
    let mut world = World::new();
    world.config.guest = support::guest_with_our_init(world.temp.path());
    testkit::hypervisor_contract(|| world.driver(), |machine, boot| world.spec(machine, boot))
        .await;
    assert_eq!(world.remains(), Vec::<String>::new());
}

#[tokio::test]
async fn it_passes_the_contract_of_snapshots_and_templates() {
    let mut world = World::new();
    world.config.guest = support::guest_with_our_init(world.temp.path());
    let spec = |machine, boot| world.spec(machine, boot);
    let dir = world.config.run_dir.parent().unwrap().join("machine");
    fs::create_dir(&dir).unwrap();
    testkit::hypervisor_snapshot_contract(|| world.driver(), spec, &dir).await;
    let shape = Shape { vcpus: 1, memory_mib: 128 };
    testkit::hypervisor_template_contract(|| world.driver(), shape, spec, testkit::quiesce_guest())
        .await;
    assert_eq!(world.remains(), Vec::<String>::new());
}

#[tokio::test]
async fn a_vm_from_boot_to_kill() {
    let world = World::new();
    let driver = world.driver();
    let (machine, boot) = ids(1);
    let mut spec = world.spec(machine, boot);
    spec.nic = Some(Nic { tap: tap(), mac: [2, 0, 0, 0, 0, 0x2a] });
    let mut vm = driver.boot(spec).await.unwrap();
    assert_eq!(ask(&mut *vm.agent, "echo hello from the host").await, "hello from the host");
    assert_eq!(ask(&mut *vm.agent, "disks").await, "2048 1 4096");
    assert_eq!(ask(&mut *vm.agent, "nic").await, "02:00:00:00:00:2a");
    assert_jailed(&world, vm.pid);

    let again = driver.boot(world.spec(machine, boot)).await.unwrap();
    assert_eq!(again.pid, vm.pid, "boot twice is one VM");
    assert_eq!(driver.list().await.unwrap().len(), 1);
    drop(again);

    driver.kill(machine, boot).await.unwrap();
    assert_eq!(world.remains(), Vec::<String>::new());
    let exit = ended(vm).await;
    assert!(!exit.powered_off && exit.signal == 9, "{exit:?}");
    driver.kill(machine, boot).await.unwrap();
    assert!(driver.list().await.unwrap().is_empty());
}

/// The view of a guest that took over its QEMU.
fn assert_jailed(world: &World, pid: u32) {
    assert_unprivileged(world, pid, false);
    assert_root(world, pid);
    assert_descriptors(pid);
    let groups = fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap();
    let ours =
        groups.lines().filter(|l| l.contains(&format!("updraft-{}/vms/", world.config.instance)));
    assert!(ours.count() >= 1, "{groups}");
}

/// No user, group, capability or namespace of the host; with KVM the group that may
/// use it.
pub(crate) fn assert_unprivileged(world: &World, pid: u32, kvm: bool) {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let field = |name: &str| {
        let line = status.lines().find_map(|l| l.strip_prefix(&format!("{name}:")));
        line.unwrap_or_default().split_whitespace().collect::<Vec<_>>().join(" ")
    };
    let base = world.config.jail.uid_base;
    for ids in [field("Uid"), field("Gid")] {
        let ids: Vec<u32> = ids.split(' ').map(|id| id.parse().unwrap()).collect();
        assert!(ids.iter().all(|id| *id == ids[0] && *id >= base), "{ids:?}");
    }
    let most = usize::from(kvm);
    assert!(field("Groups").split_whitespace().count() <= most, "{}", field("Groups"));
    for set in ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"] {
        assert_eq!(field(set), "0000000000000000", "{set}");
    }
    assert_eq!((field("Seccomp").as_str(), field("NoNewPrivs").as_str()), ("2", "1"));
    // QEMU's filter and those of the launcher.
    let filters: u32 = field("Seccomp_filters").parse().unwrap();
    assert!(filters >= 4, "{filters} filters of system calls");
    for space in ["mnt", "net", "ipc", "uts", "pid"] {
        let of = |who: &str| fs::read_link(format!("/proc/{who}/ns/{space}")).unwrap();
        assert_ne!(of(&pid.to_string()), of("self"), "{space}");
    }
}

fn assert_root(world: &World, pid: u32) {
    let names = |dir: &str| {
        let entries = fs::read_dir(format!("/proc/{pid}/root/{dir}")).unwrap().flatten();
        let mut names: Vec<_> = entries.map(|e| e.file_name().into_string().unwrap()).collect();
        names.sort();
        names
    };
    let system = ["bin", "lib", "lib32", "lib64", "libx32", "sbin"];
    let mut top = names("");
    top.retain(|name| !system.contains(&name.as_str()));
    assert_eq!(top, ["dev", "etc", "proc", "usr", "vm"]);
    assert_process(pid);
    assert_eq!(names("dev"), ["null", "urandom", "zero"]);
    assert_eq!(names("etc"), ["ld.so.cache"]);
    assert_eq!(names("vm"), ["initramfs", "vmlinuz"]);
    let inside = format!("/proc/{pid}/root{}", world.config.run_dir);
    assert!(!fs::exists(inside).unwrap(), "no machine's files, not even its own");
    // A write as root from outside fails for the mount, also for root.
    for path in ["x", "usr/x", "dev/x", "vm/vmlinuz"] {
        let refused = fs::OpenOptions::new()
            .append(true)
            .create(true)
            .open(format!("/proc/{pid}/root/{path}"));
        assert_eq!(refused.unwrap_err().kind(), std::io::ErrorKind::ReadOnlyFilesystem, "{path}");
    }
}

/// Its `/proc` shows its own process and nothing of the host.
fn assert_process(pid: u32) {
    let entries = fs::read_dir(format!("/proc/{pid}/root/proc")).unwrap().flatten();
    let mut names: Vec<_> = entries.map(|e| e.file_name().into_string().unwrap()).collect();
    names.sort();
    assert_eq!(names, ["1", "self", "thread-self"]);
}

/// Whichever descriptors a VM has: with fewer of them the numbers are others.
fn assert_stdin_is_null(pid: u32) {
    let stdin = fs::read_link(format!("/proc/{pid}/fd/0")).unwrap();
    assert_eq!(stdin, std::path::Path::new("/dev/null"), "standard input");
}

fn assert_descriptors(pid: u32) {
    assert_stdin_is_null(pid);
    let entries = fs::read_dir(format!("/proc/{pid}/fd")).unwrap().flatten();
    for entry in entries {
        let target = fs::read_link(entry.path()).unwrap().to_string_lossy().into_owned();
        let name = target.trim_start_matches('/').split(['/', ':']).next().unwrap().to_owned();
        let ours = ["root", "scratch", "null"].iter().any(|file| target.ends_with(file));
        let memory = ["memfd:vm-log", "memfd:guest-memory"].iter().any(|m| target.contains(m));
        let ours = ours || memory || target.contains("/uids/");
        let usual = ["socket", "anon_inode", "pipe"].contains(&name.as_str());
        assert!(ours || usual || target == "/dev/net/tun", "{target}");
    }
}

#[tokio::test]
async fn a_vm_that_lets_go_of_its_user_id_keeps_it() {
    let world = World::new();
    let driver = world.driver();
    let (hostile, next) = (ids(10), ids(11));
    let first = driver.boot(world.spec(hostile.0, hostile.1)).await.unwrap();
    assert_stdin_is_null(first.pid);
    // As the process itself would: the lock belongs to what it has open.
    let lock = descriptor(first.pid, |target| target.contains("/uids/"));
    rustix::fs::flock(&lock, rustix::fs::FlockOperation::Unlock).unwrap();
    let second = driver.boot(world.spec(next.0, next.1)).await.unwrap();
    let uid =
        |pid| std::os::unix::fs::MetadataExt::uid(&fs::metadata(format!("/proc/{pid}")).unwrap());
    assert_ne!(uid(first.pid), uid(second.pid));
    kill_all(&driver).await;
    assert_eq!(world.remains(), Vec::<String>::new());
}

/// A process's own open file, not one of the same name.
fn descriptor(pid: u32, is_it: impl Fn(&str) -> bool) -> OwnedFd {
    use rustix::process::{Pid, PidfdFlags, PidfdGetfdFlags, pidfd_getfd, pidfd_open};
    let entries = fs::read_dir(format!("/proc/{pid}/fd")).unwrap().flatten();
    let mut found = entries.filter(|e| is_it(&fs::read_link(e.path()).unwrap().to_string_lossy()));
    let number = found.next().unwrap().file_name().into_string().unwrap().parse().unwrap();
    let pid = Pid::from_raw(i32::try_from(pid).unwrap()).unwrap();
    let process = pidfd_open(pid, PidfdFlags::empty()).unwrap();
    pidfd_getfd(process, number, PidfdGetfdFlags::empty()).unwrap()
}

#[tokio::test]
async fn a_vm_outlives_its_driver() {
    let world = World::new();
    let (machine, boot) = ids(2);
    let driver = world.driver();
    let mut vm = driver.boot(world.spec(machine, boot)).await.unwrap();
    assert_eq!(ask(&mut *vm.agent, "echo one").await, "one");
    let pid = vm.pid;
    drop(vm);
    drop(driver);

    let driver = world.driver();
    let found = driver.list().await.unwrap();
    assert_eq!((found.len(), found[0].boot, found[0].alive), (1, boot, true));
    let mut vm = driver.adopt(machine, boot).await.unwrap();
    assert_eq!(vm.pid, pid);
    assert_eq!(ask(&mut *vm.agent, "echo two").await, "two");
    // QEMU gets killed by another process.
    signal(vm.pid, Signal::KILL);
    let exit = ended(vm).await;
    assert!(!exit.powered_off && exit.signal == 9, "{exit:?}");
    assert!(!driver.list().await.unwrap()[0].alive);
    assert!(driver.adopt(machine, boot).await.is_err());
    kill_all(&driver).await;
    assert_eq!(world.remains(), Vec::<String>::new());
}

#[tokio::test]
async fn a_guest_that_powers_off_and_one_that_panics() {
    let world = World::new();
    let driver = world.driver();
    let (off, panic) = (ids(3), ids(4));
    let mut first = driver.boot(world.spec(off.0, off.1)).await.unwrap();
    let mut second = driver.boot(world.spec(panic.0, panic.1)).await.unwrap();
    // The console is bounded on the host, however much is printed.
    assert_eq!(ask(&mut *second.agent, "flood").await, "flooded");
    send_line(&mut *second.agent, "panic").await;
    send_line(&mut *first.agent, "off").await;
    let (first, second) = (ended(first).await, ended(second).await);
    assert!(first.powered_off && first.console_tail.is_empty(), "{first:?}");
    assert!(!second.powered_off, "{second:?}");
    assert!(second.console_tail.contains("Kernel panic"), "{}", second.console_tail);
    assert!(second.console_tail.len() <= 4096);
    kill_all(&driver).await;
    assert_eq!(world.remains(), Vec::<String>::new());
}

#[tokio::test]
async fn a_guest_that_ends_while_no_driver_is_there() {
    let world = World::new();
    let (machine, boot) = ids(5);
    let driver = world.driver();
    let mut vm = driver.boot(world.spec(machine, boot)).await.unwrap();
    assert_eq!(ask(&mut *vm.agent, "echo up").await, "up");
    drop(driver);
    send_line(&mut *vm.agent, "off").await;
    drop(vm);
    let driver = world.driver();
    let vm = driver.adopt(machine, boot).await.unwrap();
    assert!(ended(vm).await.powered_off);
    kill_all(&driver).await;
    assert_eq!(world.remains(), Vec::<String>::new());
}

#[tokio::test]
async fn failed_starts_name_the_reason_and_leave_nothing() {
    let (machine, boot) = ids(6);
    for (break_it, words) in BROKEN {
        let mut world = World::new();
        // As QEMU is named, but opened with a real one: its version is asked.
        let driver = {
            break_it(&mut world);
            world.driver()
        };
        let started = tokio::time::timeout(PATIENCE, driver.boot(world.spec(machine, boot))).await;
        let problem = rt::chain(&started.unwrap().unwrap_err());
        assert!(problem.contains(words), "{words}: {problem}");
        assert_eq!(world.remains(), Vec::<String>::new());
    }
}

/// How to break a world, and what the error must contain then.
type Broken = (fn(&mut World), &'static str);
const BROKEN: [Broken; 6] = [
    (with_a_launcher_that_hangs, "start VM"),
    (|w| w.config.guest.vmlinuz = "/nowhere/vmlinuz".into(), "/nowhere/vmlinuz"),
    (|w| w.config.jail.launcher = "/bin/false".into(), "start VM"),
    (|w| w.config.jail.launcher = "/nowhere/launcher".into(), "/nowhere/launcher"),
    (|w| w.config.jail.uid_count = 0, "user ids"),
    (|w| fs::remove_file(w.temp.path().join("scratch")).unwrap(), "scratch"),
];

fn with_a_launcher_that_hangs(world: &mut World) {
    let script = world.temp.path().join("launcher");
    fs::write(&script, "#!/bin/sh\nexec sleep 600\n").unwrap();
    fs::set_permissions(&script, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    world.config.jail.launcher = script.to_str().unwrap().into();
    world.config.start_deadline = std::time::Duration::from_millis(200);
}

#[tokio::test]
async fn a_qemu_that_is_none_is_refused_or_reported() {
    let mut world = World::new();
    world.config.qemu = "/bin/true".into();
    let refused = vmm_qemu::QemuHypervisor::open(world.config.clone()).unwrap_err();
    assert!(refused.to_string().contains("is not QEMU"), "{refused}");
    let script = world.temp.path().join("qemu");
    // Calls itself QEMU and then fails, from outside /usr.
    fs::write(&script, "#!/bin/sh\n[ $1 = --version ] && echo QEMU emulator version 1.2\necho no luck >&2\nexit 3\n").unwrap();
    fs::set_permissions(&script, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    world.config.qemu = script.to_str().unwrap().into();
    let driver = world.driver();
    let (machine, boot) = ids(7);
    let problem = rt::chain(&driver.boot(world.spec(machine, boot)).await.unwrap_err());
    assert!(problem.contains("no luck"), "{problem}");
    assert_eq!(world.remains(), Vec::<String>::new());
}

#[tokio::test]
async fn a_boot_whose_caller_stops_waiting_is_complete_or_killed() {
    let world = World::new();
    let driver = world.driver();
    let (machine, boot) = ids(8);
    let booting = driver.boot(world.spec(machine, boot));
    // Dropped at its first pause, with the launcher somewhere on its way.
    tokio::select! { biased; _ = booting => {}, () = tokio::task::yield_now() => {} }
    driver.kill(machine, boot).await.unwrap();
    // Whichever came first, a second kill finds the rest.
    driver.kill(machine, boot).await.unwrap();
    assert_eq!(world.remains(), Vec::<String>::new());
}

#[tokio::test]
async fn kvm_is_used_only_if_a_guest_boots_with_it() {
    let world = World::new();
    let cache = camino::Utf8Path::from_path(world.temp.path()).unwrap();
    let kernel = vmm_qemu::kernel::find().unwrap();
    let deadline = std::time::Duration::from_secs(5);
    let probe = || vmm_qemu::probe::probe(&world.config, &kernel, cache, deadline);
    let first = probe().await.unwrap();
    assert!(first.line().chars().count() <= 100 && !first.reason.is_empty(), "{}", first.line());
    assert_eq!(probe().await.unwrap(), first, "remembered");
    println!("{first:?}");
    assert_eq!(world.remains(), Vec::<String>::new());
}

#[tokio::test]
async fn the_probes_guest_powers_off() {
    let world = World::new();
    let cache = camino::Utf8Path::from_path(world.temp.path()).unwrap();
    let booted = vmm_qemu::probe::boots(&world.config, cache, PATIENCE).await.unwrap();
    assert_eq!(booted, vmm_qemu::probe::Attempt::Booted);
    assert_eq!(world.remains(), Vec::<String>::new());
}

#[tokio::test]
async fn a_guest_may_use_all_its_memory_and_the_cpu_it_was_promised() {
    let world = World::new();
    let driver = world.driver();
    let (machine, boot) = ids(9);
    let mut vm = driver.boot(world.spec(machine, boot)).await.unwrap();
    let flags = ask(&mut *vm.agent, "flags").await;
    // x86-64-v2, which the images of some distributions need.
    for flag in ["cx16", "lahf_lm", "popcnt", "sse4_1", "sse4_2", "ssse3"] {
        assert!(flags.split(' ').any(|f| f == flag), "{flag}: {flags}");
    }
    // Its own kernel ends what took too much; the host's limit does not strike.
    assert_eq!(ask(&mut *vm.agent, "fill").await, "filled");
    println!("resident: {}", resident_mib(vm.pid));
    assert!(resident_mib(vm.pid) < 128 + 192);
    kill_all(&driver).await;
    assert_eq!(world.remains(), Vec::<String>::new());
}

fn resident_mib(pid: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|l| l.strip_prefix("VmHWM:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() / 1024
}

/// Plays the daemon for the test below: boots until it is killed.
#[tokio::test]
#[ignore = "started by the test below"]
async fn child_that_boots() {
    let world = World::given();
    let driver = world.driver();
    for number in 0.. {
        let (machine, boot) = ids(number);
        let _vm = driver.boot(world.spec(machine, boot)).await.unwrap();
        driver.kill(machine, boot).await.unwrap();
    }
}

#[tokio::test]
async fn a_daemon_killed_at_any_moment_leaves_nothing_unknown() {
    let world = World::new();
    for step in 0..24 {
        let mut child = world.child("child_that_boots");
        // Each round ends at another moment of boot and kill, which take about
        // 60 ms; whichever it is, what follows must hold.
        tokio::time::sleep(std::time::Duration::from_millis(20 + 7 * step)).await;
        child.kill().unwrap();
        child.wait().unwrap();
        let driver = world.driver();
        for vm in driver.list().await.unwrap() {
            if vm.alive && step % 2 == 0 {
                let adopted = driver.adopt(vm.machine, vm.boot).await;
                println!("step {step}: adopted: {}", adopted.is_ok());
            }
        }
        kill_all(&driver).await;
        world.assert_empty().await;
    }
}

/// The daemon of the test below.
#[tokio::test]
#[ignore = "started by the test below"]
async fn child_that_is_protected() {
    let own = || fs::read_to_string("/proc/self/cgroup").unwrap();
    let score = |who: &str| fs::read_to_string(format!("/proc/{who}/oom_score_adj")).unwrap();
    let (world, before, earlier_score) = (World::given(), own(), score("self"));
    let driver = world.driver();
    // Containers may lack CAP_SYS_RESOURCE (24), which lowering the score takes.
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let effective = status.lines().find_map(|line| line.strip_prefix("CapEff:")).unwrap();
    let may_lower = u64::from_str_radix(effective.trim(), 16).unwrap() & 1 << 24 != 0;
    let problems = driver.protect_daemon();
    let refused = problems.iter().any(|problem| problem.contains("oom_score_adj"));
    assert_eq!((problems.len(), refused), (usize::from(!may_lower), !may_lower), "{problems:?}");
    let (machine, boot) = ids(31);
    let vm = driver.boot(world.spec(machine, boot)).await.unwrap();
    let platform = format!("/updraft-{}", world.config.instance);
    assert!(own().lines().any(|line| line.ends_with(&format!("{platform}/daemon"))), "{}", own());
    let of_vm = fs::read_to_string(format!("/proc/{}/cgroup", vm.pid)).unwrap();
    let place = format!("{platform}/vms/{machine}-{boot}");
    assert!(of_vm.lines().any(|line| line.ends_with(&place)), "{of_vm}");
    let lowered = if may_lower { "-900" } else { earlier_score.trim() };
    assert_eq!((score("self").trim(), score(&vm.pid.to_string()).trim()), (lowered, "300"));
    for (group, shares, weight) in
        [("", "8192", "800"), ("/daemon", "8192", "800"), ("/vms", "1024", "100")]
    {
        let set = support::cgroup_value(&format!("{platform}{group}/cpu.shares"))
            .map(|value| (value, shares))
            .or_else(|| {
                let value = support::cgroup_value(&format!("{platform}{group}/cpu.weight"));
                value.map(|value| (value, weight))
            });
        let (value, expected) = set.expect("a weight");
        assert_eq!(value, expected, "{group}");
    }
    let limit = support::cgroup_value(&format!("{platform}/vms/memory.limit_in_bytes"))
        .or_else(|| support::cgroup_value(&format!("{platform}/vms/memory.max")));
    let limit = limit.expect("a limit of all VMs together");
    assert_eq!(limit, (world.config.vms_memory_mib.unwrap() << 20).to_string());
    kill_all(&driver).await;
    drop(driver);
    assert_eq!((own(), score("self")), (before, earlier_score), "it is where it was");
}

#[tokio::test]
async fn the_daemon_has_a_group_beside_its_vms_and_outweighs_them() {
    let world = World::new();
    let ended = world.child("child_that_is_protected").wait().unwrap();
    assert!(ended.success(), "see `cargo test -- --ignored child_that_is_protected`");
    world.assert_empty().await;
}

/// A tap of our own; it goes with its descriptor.
pub(crate) fn tap() -> OwnedFd {
    const TUNSETIFF: libc::c_ulong = 0x4004_54ca;
    const FLAGS: u16 = 0x0002 | 0x1000 | 0x4000; // tap, no packet info, vnet header
    let file = fs::OpenOptions::new().read(true).write(true).open("/dev/net/tun").unwrap();
    let mut request = [0u8; 40];
    request[16..18].copy_from_slice(&FLAGS.to_ne_bytes());
    // SAFETY: the request is a `struct ifreq` of 40 bytes and outlives the call.
    let made = unsafe { libc::ioctl(file.as_raw_fd(), TUNSETIFF, request.as_mut_ptr()) };
    assert_eq!(made, 0, "{}", std::io::Error::last_os_error());
    file.into()
}
