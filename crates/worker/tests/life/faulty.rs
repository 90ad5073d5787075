//! Ports that fail where a test asks for it, around the fakes.

use async_trait::async_trait;
use camino::Utf8Path;
use guest_protocol::codec::{Decoder, encode};
use guest_protocol::{Phase, ToGuest, ToHost};
use model::address::Slot;
use model::id::{BootId, MachineId};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
use tokio_util::sync::CancellationToken;
use worker::Ports;
use worker::ports::*;

/// The calls that fail, and how often. Clones share state.
#[derive(Clone, Debug, Default)]
pub(crate) struct Faults(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    adopt_link: AtomicU32,
    detach: AtomicU32,
    adopt_vm: AtomicU32,
    kill: AtomicU32,
    unknown_protocol: AtomicBool,
    hang_attach: AtomicBool,
    hang_boot: AtomicBool,
    hung: tokio::sync::Notify,
}

impl Faults {
    pub(crate) fn adopt_link(&self, times: u32) {
        self.0.adopt_link.store(times, Ordering::Relaxed);
    }

    pub(crate) fn detach(&self, times: u32) {
        self.0.detach.store(times, Ordering::Relaxed);
    }

    pub(crate) fn adopt_vm(&self, times: u32) {
        self.0.adopt_vm.store(times, Ordering::Relaxed);
    }

    pub(crate) fn kill(&self, times: u32) {
        self.0.kill.store(times, Ordering::Relaxed);
    }

    /// Guests that are adopted answer in a protocol of the future.
    pub(crate) fn unknown_protocol(&self) {
        self.0.unknown_protocol.store(true, Ordering::Relaxed);
    }

    /// The next link is never attached.
    pub(crate) fn hang_attach(&self) {
        self.0.hang_attach.store(true, Ordering::Relaxed);
    }

    /// The next VM is never started.
    pub(crate) fn hang_boot(&self) {
        self.0.hang_boot.store(true, Ordering::Relaxed);
    }

    /// Returns once a call hangs.
    pub(crate) async fn hung(&self) {
        self.0.hung.notified().await;
    }

    pub(crate) fn wrap(&self, ports: Ports) -> Ports {
        Ports {
            network: Arc::new(FaultyNetwork(ports.network, self.0.clone())),
            hypervisor: Arc::new(FaultyHypervisor(ports.hypervisor, self.0.clone())),
            ..ports
        }
    }
}

fn fail(left: &AtomicU32, what: &str) -> Result<(), PortError> {
    let less = |left: u32| left.checked_sub(1);
    match left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, less) {
        Ok(_) => Err(PortError::plain(format!("{what}: device or resource busy")).transient()),
        Err(_) => Ok(()),
    }
}

/// Never returns the first time.
async fn hang(once: &AtomicBool, hung: &tokio::sync::Notify) {
    if once.swap(false, Ordering::Relaxed) {
        hung.notify_one();
        std::future::pending::<()>().await;
    }
}

struct FaultyNetwork(Arc<dyn Network>, Arc<Inner>);

#[async_trait]
impl Network for FaultyNetwork {
    async fn prepare(&self) -> Result<(), PortError> {
        self.0.prepare().await
    }

    async fn open_name_servers(&self, servers: &[std::net::IpAddr]) -> Result<(), PortError> {
        self.0.open_name_servers(servers).await
    }

    async fn attach(&self, link: Link) -> Result<Nic, PortError> {
        hang(&self.1.hang_attach, &self.1.hung).await;
        self.0.attach(link).await
    }

    async fn adopt(&self, link: Link) -> Result<(), PortError> {
        fail(&self.1.adopt_link, "adopt link")?;
        self.0.adopt(link).await
    }

    async fn park(&self, slot: Slot) {
        self.0.park(slot).await;
    }

    async fn detach(&self, slot: Slot) -> Result<(), PortError> {
        fail(&self.1.detach, "detach")?;
        self.0.detach(slot).await
    }

    async fn list(&self) -> Result<Vec<Slot>, PortError> {
        self.0.list().await
    }

    async fn remove_all(&self) -> Result<(), PortError> {
        self.0.remove_all().await
    }
}

struct FaultyHypervisor(Arc<dyn Hypervisor>, Arc<Inner>);

#[async_trait]
impl Hypervisor for FaultyHypervisor {
    async fn boot(&self, spec: BootSpec) -> Result<Vm, PortError> {
        hang(&self.1.hang_boot, &self.1.hung).await;
        self.0.boot(spec).await
    }

    async fn list(&self) -> Result<Vec<FoundVm>, PortError> {
        self.0.list().await
    }

    async fn adopt(&self, machine: MachineId, boot: BootId) -> Result<Vm, PortError> {
        fail(&self.1.adopt_vm, "connect to the monitor")?;
        let mut vm = self.0.adopt(machine, boot).await?;
        if self.1.unknown_protocol.load(Ordering::Relaxed) {
            let (host, guest) = tokio::io::duplex(1 << 20);
            vm.agent = Box::new(host);
            rt::Tasks::new().spawn(answer_in_unknown_protocol(guest));
        }
        Ok(vm)
    }

    async fn kill(&self, machine: MachineId, boot: BootId) -> Result<(), PortError> {
        fail(&self.1.kill, "kill")?;
        self.0.kill(machine, boot).await
    }

    async fn suspend(
        &self,
        machine: MachineId,
        boot: BootId,
        to: SnapshotSpec,
        cancel: CancellationToken,
    ) -> Result<SaveTimes, PortError> {
        self.0.suspend(machine, boot, to, cancel).await
    }

    async fn resume(&self, machine: MachineId, boot: BootId) -> Result<(), PortError> {
        self.0.resume(machine, boot).await
    }

    fn snapshot(&self, dir: &Utf8Path) -> Option<Snapshot> {
        self.0.snapshot(dir)
    }

    fn reclaim(&self, machine: MachineId, boot: BootId, bytes: u64) -> u64 {
        self.0.reclaim(machine, boot, bytes)
    }

    fn cpu_times(&self, machine: MachineId, boot: BootId) -> Option<CpuTimes> {
        self.0.cpu_times(machine, boot)
    }

    fn limit_cpu(
        &self,
        machine: MachineId,
        boot: BootId,
        quota: Option<Duration>,
    ) -> Result<(), PortError> {
        self.0.limit_cpu(machine, boot, quota)
    }

    fn memory(&self, machine: MachineId, boot: BootId) -> Option<u64> {
        self.0.memory(machine, boot)
    }

    fn has_template(&self, shape: Shape) -> bool {
        self.0.has_template(shape)
    }

    fn templates(&self) -> Vec<Shape> {
        self.0.templates()
    }

    async fn make_template(&self, shape: Shape, quiesce: QuiesceGuest) -> Result<(), PortError> {
        self.0.make_template(shape, quiesce).await
    }

    fn overhead_mib(&self, vcpus: u32) -> u32 {
        self.0.overhead_mib(vcpus)
    }

    fn about(&self) -> HypervisorInfo {
        self.0.about()
    }
}

async fn answer_in_unknown_protocol(mut port: DuplexStream) {
    let (mut decoder, mut buffer) = (Decoder::default(), vec![0; 4096]);
    while let Ok(read) = port.read(&mut buffer).await {
        let mut session = None;
        decoder.feed(&buffer[..read], |message: ToGuest| {
            if let ToGuest::Hello { session: number, .. } = message {
                session = Some(number);
            }
        });
        let Some(session) = session else { continue };
        let (phase, listening) = (Phase::Preparing, Vec::new());
        let welcome = ToHost::Welcome { version: 9999, session, phase, listening };
        port.write_all(&encode(&welcome)).await.unwrap();
    }
}
