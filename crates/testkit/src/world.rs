//! One host without a daemon: everything that outlives one.

use crate::{CrashPoints, FakeDisks, FakeHypervisor, FakeImages, FakeNetwork};
use camino::{Utf8Path, Utf8PathBuf};
use model::id::MachineId;
use rt::{Clock, Rng};
use std::sync::Arc;
use worker::Ports;
use worker::ports::{GuestApi, ImageConfig, TcpConnector};

/// The adapters of one host and its directory.
#[derive(Clone, Debug)]
pub struct World {
    /// VMs.
    pub hypervisor: FakeHypervisor,
    /// Links.
    pub network: FakeNetwork,
    /// Images; `app` is there.
    pub images: FakeImages,
    /// Disks.
    pub disks: FakeDisks,
    /// Where the daemon can be killed.
    pub points: CrashPoints,
    guest_api: GuestApiSlot,
    data_dir: Utf8PathBuf,
}

/// The handler of the guests' API, if there is one.
#[derive(Clone, Default)]
struct GuestApiSlot(Option<Arc<dyn GuestApi>>);

impl std::fmt::Debug for GuestApiSlot {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "GuestApi({})", self.0.is_some())
    }
}

/// Everything that is there, by machine id or slot, sorted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ledger {
    /// Machines whose VM runs; one with two VMs is there twice.
    pub running: Vec<String>,
    /// Machines of whose VM something is left.
    pub remains: Vec<String>,
    /// Slots whose link a VM has.
    pub slots: Vec<u16>,
    /// Slots whose link rests until the machine's next start.
    pub resting: Vec<u16>,
    /// Files of snapshots below `machines`, by machine.
    pub snapshots: Vec<String>,
    /// Directories below `machines`.
    pub dirs: Vec<String>,
}

impl World {
    /// A fresh host; `dir` is used for the daemon's data and for images.
    ///
    /// # Panics
    /// The directory cannot be written.
    pub fn new(dir: &Utf8Path) -> Self {
        let points = CrashPoints::default();
        let images = FakeImages::new(&dir.join("images"), points.clone());
        images.publish("app", ImageConfig { cmd: vec!["serve".into()], ..ImageConfig::default() });
        Self {
            hypervisor: FakeHypervisor::new(points.clone()),
            network: FakeNetwork::new(points.clone()),
            disks: FakeDisks::new(points.clone()),
            images,
            points,
            guest_api: GuestApiSlot::default(),
            data_dir: dir.join("data"),
        }
    }

    /// Where a daemon on this host keeps its state.
    pub fn data_dir(&self) -> &Utf8Path {
        &self.data_dir
    }

    /// Daemons that begin from now on have this answer the guests' API.
    pub fn set_guest_api(&mut self, api: Arc<dyn GuestApi>) {
        self.guest_api = GuestApiSlot(Some(api));
    }

    /// The ports of a daemon on this host. All daemons have one key.
    pub fn ports(&self, clock: Clock, rng: Rng) -> Ports {
        Ports {
            hypervisor: Arc::new(self.hypervisor.clone()),
            network: Arc::new(self.network.clone()),
            images: Arc::new(self.images.clone()),
            disks: Arc::new(self.disks.clone()),
            guest_api: self.guest_api.0.clone(),
            connector: Arc::new(TcpConnector),
            owners: None,
            secrets_key: crate::secrets_key(),
            log_sinks: Vec::new(),
            clock,
            rng,
        }
    }

    /// The host lost power; call it while no daemon runs.
    pub async fn power_cut(&self) {
        self.hypervisor.power_cut().await;
        self.network.power_cut();
    }

    /// Everything that is there.
    pub fn ledger(&self) -> Ledger {
        let ids = |vms: Vec<(MachineId, _)>| vms.iter().map(|(id, _)| id.to_string()).collect();
        let entries = self.data_dir.join("machines").read_dir_utf8();
        let entries = entries.into_iter().flatten().flatten();
        let mut dirs: Vec<String> = entries.map(|entry| entry.file_name().to_owned()).collect();
        dirs.sort();
        let machine = |dir: &String| self.data_dir.join("machines").join(dir);
        let has = |dir: &&String| {
            ["suspend", "suspend.gone"].iter().any(|name| machine(dir).join(name).exists())
        };
        let snapshots = dirs.iter().filter(has).cloned().collect();
        let parked = self.network.parked();
        let slots = self.network.slots().into_iter().filter(|slot| !parked.contains(slot));
        Ledger {
            running: ids(self.hypervisor.alive()),
            remains: ids(self.hypervisor.remains()),
            slots: slots.map(|slot| slot.0).collect(),
            resting: parked.iter().map(|slot| slot.0).collect(),
            snapshots,
            dirs,
        }
    }
}
