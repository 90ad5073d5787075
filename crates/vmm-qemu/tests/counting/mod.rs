//! The life of a VM's process, with a guest that stays in real mode and counts
//! (`guest.S`), on every accelerator that runs it: KVM is tested also where no stock
//! kernel boots with it.

mod guest;

use crate::support::{PATIENCE, World, cgroup_value, ended, ids, kill_all, signal};
use guest::{counter, counter_in};
use model::id::{BootId, MachineId};
use rustix::process::Signal;
use std::fs;
use std::time::Duration;
use testkit::skip::{Lacks, skip};
use tokio_util::sync::CancellationToken;
use vmm_qemu::{Accelerator, CpuModel};
use worker::ports::{BootOrigin, BootSpec, Hypervisor, QuiesceGuest, Shape, SnapshotSpec};

const SHAPE: Shape = Shape { vcpus: 1, memory_mib: 128 };
const ACCELERATOR: &str = "VMM_QEMU_TEST_ACCELERATOR";

/// A world whose guests count.
fn counting(mut world: World, accelerator: Accelerator, cpu_model: CpuModel) -> World {
    let dir = camino::Utf8Path::from_path(world.temp.path()).unwrap();
    world.config.guest = guest::image(dir);
    world.config.accelerator = accelerator;
    world.config.cpu_model = cpu_model;
    world
}

/// Runs `check` with every accelerator that runs the guest.
async fn on_every_accelerator(check: impl AsyncFn(World)) {
    check(counting(World::new(), Accelerator::Tcg, CpuModel::default())).await;
    match kvm_model().await {
        Ok(model) => check(counting(World::new(), Accelerator::Kvm, model)).await,
        Err(missing) => skip(&missing, Lacks::Optional),
    }
}

/// The first CPU model with which the guest counts under KVM.
async fn kvm_model() -> Result<CpuModel, String> {
    let opened = fs::OpenOptions::new().read(true).write(true).open("/dev/kvm");
    opened.map_err(|err| format!("/dev/kvm: {err}"))?;
    let mut problems = String::new();
    for model in CpuModel::LADDER {
        let world = counting(World::new(), Accelerator::Kvm, model);
        let driver = world.driver();
        let (machine, boot) = ids(90);
        match driver.boot(world.spec(machine, boot)).await {
            Ok(vm) => {
                counts_beyond(vm.pid, 1).await;
                kill_all(&driver).await;
                return Ok(model);
            }
            Err(err) => problems.push_str(&format!("{}: {}; ", model.as_str(), rt::chain(&err))),
        }
    }
    Err(format!("KVM that runs a guest: {problems}"))
}

/// Waits until the guest has counted beyond `count`; returns how far it is then.
async fn counts_beyond(pid: u32, count: u32) -> u32 {
    let counted = async {
        loop {
            match counter(pid) {
                Ok(now) if now > count => return now,
                // Polled: the guest only counts in its memory, which may not be mapped yet.
                _ => tokio::time::sleep(Duration::from_millis(5)).await,
            }
        }
    };
    tokio::time::timeout(PATIENCE, counted).await.expect("the guest counts")
}

fn arguments(pid: u32) -> Vec<String> {
    let bytes = fs::read(format!("/proc/{pid}/cmdline")).unwrap();
    bytes.split(|b| *b == 0).map(|arg| String::from_utf8_lossy(arg).into_owned()).collect()
}

fn after(arguments: &[String], flag: &str) -> String {
    let at = arguments.iter().position(|arg| arg == flag).unwrap();
    arguments[at + 1].clone()
}

#[tokio::test]
async fn a_vm_runs_in_its_jail_and_groups_and_ends_when_killed() {
    on_every_accelerator(async |world| {
        let driver = world.driver();
        let (machine, boot) = ids(1);
        let spec = BootSpec { cpu_weight: 250, ..world.spec(machine, boot) };
        let vm = driver.boot(spec).await.unwrap();
        counts_beyond(vm.pid, 2).await;
        let (kvm, args) = (world.config.accelerator == Accelerator::Kvm, arguments(vm.pid));
        assert!(after(&args, "-accel").starts_with(world.config.accelerator.as_str()));
        let cpu = if kvm { world.config.cpu_model } else { CpuModel::Plain };
        assert_eq!(after(&args, "-cpu"), cpu.as_str());
        let devices = fs::read_dir(format!("/proc/{}/root/dev", vm.pid)).unwrap();
        let mut devices: Vec<_> =
            devices.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        devices.sort();
        let all: &[&str] =
            if kvm { &["kvm", "null", "urandom", "zero"] } else { &["null", "urandom", "zero"] };
        assert_eq!(devices, all);
        crate::assert_unprivileged(&world, vm.pid, kvm);
        let group = format!("/updraft-{}/vms/{machine}-{boot}", world.config.instance);
        let weight = cgroup_value(&format!("{group}/cpu.shares"))
            .map(|value| (value, "256"))
            .or_else(|| cgroup_value(&format!("{group}/cpu.weight")).map(|value| (value, "25")));
        let (value, expected) = weight.expect("a CPU weight");
        assert_eq!(value, expected, "a quarter of a core");
        let score = fs::read_to_string(format!("/proc/{}/oom_score_adj", vm.pid)).unwrap();
        assert_eq!(score.trim(), "300");
        driver.kill(machine, boot).await.unwrap();
        let exit = ended(vm).await;
        assert!(!exit.powered_off && exit.signal == 9, "{exit:?}");
        assert_eq!(world.remains(), Vec::<String>::new());
    })
    .await;
}

#[tokio::test]
async fn a_vm_with_a_quota_is_held_back_and_without_one_is_not() {
    on_every_accelerator(async |world| {
        let driver = world.driver();
        let (machine, boot) = ids(3);
        let vm = driver.boot(world.spec(machine, boot)).await.unwrap();
        counts_beyond(vm.pid, 2).await;
        let times = || driver.cpu_times(machine, boot).expect("its CPU time is known");
        let quota = Duration::from_millis(8);
        driver.limit_cpu(machine, boot, Some(quota)).unwrap();
        let (begun, before) = (std::time::Instant::now(), times());
        let held_back = async {
            // A tenth of a core: it waits nine tenths of the time.
            while times().throttled < before.throttled + Duration::from_millis(400) {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        tokio::time::timeout(PATIENCE, held_back).await.expect("the quota takes effect");
        let (used, elapsed) = (times().used - before.used, begun.elapsed());
        assert!(used < elapsed / 2, "{used:?} of {elapsed:?}");
        driver.limit_cpu(machine, boot, None).unwrap();
        let group = format!("/updraft-{}/vms/{machine}-{boot}", world.config.instance);
        let quota = cgroup_value(&format!("{group}/cpu.cfs_quota_us"))
            .map(|value| (value, "120000"))
            .or_else(|| {
                let max = cgroup_value(&format!("{group}/cpu.max"))?;
                Some((max, "120000 100000"))
            });
        let (value, expected) = quota.expect("a quota");
        assert_eq!(value, expected, "all of its vCPU again");
        driver.kill(machine, boot).await.unwrap();
        ended(vm).await;
        assert!(driver.limit_cpu(machine, boot, None).is_err());
        assert_eq!(driver.cpu_times(machine, boot), None);
    })
    .await;
}

/// Plays a daemon that is killed.
#[tokio::test]
#[ignore = "started by the test below"]
async fn child_that_boots_and_waits() {
    let (accelerator, model): (Accelerator, CpuModel) =
        serde_json::from_slice(std::env::var_os(ACCELERATOR).unwrap().as_encoded_bytes()).unwrap();
    let world = counting(World::given(), accelerator, model);
    let driver = world.driver();
    let (machine, boot) = ids(2);
    let _vm = driver.boot(world.spec(machine, boot)).await.unwrap();
    std::future::pending::<()>().await;
}

#[tokio::test]
async fn a_vm_outlives_a_daemon_that_was_killed_and_is_taken_over() {
    on_every_accelerator(async |world| {
        let chosen = (world.config.accelerator, world.config.cpu_model);
        let chosen = serde_json::to_string(&chosen).unwrap();
        let child = "counting::child_that_boots_and_waits";
        let mut daemon = world.child_with(child, &[(ACCELERATOR, &chosen)]);
        let (machine, boot) = ids(2);
        let pid_file = world.config.run_dir.join(format!("{machine}/{boot}/pid"));
        let counting = async {
            loop {
                let pid = fs::read_to_string(&pid_file).unwrap_or_default();
                let pid = pid.split(' ').next().and_then(|pid| pid.parse().ok());
                match pid.map(|pid| (pid, counter(pid))) {
                    Some((pid, Ok(count))) if count > 2 => return pid,
                    // Polled: the guest only counts in its memory.
                    _ => tokio::time::sleep(Duration::from_millis(5)).await,
                }
            }
        };
        let pid = tokio::time::timeout(PATIENCE, counting).await.expect("the daemon boots a VM");
        daemon.kill().unwrap();
        daemon.wait().unwrap();
        let before = counter(pid).unwrap();
        let driver = world.driver();
        let vm = driver.adopt(machine, boot).await.unwrap();
        assert_eq!((vm.pid, &vm.origin), (pid, &BootOrigin::Found));
        counts_beyond(pid, before).await;
        // QEMU is killed by another process, and the driver notices. By which signal,
        // only the parent of a process is notified.
        signal(pid, Signal::KILL);
        assert!(!ended(vm).await.powered_off);
        kill_all(&driver).await;
        world.assert_empty().await;
    })
    .await;
}

#[tokio::test]
async fn a_suspended_vm_resumes_where_it_stopped() {
    on_every_accelerator(async |world| {
        let driver = world.driver();
        let dir = world.config.run_dir.parent().unwrap().join("snapshot");
        let (machine, first) = ids(3);
        let vm = driver.boot(world.spec(machine, first)).await.unwrap();
        let (mut boot, mut pid) = (first, vm.pid);
        for round in 1..=2 {
            let before = counts_beyond(pid, 2).await;
            let to = SnapshotSpec { dir: dir.clone(), note: String::new() };
            driver.suspend(machine, boot, to, CancellationToken::new()).await.unwrap();
            let saved = counter(pid).unwrap();
            assert!(saved >= before);
            assert_eq!(counter_in(&dir.join("ram")), saved, "the memory of the paused guest");
            driver.kill(machine, boot).await.unwrap();

            boot = BootId::new(10 + round, 3);
            let spec = BootSpec { snapshot: Some(dir.clone()), ..world.spec(machine, boot) };
            let vm = driver.boot(spec).await.unwrap();
            assert_eq!((&vm.origin, counter(vm.pid).unwrap()), (&BootOrigin::Snapshot, saved));
            driver.resume(machine, boot).await.unwrap();
            pid = vm.pid;
            counts_beyond(pid, saved).await;
        }
        kill_all(&driver).await;
        assert_eq!(world.remains(), Vec::<String>::new());
    })
    .await;
}

#[tokio::test]
async fn a_snapshot_of_another_cpu_model_is_refused() {
    let model = match kvm_model().await {
        Ok(model) => model,
        Err(missing) => return skip(&missing, Lacks::Optional),
    };
    let mut world = counting(World::new(), Accelerator::Kvm, model);
    let (driver, (machine, boot)) = (world.driver(), ids(4));
    let dir = world.config.run_dir.parent().unwrap().join("snapshot");
    let vm = driver.boot(world.spec(machine, boot)).await.unwrap();
    counts_beyond(vm.pid, 1).await;
    let to = SnapshotSpec { dir: dir.clone(), note: String::new() };
    driver.suspend(machine, boot, to, CancellationToken::new()).await.unwrap();
    kill_all(&driver).await;
    drop(driver);
    world.config.cpu_model =
        if model == CpuModel::Plain { CpuModel::Host } else { CpuModel::Plain };
    let spec = BootSpec { snapshot: Some(dir), ..world.spec(machine, BootId::new(9, 4)) };
    let refused = rt::chain(&world.driver().boot(spec).await.unwrap_err());
    assert!(refused.contains("processor was"), "{refused}");
}

/// The guest has nothing to finish; it is saved once it has begun to count.
fn quiesced_after_first_count(run_dir: camino::Utf8PathBuf) -> QuiesceGuest {
    std::sync::Arc::new(move |_| {
        let run_dir = run_dir.clone();
        Box::pin(async move {
            // A template is made by one VM at a time, of a machine of no host.
            let builder = MachineId::from_random(1);
            let dir = run_dir.join(builder.to_string());
            let boots = dir.read_dir_utf8().unwrap().flatten();
            let pids = boots.filter_map(|boot| fs::read_to_string(boot.path().join("pid")).ok());
            let pids: Vec<u32> =
                pids.filter_map(|text| text.split(' ').next()?.parse().ok()).collect();
            assert_eq!(pids.len(), 1, "one VM is built from");
            counts_beyond(pids[0], 0).await;
            Ok(())
        })
    })
}

#[tokio::test]
async fn clones_of_a_template_count_on_independently() {
    on_every_accelerator(async |world| {
        let driver = world.driver();
        let quiesce = quiesced_after_first_count(world.config.run_dir.clone());
        driver.make_template(SHAPE, quiesce).await.unwrap();
        assert!(driver.has_template(SHAPE));
        assert_eq!(driver.list().await.unwrap(), [], "nothing runs for it");
        // By a later driver, which loads it from disk.
        drop(driver);
        let driver = world.driver();
        let mut clones = Vec::new();
        for number in 5..8 {
            let (machine, boot) = ids(number);
            let vm = driver.boot(world.spec(machine, boot)).await.unwrap();
            assert_eq!(vm.origin, BootOrigin::Template);
            clones.push((machine, boot, vm.pid));
        }
        for (_, _, pid) in &clones {
            counts_beyond(*pid, counter(*pid).unwrap()).await;
        }
        // One is paused, another killed; the third counts on.
        signal(clones[0].2, Signal::STOP);
        driver.kill(clones[1].0, clones[1].1).await.unwrap();
        let paused = counter(clones[0].2).unwrap();
        counts_beyond(clones[2].2, counter(clones[2].2).unwrap() + 2).await;
        assert_eq!(counter(clones[0].2).unwrap(), paused, "its memory is its own");
        signal(clones[0].2, Signal::CONT);
        kill_all(&driver).await;
        assert_eq!(world.remains(), Vec::<String>::new());
    })
    .await;
}

#[tokio::test]
async fn the_probe_reports_in_one_line_what_it_took() {
    // A kernel that never powers off: no model of the ladder boots it, and each is
    // tried or left out for a reason that is named.
    let world = counting(World::new(), Accelerator::Tcg, CpuModel::default());
    let cache = camino::Utf8Path::from_path(world.temp.path()).unwrap();
    let kernel = vmm_qemu::kernel::find().unwrap();
    let deadline = Duration::from_millis(1500);
    let probed = vmm_qemu::probe::probe(&world.config, &kernel, cache, deadline).await.unwrap();
    assert_eq!((probed.accelerator, probed.cpu_model), (Accelerator::Tcg, CpuModel::Plain));
    assert!(probed.line().chars().count() <= 100, "{}", probed.line());
    if fs::metadata("/dev/kvm").is_ok() {
        assert!(!probed.failures.is_empty(), "{probed:?}");
    }
    let forced = vmm_qemu::probe::forced(Accelerator::Kvm, &world.config, &kernel, cache, deadline);
    let forced = forced.await.unwrap();
    assert_eq!(forced.accelerator, Accelerator::Kvm);
    assert!(forced.reason.contains("no guest booted"), "{}", forced.reason);
    assert_eq!(world.remains(), Vec::<String>::new());
}
