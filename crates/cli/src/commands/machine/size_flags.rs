//! Flags for the size of a machine.

use crate::parse;
use clap::Args;
use wire::machines::{Guest, MachineConfig};

/// The size of a machine, by a preset, by numbers, or by both.
#[derive(Clone, Debug, Default, Args)]
pub(crate) struct SizeArgs {
    /// Preset size, such as shared-cpu-2x or performance-1x
    #[arg(long, value_name = "SIZE", value_parser = parse::preset, add = crate::complete::sizes())]
    vm_size: Option<Guest>,
    /// Number of vCPUs
    #[arg(long, alias = "cpus", value_name = "N")]
    vm_cpus: Option<u32>,
    /// Memory in MB or with a unit, such as 512MB or 1GB
    #[arg(long, alias = "memory", value_name = "SIZE", value_parser = parse::memory_mib)]
    vm_memory: Option<u32>,
    /// Kind of vCPUs
    #[arg(long, alias = "vm-cpukind", value_name = "KIND", value_parser = ["shared", "performance"])]
    vm_cpu_kind: Option<String>,
}

impl SizeArgs {
    /// Changes the size of a config by the flags that were given.
    pub(crate) fn apply(&self, config: &mut MachineConfig) {
        if self.is_given() {
            // A preset name would contradict the numbers that follow.
            config.size = None;
            self.change(config.guest.get_or_insert_with(Guest::default));
        }
    }

    /// The size that the flags describe by themselves.
    pub(crate) fn guest(&self) -> Option<Guest> {
        let mut guest = Guest::default();
        self.change(&mut guest);
        self.is_given().then_some(guest)
    }

    fn is_given(&self) -> bool {
        let numbers = self.vm_cpus.is_some() || self.vm_memory.is_some();
        numbers || self.vm_size.is_some() || self.vm_cpu_kind.is_some()
    }

    fn change(&self, guest: &mut Guest) {
        if let Some(preset) = &self.vm_size {
            guest.cpu_kind.clone_from(&preset.cpu_kind);
            (guest.cpus, guest.memory_mb) = (preset.cpus, preset.memory_mb);
        }
        guest.cpu_kind = self.vm_cpu_kind.clone().or(guest.cpu_kind.take());
        guest.cpus = self.vm_cpus.or(guest.cpus);
        guest.memory_mb = self.vm_memory.or(guest.memory_mb);
    }
}
