//! The contract of [`Hypervisor`].

use guest_protocol::codec::{Decoder, encode};
use guest_protocol::{HIGHEST, LOWEST, ToGuest, ToHost};
use model::id::{BootId, MachineId};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use worker::ports::{AgentIo, BootSpec, FoundVm, Hypervisor, Vm};

/// A guest that has not answered by then never will.
const PATIENCE: Duration = Duration::from_secs(60);

/// Checks a driver. `driver` makes one for the same host each time, as a new
/// daemon does; `spec` makes a boot whose guest greets when greeted.
///
/// # Panics
/// It breaks the contract.
pub async fn hypervisor_contract<H: Hypervisor>(
    driver: impl Fn() -> H,
    spec: impl Fn(MachineId, BootId) -> BootSpec,
) {
    boot_twice_is_one_vm(&driver(), &spec).await;
    a_vm_outlives_its_driver(&driver, &spec).await;
    a_killed_vm_is_gone(&driver(), &spec).await;
    one_boot_of_a_machine_is_not_another(&driver(), &spec).await;
}

pub(super) fn ids(n: u64) -> (MachineId, BootId) {
    (MachineId::from_random(0xc0_0000 + n), BootId::new(n, u128::from(n)))
}

/// Greets until the guest answers; the session's number proves that the answer
/// is to this greeting.
pub(super) async fn greet(vm: &mut Vm, session: u64) {
    let greeted = tokio::time::timeout(PATIENCE, greet_port(&mut *vm.agent, session)).await;
    greeted.expect("the guest does not answer");
}

pub(super) async fn greet_port(port: &mut dyn AgentIo, session: u64) {
    let hello = encode(&ToGuest::Hello { version: HIGHEST, session, lowest: LOWEST });
    let mut again = tokio::time::interval(Duration::from_secs(1));
    let (mut decoder, mut buffer) = (Decoder::default(), vec![0; 4096]);
    loop {
        let read = tokio::select! {
            read = port.read(&mut buffer) => read.unwrap(),
            _ = again.tick() => {
                port.write_all(&hello).await.unwrap();
                continue;
            }
        };
        assert_ne!(read, 0, "the agent port was closed");
        let mut welcomed = false;
        decoder.feed(&buffer[..read], |message| {
            welcomed |= matches!(message, ToHost::Welcome { session: s, .. } if s == session);
        });
        if welcomed {
            return;
        }
    }
}

async fn boot_twice_is_one_vm<H: Hypervisor>(
    driver: &H,
    spec: &impl Fn(MachineId, BootId) -> BootSpec,
) {
    let (machine, boot) = ids(1);
    let first = driver.boot(spec(machine, boot)).await.unwrap();
    let mut second = driver.boot(spec(machine, boot)).await.unwrap();
    assert_eq!((first.pid, first.boot), (second.pid, second.boot));
    let found = driver.list().await.unwrap();
    assert_eq!(found, [FoundVm { machine, boot, alive: true }]);
    drop(first);
    greet(&mut second, 11).await;
    driver.kill(machine, boot).await.unwrap();
}

async fn a_vm_outlives_its_driver<H: Hypervisor>(
    driver: &impl Fn() -> H,
    spec: &impl Fn(MachineId, BootId) -> BootSpec,
) {
    let (machine, boot) = ids(2);
    let earlier = driver();
    let mut vm = earlier.boot(spec(machine, boot)).await.unwrap();
    greet(&mut vm, 21).await;
    let pid = vm.pid;
    drop((vm, earlier));
    let later = driver();
    let found = later.list().await.unwrap();
    assert_eq!(found, [FoundVm { machine, boot, alive: true }]);
    let mut vm = later.adopt(machine, boot).await.unwrap();
    assert_eq!((vm.pid, vm.boot), (pid, boot));
    greet(&mut vm, 22).await;
    later.kill(machine, boot).await.unwrap();
    tokio::time::timeout(PATIENCE, vm.exited).await.expect("its end is reported");
}

async fn a_killed_vm_is_gone<H: Hypervisor>(
    driver: &H,
    spec: &impl Fn(MachineId, BootId) -> BootSpec,
) {
    let (machine, boot) = ids(3);
    driver.kill(machine, boot).await.expect("kill of an unknown boot succeeds");
    assert!(driver.adopt(machine, boot).await.is_err(), "nothing is there to adopt");
    let vm = driver.boot(spec(machine, boot)).await.unwrap();
    driver.kill(machine, boot).await.unwrap();
    assert_eq!(driver.list().await.unwrap(), []);
    let exit = tokio::time::timeout(PATIENCE, vm.exited).await.expect("its end is reported");
    assert!(!exit.powered_off);
    assert!(driver.adopt(machine, boot).await.is_err(), "nothing is there to adopt");
    driver.kill(machine, boot).await.expect("kill twice succeeds");
}

async fn one_boot_of_a_machine_is_not_another<H: Hypervisor>(
    driver: &H,
    spec: &impl Fn(MachineId, BootId) -> BootSpec,
) {
    let ((machine, first), (neighbour, other)) = (ids(4), ids(5));
    let next = BootId::new(9, 9);
    let mut a = driver.boot(spec(machine, first)).await.unwrap();
    let mut b = driver.boot(spec(neighbour, other)).await.unwrap();
    driver.kill(machine, next).await.unwrap();
    assert!(driver.adopt(machine, next).await.is_err());
    greet(&mut a, 41).await;
    driver.kill(machine, first).await.unwrap();
    let found = driver.list().await.unwrap();
    assert_eq!(found, [FoundVm { machine: neighbour, boot: other, alive: true }]);
    greet(&mut b, 42).await;
    driver.kill(neighbour, other).await.unwrap();
}
