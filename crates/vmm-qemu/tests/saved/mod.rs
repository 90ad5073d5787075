//! Guests that are written down and go on.

use crate::support::{World, ask, ids, kill_all};
use camino::{Utf8Path, Utf8PathBuf};
use model::id::{BootId, MachineId};
use std::fs;
use std::os::unix::fs::FileExt;
use tokio_util::sync::CancellationToken;
use vmm_qemu::QemuHypervisor;
use worker::ports::{BootSpec, Hypervisor, Origin, SnapshotSpec, Vm};

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
        assert_eq!(vm.origin, Origin::Snapshot);
        self.driver.proceed(self.machine, self.boot()).await.unwrap();
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
async fn a_guest_goes_on_where_it_stood_again_and_again() {
    let mut sleeper = Sleeper::new();
    let mut vm = sleeper.start().await;
    assert_eq!(vm.origin, Origin::Cold("there is no template of 1 vCPUs and 128 MiB yet".into()));
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
async fn a_suspend_that_is_given_up_leaves_a_guest_that_runs() {
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

    // It had been written down, and goes on all the same.
    sleeper.suspend().await.unwrap();
    sleeper.driver.proceed(sleeper.machine, sleeper.boot()).await.unwrap();
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
async fn what_does_not_fit_is_refused_before_the_guest_runs() {
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
    sleeper.refused("go on from the snapshot").await;
    fs::write(&manifest, &whole).unwrap();

    // And with everything put back it goes on.
    let mut vm = sleeper.resume().await;
    assert!(ask(&mut *vm.agent, "sum").await.contains("/kept"));
    sleeper.kill().await;
}
