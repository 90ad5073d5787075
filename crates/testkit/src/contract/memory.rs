//! The contract of [`Hypervisor`] about snapshots and templates.

use super::hypervisor::{greet, greet_port, ids};
use camino::Utf8Path;
use guest_protocol::codec::{Decoder, encode};
use guest_protocol::{ToGuest, ToHost};
use model::id::{BootId, MachineId};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio_util::sync::CancellationToken;
use worker::ports::{
    BootOrigin, BootSpec, FoundVm, Hypervisor, PortError, QuiesceGuest, Shape, Snapshot,
    SnapshotSpec, Vm,
};

fn spec_in(dir: &Utf8Path, note: &str) -> SnapshotSpec {
    SnapshotSpec { dir: dir.into(), note: note.into() }
}

/// Checks the snapshots of a driver. `driver` makes one for the same host each
/// time; `spec` makes a boot whose guest greets when greeted; `dir` is a directory for
/// snapshots, on the file system where they are kept.
///
/// # Panics
/// It breaks the contract.
pub async fn hypervisor_snapshot_contract<H: Hypervisor>(
    driver: impl Fn() -> H,
    spec: impl Fn(MachineId, BootId) -> BootSpec,
    dir: &Utf8Path,
) {
    let dir = dir.join("suspend");
    assert_eq!(driver().snapshot(&dir), None, "there is nothing yet");
    a_cancelled_suspend_leaves_a_running_vm(&driver(), &spec, &dir).await;
    a_suspended_vm_can_be_resumed_by_another_daemon(&driver, &spec, &dir).await;
    a_vm_is_resumed_from_its_snapshot(&driver, &spec, &dir).await;
    a_damaged_snapshot_is_refused(&driver(), &spec, &dir).await;
}

async fn suspend<H: Hypervisor>(driver: &H, vm: &Vm, machine: MachineId, to: SnapshotSpec) {
    let saved = driver.suspend(machine, vm.boot, to, CancellationToken::new()).await;
    let times = saved.expect("a running VM is suspended");
    assert!(times.save_ms >= 0.0 && times.sync_ms >= 0.0);
}

async fn a_cancelled_suspend_leaves_a_running_vm<H: Hypervisor>(
    driver: &H,
    spec: &impl Fn(MachineId, BootId) -> BootSpec,
    dir: &Utf8Path,
) {
    let (machine, boot) = ids(11);
    let mut vm = driver.boot(spec(machine, boot)).await.unwrap();
    greet(&mut vm, 1).await;
    let cancel = CancellationToken::new();
    cancel.cancel();
    let cancelled = driver.suspend(machine, boot, spec_in(dir, "no"), cancel).await;
    assert!(cancelled.is_err());
    assert_eq!(driver.snapshot(dir), None, "after an error there is no snapshot");
    drop(vm);
    let mut vm = driver.adopt(machine, boot).await.expect("it runs on");
    greet(&mut vm, 2).await;
    driver.resume(machine, boot).await.expect("resume does nothing to a VM that runs");
    greet(&mut vm, 3).await;
    driver.kill(machine, boot).await.unwrap();
}

async fn a_suspended_vm_can_be_resumed_by_another_daemon<H: Hypervisor>(
    driver: &impl Fn() -> H,
    spec: &impl Fn(MachineId, BootId) -> BootSpec,
    dir: &Utf8Path,
) {
    let (machine, boot) = ids(12);
    let earlier = driver();
    let mut vm = earlier.boot(spec(machine, boot)).await.unwrap();
    greet(&mut vm, 1).await;
    suspend(&earlier, &vm, machine, spec_in(dir, "yes")).await;
    let found = driver().snapshot(dir);
    assert_eq!(found, Some(Snapshot { boot, note: "yes".into() }));
    assert_eq!(earlier.list().await.unwrap(), [FoundVm { machine, boot, alive: true }]);
    drop((vm, earlier));
    // Its snapshot is removed; another daemon adopts and resumes it.
    std::fs::remove_dir_all(dir).unwrap();
    let later = driver();
    assert_eq!(later.snapshot(dir), None);
    let mut vm = later.adopt(machine, boot).await.expect("a paused VM is adopted");
    later.resume(machine, boot).await.unwrap();
    greet(&mut vm, 2).await;
    later.kill(machine, boot).await.unwrap();
}

async fn a_vm_is_resumed_from_its_snapshot<H: Hypervisor>(
    driver: &impl Fn() -> H,
    spec: &impl Fn(MachineId, BootId) -> BootSpec,
    dir: &Utf8Path,
) {
    let (machine, first) = ids(13);
    let earlier = driver();
    let mut vm = earlier.boot(spec(machine, first)).await.unwrap();
    greet(&mut vm, 1).await;
    suspend(&earlier, &vm, machine, spec_in(dir, "note")).await;
    drop(vm);
    earlier.kill(machine, first).await.unwrap();
    assert_eq!(earlier.list().await.unwrap(), [], "a snapshot is no VM");
    drop(earlier);
    let driver = driver();
    // Twice: the snapshot it was resumed from can be written again.
    let mut last = first;
    for n in 1..3 {
        let found = driver.snapshot(dir).expect("a snapshot outlives its VM");
        assert_eq!((found.boot, found.note.as_str()), (last, "note"));
        let boot = BootId::new(100 + n, 13);
        let resume = || BootSpec { snapshot: Some(dir.into()), ..spec(machine, boot) };
        let mut vm = driver.boot(resume()).await.expect("it is resumed");
        assert_eq!((&vm.origin, vm.boot), (&BootOrigin::Snapshot, boot));
        assert!(driver.adopt(machine, boot).await.is_err(), "its guest never ran");
        if n == 1 {
            // After a daemon that was killed before the resume, the next one starts over.
            driver.kill(machine, boot).await.unwrap();
            vm = driver.boot(resume()).await.expect("the snapshot is as good as it was");
        }
        driver.resume(machine, boot).await.unwrap();
        greet(&mut vm, 10 + n).await;
        suspend(&driver, &vm, machine, spec_in(dir, "note")).await;
        driver.kill(machine, boot).await.unwrap();
        last = boot;
    }
}

/// Continues with the snapshot of the previous check.
async fn a_damaged_snapshot_is_refused<H: Hypervisor>(
    driver: &H,
    spec: &impl Fn(MachineId, BootId) -> BootSpec,
    dir: &Utf8Path,
) {
    let (machine, _) = ids(13);
    let refused = |n: u64, what: &str| {
        let boot = BootId::new(200 + n, 13);
        let spec = BootSpec { snapshot: Some(dir.into()), ..spec(machine, boot) };
        let what = what.to_owned();
        async move {
            let booted = driver.boot(spec).await;
            assert!(booted.is_err(), "a snapshot is refused: {what}");
            driver.kill(machine, boot).await.unwrap();
        }
    };
    // Every file of it is needed.
    let files: Vec<_> = dir.read_dir_utf8().unwrap().map(|entry| entry.unwrap()).collect();
    assert!(!files.is_empty());
    for (n, file) in files.iter().enumerate() {
        let aside = dir.with_extension("aside");
        std::fs::rename(file.path(), &aside).unwrap();
        refused(n as u64, &format!("{} is missing", file.file_name())).await;
        std::fs::write(file.path(), "").unwrap();
        refused(50 + n as u64, &format!("{} is empty", file.file_name())).await;
        std::fs::rename(&aside, file.path()).unwrap();
    }
    std::fs::remove_dir_all(dir).unwrap();
    refused(99, "all of it is missing").await;
    assert_eq!(driver.list().await.unwrap(), []);
}

/// Quiesces a guest that uses the real protocol, as a worker does.
pub fn quiesce_guest() -> QuiesceGuest {
    Arc::new(|mut port| {
        Box::pin(async move {
            let failed =
                |err: std::io::Error| PortError::new("exchange messages with a guest", err);
            greet_port(&mut *port, 7).await;
            port.write_all(&encode(&ToGuest::QuiesceForTemplate)).await.map_err(failed)?;
            let (mut decoder, mut buffer, mut quiesced) = (Decoder::default(), [0; 1024], false);
            while !quiesced {
                let read = port.read(&mut buffer).await.map_err(failed)?;
                assert_ne!(read, 0, "the agent port was closed");
                let receive = |message: ToHost| quiesced |= message == ToHost::Quiesced;
                decoder.feed(&buffer[..read], receive);
            }
            Ok(())
        })
    })
}

/// Checks the templates of a driver that has none of `shape`. `spec` makes a boot of that
/// shape whose guest greets when greeted; `quiesce` quiesces a guest.
///
/// # Panics
/// It breaks the contract.
pub async fn hypervisor_template_contract<H: Hypervisor>(
    driver: impl Fn() -> H,
    shape: Shape,
    spec: impl Fn(MachineId, BootId) -> BootSpec,
    quiesce: QuiesceGuest,
) {
    let (machine, boot) = ids(21);
    let earlier = driver();
    assert!(!earlier.has_template(shape));
    let cold = earlier.boot(spec(machine, boot)).await.unwrap();
    assert!(matches!(cold.origin, BootOrigin::Cold(_)), "{:?}", cold.origin);
    earlier.kill(machine, boot).await.unwrap();

    let fails: QuiesceGuest =
        Arc::new(|_| Box::pin(async { Err(PortError::plain("it does not")) }));
    assert!(earlier.make_template(shape, fails).await.is_err());
    assert!(!earlier.has_template(shape), "a guest that does not quiesce makes none");

    let calls = Arc::new(AtomicU32::new(0));
    let counted: QuiesceGuest = {
        let calls = calls.clone();
        Arc::new(move |io| {
            calls.fetch_add(1, Ordering::Relaxed);
            quiesce(io)
        })
    };
    earlier.make_template(shape, counted.clone()).await.unwrap();
    let quiesced = calls.load(Ordering::Relaxed);
    assert!(quiesced > 0 && earlier.has_template(shape));
    assert_eq!(earlier.list().await.unwrap(), [], "a template is no VM");
    drop(earlier);

    // It outlives the daemon, and is not made twice.
    let later = driver();
    assert!(later.has_template(shape));
    later.make_template(shape, counted).await.unwrap();
    assert_eq!(calls.load(Ordering::Relaxed), quiesced);
    let ((one, first), (two, second)) = (ids(22), ids(23));
    let mut a = later.boot(spec(one, first)).await.unwrap();
    let mut b = later.boot(spec(two, second)).await.unwrap();
    assert_eq!((&a.origin, &b.origin), (&BootOrigin::Template, &BootOrigin::Template));
    greet(&mut a, 1).await;
    greet(&mut b, 2).await;
    later.kill(one, first).await.unwrap();
    greet(&mut b, 3).await;
    later.kill(two, second).await.unwrap();
}
