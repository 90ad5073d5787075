//! The adapters of a host, made from the settings.

use crate::settings::{Settings, WantedAccelerator};
use async_trait::async_trait;
use camino::Utf8Path;
use disk_linux::{LinuxDisks, ScratchDisks, Space, SpaceConfig};
use host_api::GuestStream;
use network_linux::{LinuxNetwork, NamespaceSockets, NetworkConfig};
use oci::{CpuLevel, Credentials, OciConfig, OciImages};
use rt::{Clock, Rng};
use std::io;
use std::net::SocketAddrV4;
use std::sync::Arc;
use vmm_qemu::kernel;
use vmm_qemu::probe::{forced, probe};
use vmm_qemu::{Accelerator, GuestImage, JailConfig, QemuConfig, QemuHypervisor, initramfs};
use worker::ports::{GuestConnector, Hypervisor, PortError};
use worker::{HostConfig, NameServers, Ports};

/// pid 1 of every guest, carried along.
const INIT: &[u8] = include_bytes!(env!("UPDRAFT_INIT"));
/// Not its path: that may have become another version's while this one runs.
const OWN_PROGRAM: &str = "/proc/self/exe";

/// What was found out about the host.
pub(super) struct About {
    pub(super) accelerator: String,
    /// Why that accelerator.
    pub(super) reason: String,
    pub(super) hypervisor: String,
    /// Release of the guests' kernel.
    pub(super) kernel: String,
    /// What isolates VMs less than it could on this host.
    pub(super) weaknesses: Vec<String>,
}

/// Makes the adapters: finds QEMU and a kernel, prepares the guest image, probes
/// the accelerator, opens network, images and disks.
pub(super) async fn make(
    settings: &Settings,
    clock: &Clock,
    secrets_key: Arc<seal::SealingKey>,
) -> Result<(Ports, About), PortError> {
    // First: it refuses a platform whose names another one of this host has.
    let network = LinuxNetwork::open(network_config(settings))?;
    let cache = settings.data_dir.join("guest");
    make_dir(&cache)?;
    let kernel = kernel::find()?;
    let guest = initramfs::prepare(&cache, &kernel, INIT)?;
    let mut config = qemu_config(settings, guest)?;
    let probed = match settings.vm.accelerator {
        WantedAccelerator::Auto => {
            probe(&config, &kernel, &cache, settings.vm.probe_deadline).await?
        }
        WantedAccelerator::Only(accelerator) => {
            forced(accelerator, &config, &kernel, &cache, settings.vm.probe_deadline).await?
        }
    };
    probed.apply_to(&mut config);
    let hypervisor = QemuHypervisor::open(config)?;
    let mut weaknesses = hypervisor.isolation_report();
    weaknesses.extend(hypervisor.protect_daemon());
    let images = OciImages::open(image_config(settings, probed.accelerator)?, clock.clone())?;
    let scratch = ScratchDisks::open(&settings.data_dir.join("scratch"))?;
    let space = Space::open(SpaceConfig {
        overcommit: settings.disk.overcommit,
        ..SpaceConfig::new(settings.data_dir.clone())
    })?;
    let connector = NamespaceConnector(network.sockets());
    let found = hypervisor.about();
    let about = About {
        accelerator: found.accelerator,
        reason: probed.reason,
        hypervisor: found.version,
        kernel: kernel.release,
        weaknesses,
    };
    let ports = Ports {
        hypervisor: Arc::new(hypervisor),
        network: Arc::new(network),
        images: Arc::new(images),
        disks: Arc::new(LinuxDisks::new(scratch, space)),
        guest_api: None,
        connector: Arc::new(connector),
        owners: None,
        secrets_key,
        log_sinks: log_sinks::open(&settings.logs.sinks, &settings.host.name)?,
        clock: clock.clone(),
        rng: Rng::from_os(),
    };
    Ok((ports, about))
}

/// Connects to guests from inside the platform's network namespace.
struct NamespaceConnector(NamespaceSockets);

#[async_trait]
impl GuestConnector for NamespaceConnector {
    async fn connect(&self, to: SocketAddrV4) -> io::Result<Box<dyn GuestStream>> {
        let stream = self.0.connect(to).await?;
        stream.set_nodelay(true)?;
        Ok(Box::new(stream))
    }
}

/// Settings of the QEMU driver; the accelerator is still to be found out.
pub(crate) fn qemu_config(settings: &Settings, guest: GuestImage) -> Result<QemuConfig, PortError> {
    Ok(QemuConfig {
        run_dir: settings.data_dir.join("vms"),
        template_dir: settings.data_dir.join("templates"),
        instance: network_linux::Tag::for_data_dir(&settings.data_dir).to_string(),
        qemu: vmm_qemu::config::find_qemu(settings.vm.qemu.as_deref())?,
        guest,
        accelerator: Accelerator::Tcg,
        cpu_model: vmm_qemu::CpuModel::default(),
        vms_memory_mib: Some(settings.memory.machines_mib),
        jail: JailConfig::new(OWN_PROGRAM),
        start_deadline: QemuConfig::START_DEADLINE,
    })
}

pub(crate) fn network_config(settings: &Settings) -> NetworkConfig {
    NetworkConfig {
        masquerade: settings.network.masquerade,
        block_egress: settings.network.block_egress.clone(),
        allow_egress: settings.network.allow_egress.clone(),
        nameservers: nameservers(settings).iter().filter_map(|ip| ip.parse().ok()).collect(),
        mtu: u32::from(settings.network.mtu),
        ..NetworkConfig::new(&settings.data_dir, settings.network.ipv4_pool)
    }
}

fn image_config(settings: &Settings, accelerator: Accelerator) -> Result<OciConfig, PortError> {
    let credentials = match &settings.images.registry_auth_file {
        Some(path) => Credentials::from_auth_file(path)?,
        None => Credentials::default(),
    };
    Ok(OciConfig {
        credentials,
        compression: settings.images.compression,
        // The levels of the CPU models that `vmm-qemu` gives to guests.
        guest_cpu: match accelerator {
            Accelerator::Kvm => CpuLevel::of_this_host(),
            Accelerator::Tcg => CpuLevel::V2,
        },
        pull_deadline: settings.images.pull_deadline,
        allow_loopback_registry: settings.images.allow_loopback_registry,
        keep_pulled: settings.images.keep_pulled,
        ..OciConfig::new(settings.data_dir.join("images"))
    })
}

pub(super) fn host_config(settings: &Settings) -> HostConfig {
    HostConfig {
        host: settings.host.number,
        name: settings.host.name.clone(),
        region: settings.host.region.to_string(),
        region_codes: settings.host.region_codes.iter().map(ToString::to_string).collect(),
        region_aliases: settings.host.region_aliases.iter().map(ToString::to_string).collect(),
        data_dir: settings.data_dir.clone(),
        pool: settings.network.ipv4_pool,
        mtu: settings.network.mtu,
        memory_mib: settings.memory.machines_mib,
        cpus: std::thread::available_parallelism().map_or(1, |n| n.get() as u32),
        nameservers: match settings.network.nameservers.as_slice() {
            [] => NameServers::found_by(host_nameservers),
            fixed => NameServers::fixed(fixed.to_vec()),
        },
        boot_deadline: settings.vm.boot_deadline,
        image_deadline: settings.images.pull_deadline,
        overcommit: settings.memory.overcommit,
        templates: settings.vm.templates.clone(),
        cpu_baseline: settings.machines.cpu_baseline,
        keep_destroyed: settings.machines.keep_destroyed,
        logs: settings.logs.limits,
        discard_unrecorded: settings.host.discard_unrecorded,
    }
}

/// The name servers that guests may reach from the start of the daemon on.
fn nameservers(settings: &Settings) -> Vec<String> {
    match settings.network.nameservers.is_empty() {
        true => host_nameservers(),
        false => settings.network.nameservers.clone(),
    }
}

/// The host's own name servers. A resolver on loopback (systemd's) cannot be
/// reached from a guest; the file behind it names the real ones.
fn host_nameservers() -> Vec<String> {
    let of = |path: &str| {
        let text = std::fs::read_to_string(path).unwrap_or_default();
        let servers = text.lines().filter_map(|line| line.strip_prefix("nameserver"));
        let reachable = servers.map(str::trim).filter(|server| {
            server.parse::<std::net::IpAddr>().is_ok_and(|address| !address.is_loopback())
        });
        reachable.map(str::to_owned).collect::<Vec<_>>()
    };
    let own = of("/etc/resolv.conf");
    if own.is_empty() { of("/run/systemd/resolve/resolv.conf") } else { own }
}

pub(super) fn make_dir(path: &Utf8Path) -> Result<(), PortError> {
    use std::os::unix::fs::DirBuilderExt;
    let made = std::fs::DirBuilder::new().recursive(true).mode(0o700).create(path);
    made.map_err(|err| PortError::new(format!("make directory {path}"), err))
}
