//! VMs that are tasks, with guests that use the real protocol.

mod listener;
mod snapshots;

pub use listener::GuestListener;

use crate::CrashPoints;
use crate::guest::{Control, End, Guest, GuestAction, GuestRuntime, SharedPorts, State};
use async_trait::async_trait;
use camino::Utf8Path;
use model::id::{BootId, MachineId};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::io::DuplexStream;
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;
use worker::ports::{
    BootOrigin, BootSpec, CpuTimes, FoundVm, Hypervisor, HypervisorInfo, PortError, QuiesceGuest,
    SaveTimes, Shape, Snapshot, SnapshotSpec, Vm, VmExit,
};

/// Bytes under way in one direction of an agent port.
const PORT_BUFFER: usize = 64 << 10;
const SIGKILL: i32 = 9;
/// The bytes of its host's memory that every VM holds.
const MEMORY: u64 = 64 << 20;

/// The failure that a boot or a suspend is made to have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Another try may help.
    Transient,
    /// Another try would fail as well.
    Final,
}

impl Fault {
    /// The error of the call that has this fault.
    fn error(self, problem: &str) -> PortError {
        match self {
            Self::Transient => PortError::plain(problem).transient(),
            Self::Final => PortError::plain(problem),
        }
    }
}

/// A host's VMs. Clones are one host.
#[derive(Clone, Debug)]
pub struct FakeHypervisor(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    runtime: GuestRuntime,
    points: CrashPoints,
    host: Mutex<Host>,
    /// Saves wait while this is false.
    open: watch::Sender<bool>,
    torn: Arc<AtomicBool>,
    templates: watch::Sender<BTreeSet<Shape>>,
}

#[derive(Debug, Default)]
struct Host {
    vms: BTreeMap<(MachineId, BootId), FakeVm>,
    faults: VecDeque<Fault>,
    suspend_faults: VecDeque<Fault>,
    template_faults: VecDeque<Fault>,
    /// The content of the RAM files of snapshots. They are on the disk, so they
    /// outlive VMs and power cuts; a manifest leads to them.
    saved: BTreeMap<BootId, State>,
    /// Machines whose next VM never answers.
    mute: BTreeSet<MachineId>,
    calls: Vec<String>,
    last_pid: u32,
    /// MiB that each VM uses beside its guest's memory.
    overhead_mib: u32,
    /// CPU times of the machines' VMs.
    cpu_times: BTreeMap<MachineId, CpuTimes>,
    /// How often they were read.
    cpu_reads: u64,
}

#[derive(Debug)]
struct FakeVm {
    pid: u32,
    ports: mpsc::UnboundedSender<DuplexStream>,
    actions: mpsc::UnboundedSender<GuestAction>,
    controls: mpsc::UnboundedSender<Control>,
    /// Its network card.
    mac: Option<[u8; 6]>,
    /// Ports that its guest listens on.
    listening: SharedPorts,
    /// Its guest has run at all.
    ran: bool,
    /// CPU time in each period.
    cpu_quota: Option<Duration>,
    kill: CancellationToken,
    exit: watch::Receiver<Option<VmExit>>,
}

impl FakeHypervisor {
    /// A host without VMs, whose calls pass `points`.
    pub fn new(points: CrashPoints) -> Self {
        Self(Arc::new(Inner {
            runtime: GuestRuntime::new(),
            points,
            host: Mutex::default(),
            open: watch::Sender::new(true),
            torn: Arc::default(),
            templates: watch::Sender::default(),
        }))
    }

    /// Each VM uses so many MiB beside its guest's memory.
    pub fn set_overhead(&self, mib: u32) {
        self.lock().overhead_mib = mib;
    }

    /// The VMs of a machine have used so much CPU time since their boot.
    pub fn set_cpu_times(&self, machine: MachineId, times: CpuTimes) {
        self.lock().cpu_times.insert(machine, times);
    }

    /// How often the CPU times of VMs were read.
    pub fn cpu_reads(&self) -> u64 {
        self.lock().cpu_reads
    }

    /// The quota of CPU time of a machine's VM, if it has one.
    pub fn cpu_quota(&self, machine: MachineId) -> Option<Duration> {
        let host = self.lock();
        let vm = host.vms.iter().find(|((of, _), vm)| *of == machine && vm.alive());
        vm.and_then(|(_, vm)| vm.cpu_quota)
    }

    /// The next suspends fail like this, in order.
    pub fn fail_suspends(&self, faults: impl IntoIterator<Item = Fault>) {
        self.lock().suspend_faults.extend(faults);
    }

    /// The next templates cannot be made, in order.
    pub fn fail_templates(&self, faults: impl IntoIterator<Item = Fault>) {
        self.lock().template_faults.extend(faults);
    }

    /// Suspends hang from now on, their guests running.
    pub fn hold_suspends(&self) {
        self.0.open.send_replace(false);
    }

    /// Suspends may complete.
    pub fn release_suspends(&self) {
        self.0.open.send_replace(true);
    }

    /// The next VM of a machine never answers.
    pub fn mute(&self, machine: MachineId) {
        self.lock().mute.insert(machine);
    }

    /// A message was sent to a paused guest.
    pub fn torn(&self) -> bool {
        self.0.torn.load(Ordering::Relaxed)
    }

    /// A template of this shape is there already.
    pub fn add_template(&self, shape: Shape) {
        self.0.templates.send_modify(|templates| {
            templates.insert(shape);
        });
    }

    /// Returns once there are templates of these shapes and of no others.
    pub async fn wait_for_templates(&self, shapes: &[Shape]) {
        let mut templates = self.0.templates.subscribe();
        let same = |found: &BTreeSet<Shape>| found.iter().eq(shapes);
        let _ = templates.wait_for(same).await;
    }

    /// The next boots fail like this, in order.
    pub fn fail_boots(&self, faults: impl IntoIterator<Item = Fault>) {
        self.lock().faults.extend(faults);
    }

    /// Makes the guest of a machine do something. False if it has none.
    pub fn guest(&self, machine: MachineId, action: GuestAction) -> bool {
        let host = self.lock();
        let vm = host.vms.iter().find(|((of, _), vm)| *of == machine && vm.alive());
        vm.is_some_and(|(_, vm)| vm.actions.send(action).is_ok())
    }

    /// VMs that run.
    pub fn alive(&self) -> Vec<(MachineId, BootId)> {
        let host = self.lock();
        host.vms.iter().filter(|(_, vm)| vm.alive()).map(|(ids, _)| *ids).collect()
    }

    /// VMs that have ended and of which something is left.
    pub fn remains(&self) -> Vec<(MachineId, BootId)> {
        let host = self.lock();
        host.vms.iter().filter(|(_, vm)| !vm.alive()).map(|(ids, _)| *ids).collect()
    }

    /// Every call so far, such as `boot 00000000000001`.
    pub fn calls(&self) -> Vec<String> {
        self.lock().calls.clone()
    }

    /// The host lost power: no VM runs, but files of each are left.
    pub async fn power_cut(&self) {
        let exits: Vec<_> = {
            let host = self.lock();
            host.vms.values().for_each(|vm| vm.kill.cancel());
            host.vms.values().map(|vm| vm.exit.clone()).collect()
        };
        for mut exit in exits {
            // Its sender ends with the VM.
            let _ = exit.wait_for(Option::is_some).await;
        }
    }

    /// Runs `watch` in the thread of the guests, whose time is never paused.
    pub fn outside(&self, watch: impl Future<Output = ()> + Send + 'static) {
        self.0.runtime.spawn(watch);
    }

    fn lock(&self) -> MutexGuard<'_, Host> {
        self.0.host.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn note(&self, call: &str, machine: MachineId) {
        self.lock().calls.push(format!("{call} {machine}"));
    }

    /// A new VM; with `memory` from a snapshot, standing still.
    fn start(&self, silent: bool, memory: Option<State>, mac: Option<[u8; 6]>) -> FakeVm {
        let (ports, connections) = mpsc::unbounded_channel();
        let (actions, wanted_actions) = mpsc::unbounded_channel();
        let (controls, wanted_controls) = mpsc::unbounded_channel();
        let (ended, exit) = watch::channel(None);
        let kill = CancellationToken::new();
        let ran = memory.is_none();
        let state = memory.unwrap_or_default();
        let listening = SharedPorts::default();
        state.show_ports(&listening);
        let guest = Guest {
            silent,
            connections,
            actions: wanted_actions,
            controls: wanted_controls,
            points: self.0.points.clone(),
            paused: !ran,
            state,
            ports: listening.clone(),
            torn: self.0.torn.clone(),
        };
        let killed = kill.clone();
        self.0.runtime.spawn(async move {
            let exit = tokio::select! {
                biased;
                () = killed.cancelled() => VmExit { signal: SIGKILL, ..VmExit::default() },
                end = guest.run() => VmExit {
                    powered_off: end == End::PoweredOff,
                    signal: 0,
                    console_tail: if end == End::Crashed { "it crashed".into() } else { String::new() },
                },
            };
            ended.send_replace(Some(exit));
        });
        let mut host = self.lock();
        host.last_pid += 1;
        let (pid, cpu_quota) = (host.last_pid, None);
        FakeVm { pid, ports, actions, controls, mac, listening, ran, cpu_quota, kill, exit }
    }

    fn control(&self, machine: MachineId, boot: BootId, control: Control) -> Result<(), PortError> {
        let host = self.lock();
        let vm = host.vms.get(&(machine, boot)).filter(|vm| vm.alive());
        let sent = vm.is_some_and(|vm| vm.controls.send(control).is_ok());
        sent.then_some(()).ok_or_else(|| no_vm(machine))
    }

    fn connect(
        &self,
        machine: MachineId,
        boot: BootId,
        origin: BootOrigin,
    ) -> Result<Vm, PortError> {
        let host = self.lock();
        let gone = || no_vm(machine);
        let vm = host.vms.get(&(machine, boot)).filter(|vm| vm.alive()).ok_or_else(gone)?;
        let (ours, theirs) = tokio::io::duplex(PORT_BUFFER);
        vm.ports.send(theirs).map_err(|_| gone())?;
        let mut exit = vm.exit.clone();
        let exited = async move {
            let exit = exit.wait_for(Option::is_some).await.map(|exit| exit.clone());
            exit.ok().flatten().unwrap_or_default()
        };
        Ok(Vm { boot, pid: vm.pid, origin, agent: Box::new(ours), exited: Box::pin(exited) })
    }
}

impl FakeVm {
    fn alive(&self) -> bool {
        self.exit.borrow().is_none()
    }
}

#[async_trait]
impl Hypervisor for FakeHypervisor {
    async fn boot(&self, spec: BootSpec) -> Result<Vm, PortError> {
        self.note("boot", spec.machine);
        self.0.points.pass("vm: before boot").await;
        let fault = self.lock().faults.pop_front();
        match fault {
            Some(fault @ Fault::Transient) => return Err(fault.error("no KVM just now")),
            Some(fault @ Fault::Final) => return Err(fault.error("no such kernel")),
            None => {}
        }
        for file in [&spec.root, &spec.scratch].into_iter().chain(&spec.images).chain(&spec.volumes)
        {
            let opened = std::fs::File::open(file);
            opened.map_err(|err| PortError::new(format!("open disk {file}"), err))?;
        }
        let (memory, origin) = self.origin(&spec)?;
        let key = (spec.machine, spec.boot);
        if !self.lock().vms.contains_key(&key) {
            let silent = spec.kernel_args.iter().any(|word| word == "silent");
            let silent = silent || self.lock().mute.remove(&spec.machine);
            let vm = self.start(silent, memory, spec.nic.as_ref().map(|nic| nic.mac));
            self.lock().vms.insert(key, vm);
        }
        self.0.points.pass("vm: after boot").await;
        self.connect(spec.machine, spec.boot, origin)
    }

    async fn list(&self) -> Result<Vec<FoundVm>, PortError> {
        self.0.points.pass("vm: before list").await;
        let host = self.lock();
        let found = |(&(machine, boot), vm): (&(MachineId, BootId), &FakeVm)| FoundVm {
            machine,
            boot,
            alive: vm.alive(),
        };
        Ok(host.vms.iter().map(found).collect())
    }

    async fn adopt(&self, machine: MachineId, boot: BootId) -> Result<Vm, PortError> {
        self.note("adopt", machine);
        self.0.points.pass("vm: before adopt").await;
        if self.lock().vms.get(&(machine, boot)).is_some_and(|vm| !vm.ran) {
            return Err(PortError::plain("its guest never ran"));
        }
        let vm = self.connect(machine, boot, BootOrigin::Found)?;
        self.0.points.pass("vm: after adopt").await;
        Ok(vm)
    }

    async fn kill(&self, machine: MachineId, boot: BootId) -> Result<(), PortError> {
        self.note("kill", machine);
        self.0.points.pass("vm: before kill").await;
        let exit = {
            let host = self.lock();
            let vm = host.vms.get(&(machine, boot));
            vm.inspect(|vm| vm.kill.cancel());
            vm.map(|vm| vm.exit.clone())
        };
        let Some(mut exit) = exit else { return Ok(()) };
        // Its sender ends with the VM.
        let _ = exit.wait_for(Option::is_some).await;
        self.0.points.pass("vm: killed, remains left").await;
        self.lock().vms.remove(&(machine, boot));
        self.0.points.pass("vm: after kill").await;
        Ok(())
    }

    async fn suspend(
        &self,
        machine: MachineId,
        boot: BootId,
        to: SnapshotSpec,
        cancel: CancellationToken,
    ) -> Result<SaveTimes, PortError> {
        self.note("suspend", machine);
        self.save(machine, boot, to, cancel).await
    }

    async fn resume(&self, machine: MachineId, boot: BootId) -> Result<(), PortError> {
        self.0.points.pass("vm: before resume").await;
        self.control(machine, boot, Control::Resume)?;
        if let Some(vm) = self.lock().vms.get_mut(&(machine, boot)) {
            vm.ran = true;
        }
        self.0.points.pass("vm: after resume").await;
        Ok(())
    }

    fn snapshot(&self, dir: &Utf8Path) -> Option<Snapshot> {
        snapshots::read(dir)
    }

    fn memory(&self, machine: MachineId, boot: BootId) -> Option<u64> {
        let host = self.lock();
        host.vms.get(&(machine, boot)).filter(|vm| vm.alive()).map(|_| MEMORY)
    }

    /// A VM gives up at most half of what it holds.
    fn reclaim(&self, machine: MachineId, boot: BootId, bytes: u64) -> u64 {
        self.memory(machine, boot).map_or(0, |held| bytes.min(held / 2))
    }

    fn cpu_times(&self, machine: MachineId, boot: BootId) -> Option<CpuTimes> {
        let mut host = self.lock();
        let alive = host.vms.get(&(machine, boot)).is_some_and(FakeVm::alive);
        host.cpu_reads += 1;
        alive.then(|| host.cpu_times.get(&machine).copied().unwrap_or_default())
    }

    fn limit_cpu(
        &self,
        machine: MachineId,
        boot: BootId,
        quota: Option<Duration>,
    ) -> Result<(), PortError> {
        let mut host = self.lock();
        let vm = host.vms.get_mut(&(machine, boot));
        let vm = vm.ok_or_else(|| PortError::plain(format!("there is no VM of {machine}")))?;
        vm.cpu_quota = quota;
        Ok(())
    }

    fn has_template(&self, shape: Shape) -> bool {
        self.0.templates.borrow().contains(&shape)
    }

    fn templates(&self) -> Vec<Shape> {
        self.0.templates.borrow().iter().copied().collect()
    }

    async fn make_template(&self, shape: Shape, quiesce: QuiesceGuest) -> Result<(), PortError> {
        let call = format!("template {}x{}", shape.vcpus, shape.memory_mib);
        self.lock().calls.push(call);
        self.build_template(shape, quiesce).await
    }

    fn overhead_mib(&self, _vcpus: u32) -> u32 {
        self.lock().overhead_mib
    }

    fn about(&self) -> HypervisorInfo {
        HypervisorInfo { accelerator: "fake".into(), version: "fake 1".into() }
    }
}

fn no_vm(machine: MachineId) -> PortError {
    PortError::plain(format!("no VM of machine {machine} can be connected to"))
}
