//! Virtio devices: found at boot, bound to their drivers only once configured.
//!
//! A template is taken with all drivers loaded and none but the port's bound,
//! so that block and network drivers probe the devices of the machine that the
//! template becomes, and a start does not have to load them.

use std::os::unix::fs::FileExt;
use std::path::Path;

const BUS: &str = "/sys/bus/virtio";

/// Kinds of device, by virtio's device id.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Net,
    Block,
    Console,
    Other,
}

impl Kind {
    /// From `/sys/bus/virtio/devices/*/device`.
    fn parse(text: &str) -> Self {
        match text.trim() {
            "0x0001" => Self::Net,
            "0x0002" => Self::Block,
            "0x0003" => Self::Console,
            _ => Self::Other,
        }
    }
}

#[derive(Debug, PartialEq, Eq)]
struct Device {
    name: String,
    kind: Kind,
}

/// The devices, in the order in which the bus has them: the first block device
/// to be bound is `vda`.
pub(crate) struct Virtio {
    devices: Vec<Device>,
    /// `drivers_probe`: a device whose name is written to it is probed by the drivers.
    /// One that is bound already stays as it is.
    probe: Option<std::fs::File>,
}

impl Virtio {
    /// Makes drivers that are loaded from now on bind nothing by themselves.
    pub(crate) fn hold() -> Self {
        autoprobe(false);
        let probe = std::fs::OpenOptions::new().write(true).open(format!("{BUS}/drivers_probe"));
        Self { devices: devices(Path::new(&format!("{BUS}/devices"))), probe: probe.ok() }
    }

    /// Reads the list of devices again: some may have appeared after boot.
    pub(crate) fn rescan(&mut self) {
        self.devices = devices(Path::new(&format!("{BUS}/devices")));
    }

    /// Binds all devices of a kind. A device without a driver fails where it is used.
    pub(crate) fn bind(&self, kind: Kind) {
        let Some(probe) = &self.probe else { return };
        for device in self.devices.iter().filter(|device| device.kind == kind) {
            let _ = probe.write_at(device.name.as_bytes(), 0);
        }
    }

    /// Unbinds what drivers built into the kernel have bound by themselves, before a
    /// template is made.
    pub(crate) fn release(&self) {
        for Device { name, kind } in &self.devices {
            if *kind != Kind::Console {
                let _ = std::fs::write(format!("{BUS}/devices/{name}/driver/unbind"), name);
            }
        }
    }

    /// Binds the other devices, and lets drivers bind by themselves again.
    pub(crate) fn bind_rest(&self) {
        self.bind(Kind::Other);
        autoprobe(true);
    }
}

fn autoprobe(on: bool) {
    let _ = std::fs::write(format!("{BUS}/drivers_autoprobe"), if on { "1" } else { "0" });
}

fn devices(dir: &Path) -> Vec<Device> {
    let entries = std::fs::read_dir(dir).into_iter().flatten().flatten();
    let mut found: Vec<(u32, Device)> = entries
        .filter_map(|entry| {
            let name = entry.file_name().into_string().ok()?;
            let number = name.strip_prefix("virtio")?.parse().ok()?;
            let kind = Kind::parse(&std::fs::read_to_string(entry.path().join("device")).ok()?);
            Some((number, Device { name, kind }))
        })
        .collect();
    found.sort_by_key(|(number, _)| *number);
    found.into_iter().map(|(_, device)| device).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn devices_come_in_the_order_of_their_numbers() {
        let dir = tempfile::tempdir().unwrap();
        for (name, kind) in [("virtio10", 2), ("virtio2", 2), ("virtio0", 3), ("virtio1", 1)] {
            std::fs::create_dir(dir.path().join(name)).unwrap();
            std::fs::write(dir.path().join(name).join("device"), format!("0x{kind:04x}\n"))
                .unwrap();
        }
        std::fs::create_dir(dir.path().join("other")).unwrap();
        let found = devices(dir.path());
        let found: Vec<_> = found.iter().map(|d| (d.name.as_str(), d.kind)).collect();
        let want = [
            ("virtio0", Kind::Console),
            ("virtio1", Kind::Net),
            ("virtio2", Kind::Block),
            ("virtio10", Kind::Block),
        ];
        assert_eq!(found, want);
    }
}
