//! The properties of the host that a saved guest depends on: it can only be restored
//! where all of them are the same.

use crate::config::{Accelerator, QemuConfig, qemu_version};
use crate::launch::command_line::{self, LAYOUT};
use camino::Utf8Path;
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use worker::ports::PortError;

/// Named properties of this host's QEMU, processor, kernel and init.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Platform(BTreeMap<String, String>);

impl Platform {
    /// Looks at the host as it is now.
    ///
    /// # Errors
    /// QEMU or the guest's files cannot be read.
    pub(crate) fn of(config: &QemuConfig) -> Result<Self, PortError> {
        let of_file =
            |path: &Utf8Path| sum(path).map_err(|err| PortError::new(format!("read {path}"), err));
        let qemu = identity(&config.qemu);
        let qemu = qemu.map_err(|err| PortError::new(format!("look at {}", config.qemu), err))?;
        let properties = [
            ("layout of devices", LAYOUT.to_string()),
            ("QEMU", format!("{} ({qemu})", qemu_version(&config.qemu)?)),
            ("accelerator", config.accelerator.as_str().into()),
            ("processor", processor(config)),
            ("kernel command line", command_line::kernel_words(config.accelerator).join(" ")),
            ("guest kernel", of_file(&config.guest.vmlinuz)?),
            ("guest init", of_file(&config.guest.initramfs)?),
        ];
        Ok(Self(properties.map(|(name, value)| (name.to_owned(), value)).into()))
    }

    /// Of these properties alone.
    #[cfg(test)]
    pub(crate) fn of_properties<const N: usize>(properties: [(&str, &str); N]) -> Self {
        Self(properties.map(|(name, value)| (name.to_owned(), value.to_owned())).into())
    }

    /// The properties that are kept with a saved guest.
    pub(crate) fn properties(&self) -> &BTreeMap<String, String> {
        &self.0
    }

    /// A short name for all of it.
    pub(crate) fn name(&self) -> String {
        let mut sum = Sha256::new();
        for (name, value) in &self.0 {
            sum.update(format!("{name}={value}\n"));
        }
        hex::encode(&sum.finalize()[..8])
    }

    /// The first property in which `saved` differs, as text.
    pub(crate) fn differs(&self, saved: &BTreeMap<String, String>) -> Option<String> {
        let names = self.0.keys().chain(saved.keys());
        let other = names.into_iter().find(|name| self.0.get(*name) != saved.get(*name))?;
        let word = |of: &BTreeMap<String, String>| {
            of.get(other).map_or("unknown".to_owned(), String::clone)
        };
        Some(format!("{other} was {} and is {}", word(saved), word(&self.0)))
    }
}

/// Changes when a file is replaced or written to.
pub(crate) fn identity(path: &Utf8Path) -> io::Result<String> {
    let found = fs::metadata(path)?;
    Ok(format!("{} bytes of {}.{:09}", found.len(), found.mtime(), found.mtime_nsec()))
}

/// The processor that guests see; with KVM that is the host's own.
fn processor(config: &QemuConfig) -> String {
    let cpu = command_line::cpu(config.accelerator, config.cpu_model);
    let model = match config.accelerator {
        Accelerator::Tcg => return cpu.into(),
        Accelerator::Kvm => fs::read_to_string("/proc/cpuinfo").unwrap_or_default(),
    };
    // Model and microcode: either changes what a guest may use.
    let named = |line: &&str| {
        ["vendor_id", "model name", "flags", "microcode"].iter().any(|name| line.starts_with(name))
    };
    let first = model.lines().take_while(|line| !line.is_empty()).filter(named);
    let text = first.collect::<Vec<_>>().join("\n");
    format!("{cpu} {}", hex::encode(&Sha256::digest(text)[..8]))
}

fn sum(path: &Utf8Path) -> io::Result<String> {
    let mut sum = Sha256::new();
    io::copy(&mut fs::File::open(path)?, &mut sum)?;
    Ok(hex::encode(&sum.finalize()[..8]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_cpu_model_is_another_platform() {
        let config = |cpu_model| QemuConfig {
            run_dir: "/".into(),
            template_dir: "/".into(),
            instance: "t".into(),
            qemu: "/qemu".into(),
            guest: crate::config::GuestImage { vmlinuz: "/".into(), initramfs: "/".into() },
            accelerator: Accelerator::Kvm,
            cpu_model,
            vms_memory_mib: None,
            jail: crate::config::JailConfig::new("/launcher"),
            start_deadline: QemuConfig::START_DEADLINE,
        };
        let [host, without, plain] =
            crate::config::CpuModel::LADDER.map(|model| processor(&config(model)));
        assert!(host.starts_with("host ") && without.starts_with("host,-arch-capabilities "));
        assert!(plain.starts_with("qemu64,"), "{plain}");
    }

    #[test]
    fn a_difference_is_named() {
        let of = |qemu: &str| BTreeMap::from([("QEMU".to_owned(), qemu.to_owned())]);
        let now = Platform(of("7.2.22"));
        assert_eq!(now.differs(&of("7.2.22")), None);
        assert_eq!(now.differs(&of("7.2.9")).unwrap(), "QEMU was 7.2.9 and is 7.2.22");
        assert_eq!(now.differs(&BTreeMap::new()).unwrap(), "QEMU was unknown and is 7.2.22");
        assert_ne!(now.name(), Platform(of("7.2.9")).name());
    }
}
