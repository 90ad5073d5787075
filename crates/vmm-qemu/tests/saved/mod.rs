//! Snapshots and templates: guests that are suspended, resumed and copied.

use crate::support::{World, ask, ids, kill_all};
use camino::{Utf8Path, Utf8PathBuf};
use model::id::{BootId, MachineId};
use std::fs;
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use tokio_util::sync::CancellationToken;
use vmm_qemu::QemuHypervisor;
use worker::ports::{BootOrigin, BootSpec, Hypervisor, QuiesceGuest, Shape, SnapshotSpec, Vm};

/// A machine that is suspended and resumed, each time as another boot.
struct Sleeper {
    world: World,
    driver: QemuHypervisor,
    machine: MachineId,
    boots: u64,
    dir: Utf8PathBuf,
}

impl Sleeper {
    fn new() -> Self {
        let world = World::new();
        let driver = world.driver();
        let dir = world.config.run_dir.parent().unwrap().join("snapshot");
        Self { world, driver, machine: ids(1).0, boots: 0, dir }
    }

    fn boot(&self) -> BootId {
        BootId::new(1, u128::from(self.boots))
    }

    fn spec(&self) -> BootSpec {
        self.world.spec(self.machine, self.boot())
    }

    async fn start(&mut self) -> Vm {
        self.boots += 1;
        self.driver.boot(self.spec()).await.unwrap()
    }

    async fn suspend(&self) -> Result<(), worker::ports::PortError> {
        let to = SnapshotSpec { dir: self.dir.clone(), note: "note".into() };
        let saved = self.driver.suspend(self.machine, self.boot(), to, CancellationToken::new());
        saved.await.map(|times| assert!(times.written_mib > 0.1, "{times:?}"))
    }

    async fn kill(&self) {
        self.driver.kill(self.machine, self.boot()).await.unwrap();
    }

    /// The VM of the snapshot, not running yet.
    async fn restore(&mut self) -> Result<Vm, worker::ports::PortError> {
        self.boots += 1;
        let spec = BootSpec { snapshot: Some(self.dir.clone()), ..self.spec() };
        self.driver.boot(spec).await
    }

    async fn resume(&mut self) -> Vm {
        let vm = self.restore().await.unwrap();
        assert_eq!(vm.origin, BootOrigin::Snapshot);
        self.driver.resume(self.machine, self.boot()).await.unwrap();
        vm
    }

    async fn refused(&mut self, because: &str) {
        let problem = rt::chain(&self.restore().await.unwrap_err());
        assert!(problem.contains(because), "{problem}");
        assert_eq!(self.driver.list().await.unwrap(), [], "nothing is left of it");
    }
}

fn flip(path: &Utf8Path, at: u64) {
    let file = fs::File::options().read(true).write(true).open(path).unwrap();
    let mut byte = [0];
    file.read_exact_at(&mut byte, at).unwrap();
    file.write_all_at(&[byte[0] ^ 0x40], at).unwrap();
}

#[tokio::test]
async fn a_guest_resumes_where_it_was_suspended_again_and_again() {
    let mut sleeper = Sleeper::new();
    let mut vm = sleeper.start().await;
    assert_eq!(
        vm.origin,
        BootOrigin::Cold("there is no template of 1 vCPUs and 128 MiB yet".into())
    );
    assert_eq!(ask(&mut *vm.agent, "keep 16").await, "kept");
    let sum = ask(&mut *vm.agent, "sum").await;
    for round in 1..=3 {
        assert_eq!(ask(&mut *vm.agent, "count").await, round.to_string());
        sleeper.suspend().await.unwrap();
        let found = sleeper.driver.snapshot(&sleeper.dir).unwrap();
        assert_eq!((found.boot, found.note.as_str()), (sleeper.boot(), "note"));
        sleeper.kill().await;
        let inode =
            fs::metadata(sleeper.dir.join("ram")).map(|m| std::os::unix::fs::MetadataExt::ino(&m));
        vm = sleeper.resume().await;
        assert_eq!(ask(&mut *vm.agent, "sum").await, sum);
        let again =
            fs::metadata(sleeper.dir.join("ram")).map(|m| std::os::unix::fs::MetadataExt::ino(&m));
        assert_eq!(inode.unwrap(), again.unwrap(), "its memory is written back in place");
    }
    sleeper.kill().await;
    assert_eq!(sleeper.world.remains(), Vec::<String>::new());
}

#[tokio::test]
async fn a_suspend_that_is_cancelled_leaves_a_guest_that_runs() {
    let mut sleeper = Sleeper::new();
    let mut vm = sleeper.start().await;
    assert_eq!(ask(&mut *vm.agent, "count").await, "1");
    let cancelled = CancellationToken::new();
    cancelled.cancel();
    let to = SnapshotSpec { dir: sleeper.dir.clone(), note: String::new() };
    let saved = sleeper.driver.suspend(sleeper.machine, sleeper.boot(), to, cancelled).await;
    assert!(saved.is_err());
    assert_eq!(ask(&mut *vm.agent, "count").await, "2");
    assert_eq!(sleeper.driver.snapshot(&sleeper.dir), None);

    // A VM whose snapshot is complete can be resumed all the same.
    sleeper.suspend().await.unwrap();
    sleeper.driver.resume(sleeper.machine, sleeper.boot()).await.unwrap();
    assert_eq!(sleeper.driver.snapshot(&sleeper.dir), None, "a guest that ran on has none");
    assert_eq!(ask(&mut *vm.agent, "count").await, "3");

    // The same by another daemon, to which it is a VM that runs.
    sleeper.suspend().await.unwrap();
    drop(vm);
    sleeper.driver = {
        drop(sleeper.driver);
        sleeper.world.driver()
    };
    let mut vm = sleeper.driver.adopt(sleeper.machine, sleeper.boot()).await.unwrap();
    assert_eq!(sleeper.driver.snapshot(&sleeper.dir), None, "a guest that ran on has none");
    assert_eq!(ask(&mut *vm.agent, "count").await, "4");
    kill_all(&sleeper.driver).await;
}

#[tokio::test]
async fn a_snapshot_that_does_not_fit_is_refused_before_the_guest_runs() {
    let mut sleeper = Sleeper::new();
    let mut vm = sleeper.start().await;
    ask(&mut *vm.agent, "keep 8").await;
    sleeper.suspend().await.unwrap();
    sleeper.kill().await;
    let dir = sleeper.dir.clone();
    let (ram, state, manifest) = (dir.join("ram"), dir.join("state"), dir.join("manifest.json"));

    // A VM that was restored and never ran is not to be taken over.
    sleeper.restore().await.unwrap();
    assert!(sleeper.driver.adopt(sleeper.machine, sleeper.boot()).await.is_err());
    sleeper.kill().await;

    // The first page that is not a hole holds something.
    let file = fs::File::open(&ram).unwrap();
    let at = rustix::fs::seek(&file, rustix::fs::SeekFrom::Data(0)).unwrap();
    flip(&ram, at);
    sleeper.refused("its memory is damaged").await;
    flip(&ram, at);
    flip(&state, 100);
    sleeper.refused("the state of its devices is damaged").await;
    flip(&state, 100);
    let scratch = sleeper.spec().scratch;
    let before = fs::metadata(&scratch).unwrap().modified().unwrap();
    fs::File::options()
        .append(true)
        .open(&scratch)
        .unwrap()
        .set_modified(before + std::time::Duration::from_secs(1))
        .unwrap();
    sleeper.refused("the scratch disk is not as the guest left it").await;
    fs::File::options().append(true).open(&scratch).unwrap().set_modified(before).unwrap();

    let whole = fs::read_to_string(&manifest).unwrap();
    let other = whole.replace("QEMU\": \"", "QEMU\": \"0.");
    assert_ne!(whole, other);
    fs::write(&manifest, other).unwrap();
    sleeper.refused("QEMU was 0.").await;
    fs::write(&manifest, &whole[..whole.len() / 2]).unwrap();
    assert_eq!(sleeper.driver.snapshot(&dir), None);
    sleeper.refused("resume from the snapshot").await;
    fs::write(&manifest, &whole).unwrap();

    // With everything put back it is resumed.
    let mut vm = sleeper.resume().await;
    assert!(ask(&mut *vm.agent, "sum").await.contains("/kept"));
    sleeper.kill().await;
}

/// A file system of few MiB, unmounted with the value.
struct Small(Utf8PathBuf);

impl Small {
    fn mount(at: &Utf8Path) -> Self {
        fs::create_dir(at).unwrap();
        let (none, size) = (rustix::mount::MountFlags::empty(), c"size=32m");
        rustix::mount::mount("tmpfs", at.as_str(), "tmpfs", none, size).unwrap();
        Self(at.to_owned())
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        rustix::mount::unmount(self.0.as_str(), rustix::mount::UnmountFlags::DETACH).unwrap();
    }
}

#[tokio::test]
async fn without_space_on_the_disk_the_guest_is_never_paused() {
    let mut sleeper = Sleeper::new();
    let mut vm = sleeper.start().await;
    let _small = Small::mount(&sleeper.dir);
    assert_eq!(ask(&mut *vm.agent, "count").await, "1");
    let problem = rt::chain(&sleeper.suspend().await.unwrap_err());
    assert!(problem.contains("has no room"), "{problem}");
    assert_eq!(sleeper.driver.snapshot(&sleeper.dir), None);
    assert_eq!(ask(&mut *vm.agent, "count").await, "2", "it runs on");
    sleeper.kill().await;
}

fn quiesce_guest() -> QuiesceGuest {
    Arc::new(|mut agent| {
        Box::pin(async move {
            assert_eq!(ask(&mut *agent, "echo quiesced").await, "quiesced");
            Ok(())
        })
    })
}

const SHAPE: Shape = Shape { vcpus: 1, memory_mib: 128 };

#[tokio::test]
async fn machines_of_a_template_share_its_memory_and_have_their_own_disks() {
    let world = World::new();
    let driver = world.driver();
    assert!(!driver.has_template(SHAPE));
    driver.make_template(SHAPE, quiesce_guest()).await.unwrap();
    assert!(driver.has_template(SHAPE));
    assert_eq!(driver.list().await.unwrap(), [], "nothing runs for it");

    let (first, second) = (ids(1), ids(2));
    let mut other = world.spec(second.0, second.1);
    other.scratch = world.config.run_dir.parent().unwrap().join("larger");
    fs::File::create(&other.scratch).unwrap().set_len(4 << 20).unwrap();
    other.nic = Some(worker::ports::Nic { tap: crate::tap(), mac: [2, 0, 0, 0, 0, 7] });
    let mut a = driver.boot(world.spec(first.0, first.1)).await.unwrap();
    let mut b = driver.boot(other).await.unwrap();
    assert_eq!((&a.origin, &b.origin), (&BootOrigin::Template, &BootOrigin::Template));
    assert_eq!(ask(&mut *a.agent, "count").await, "1");
    assert_eq!(ask(&mut *a.agent, "count").await, "2");
    assert_eq!(ask(&mut *b.agent, "count").await, "1", "what one writes the other does not see");
    assert_eq!(ask(&mut *a.agent, "disks").await, "2048 1 4096");
    assert_eq!(ask(&mut *b.agent, "disks").await, "2048 1 8192");
    let field = |pid: u32, name: &str| -> u64 {
        let text = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).unwrap();
        let line = text.lines().find_map(|line| line.strip_prefix(name)).unwrap();
        line.trim().trim_end_matches(" kB").parse().unwrap()
    };
    assert!(field(a.pid, "Pss_Shmem:") * 2 <= field(a.pid, "Rss:"), "pages are shared");

    // A machine of a template is suspended and resumed like any other.
    let dir = world.config.run_dir.parent().unwrap().join("snapshot");
    let to = SnapshotSpec { dir: dir.clone(), note: String::new() };
    driver.suspend(first.0, first.1, to, CancellationToken::new()).await.unwrap();
    driver.kill(first.0, first.1).await.unwrap();
    let again = BootId::new(5, 5);
    let spec = BootSpec { snapshot: Some(dir), ..world.spec(first.0, again) };
    let mut a = driver.boot(spec).await.unwrap();
    driver.resume(first.0, again).await.unwrap();
    assert_eq!(ask(&mut *a.agent, "count").await, "3");
    kill_all(&driver).await;
}

#[tokio::test]
async fn a_template_that_is_damaged_or_of_another_kernel_is_not_used() {
    let world = World::new();
    let driver = world.driver();
    driver.make_template(SHAPE, quiesce_guest()).await.unwrap();
    let (machine, boot) = ids(1);
    let cold = |vm: &Vm| matches!(&vm.origin, BootOrigin::Cold(why) if why.contains("no template"));

    // A later daemon loads it from disk.
    drop(driver);
    let driver = world.driver();
    let vm = driver.boot(world.spec(machine, boot)).await.unwrap();
    assert_eq!(vm.origin, BootOrigin::Template);
    driver.kill(machine, boot).await.unwrap();

    let templates = || -> Vec<Utf8PathBuf> {
        let entries = world.config.template_dir.read_dir_utf8().unwrap().flatten();
        entries.map(|e| e.into_path()).filter(|p| p.is_dir()).collect()
    };
    let ram = templates()[0].join("ram");
    let file = fs::File::open(&ram).unwrap();
    flip(&ram, rustix::fs::seek(&file, rustix::fs::SeekFrom::Data(0)).unwrap());
    drop(driver);
    let driver = world.driver();
    let vm = driver.boot(world.spec(machine, boot)).await.unwrap();
    assert!(cold(&vm), "{:?}", vm.origin);
    assert_eq!(templates(), Vec::<Utf8PathBuf>::new(), "it is made again");
    driver.kill(machine, boot).await.unwrap();

    driver.make_template(SHAPE, quiesce_guest()).await.unwrap();
    let mut bytes = fs::read(&world.config.guest.initramfs).unwrap();
    bytes.extend([0; 512]);
    let mut upgraded = world.config.clone();
    upgraded.guest.initramfs = world.config.template_dir.join("initramfs");
    fs::write(&upgraded.guest.initramfs, bytes).unwrap();
    let driver = QemuHypervisor::open(upgraded).unwrap();
    assert!(!driver.has_template(SHAPE));
    assert_eq!(templates(), Vec::<Utf8PathBuf>::new(), "nothing will ever begin from it again");
}

#[tokio::test]
async fn a_template_that_cannot_be_restored_is_reported_and_made_again() {
    let world = World::new();
    let driver = world.driver();
    driver.make_template(SHAPE, quiesce_guest()).await.unwrap();
    // A state that QEMU does not take, whole by its sum.
    let dir = world.config.template_dir.read_dir_utf8().unwrap().flatten();
    let dir = dir.map(|e| e.into_path()).find(|p| p.is_dir()).unwrap();
    let manifest = fs::read_to_string(dir.join("manifest.json")).unwrap();
    let mut manifest: serde_json::Value = serde_json::from_str(&manifest).unwrap();
    manifest["state"] = "00".into();
    // sha256 of one zero byte.
    manifest["state_sum"] =
        "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d".into();
    fs::write(dir.join("manifest.json"), manifest.to_string()).unwrap();
    drop(driver);
    let driver = world.driver();
    let (machine, boot) = ids(1);
    let mut vm = driver.boot(world.spec(machine, boot)).await.unwrap();
    let reported =
        matches!(&vm.origin, BootOrigin::Cold(why) if why.contains("could not be restored"));
    assert!(reported, "{:?}", vm.origin);
    assert_eq!(ask(&mut *vm.agent, "count").await, "1");
    assert!(!driver.has_template(SHAPE), "it is made again");
    let attempts = Arc::new(AtomicU32::new(0));
    let count = attempts.clone();
    let never: QuiesceGuest = Arc::new(move |_| {
        count.fetch_add(1, Ordering::Relaxed);
        Box::pin(async { Err(worker::ports::PortError::plain("it does not quiesce")) })
    });
    let problem = driver.make_template(SHAPE, never).await.unwrap_err();
    assert!(rt::chain(&problem).contains("does not quiesce"));
    assert_eq!((attempts.load(Ordering::Relaxed), driver.list().await.unwrap().len()), (1, 1));
    kill_all(&driver).await;
    assert_eq!(world.remains(), Vec::<String>::new());
}
