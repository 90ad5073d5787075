//! The result of the probe, and its file.

use crate::config::{Accelerator, CpuModel, QemuConfig, qemu_version};
use crate::guest_image::kernel::Kernel;
use camino::Utf8Path;
use serde::{Deserialize, Serialize};
use std::fs;
use worker::ports::PortError;

const FILE: &str = "accelerator.json";
/// Longest reason, so that it fits into one line with the text before it.
const REASON_CHARS: usize = 80;

/// The result of the probe.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Probed {
    /// The accelerator that guests are to run on.
    pub accelerator: Accelerator,
    /// The processor that they are to see.
    pub cpu_model: CpuModel,
    /// Why, in one short line for the operator.
    pub reason: String,
    /// The attempts without success, and the full reasons.
    pub failures: Vec<String>,
}

impl Probed {
    /// `reason` is cut to one line of 80 characters.
    pub(super) fn new(accelerator: Accelerator, cpu_model: CpuModel, reason: &str) -> Self {
        let line = reason.lines().next().unwrap_or_default().trim();
        let reason = match line.char_indices().nth(REASON_CHARS) {
            None => line.to_owned(),
            Some(_) => line.chars().take(REASON_CHARS - 1).chain(['\u{2026}']).collect(),
        };
        Self { accelerator, cpu_model, reason, failures: Vec::new() }
    }

    /// One line, the same at every place that shows it: accelerator and reason.
    pub fn line(&self) -> String {
        format!("{} ({})", self.accelerator.as_str(), self.reason)
    }

    /// Has VMs of `config` run as was found.
    pub fn apply_to(&self, config: &mut QemuConfig) {
        config.accelerator = self.accelerator;
        config.cpu_model = self.cpu_model;
    }
}

#[derive(Serialize, Deserialize)]
struct CachedResult {
    key: String,
    #[serde(flatten)]
    probed: Probed,
}

/// Whether the host runs the paravirtual KVM of the PVM project, in which a stock
/// kernel hangs when it leaves real mode.
pub(crate) fn kvm_pvm_is_loaded() -> bool {
    Utf8Path::new("/sys/module/kvm_pvm").exists()
}

/// Opens the device of KVM, as QEMU does.
pub(super) fn open_kvm() -> std::io::Result<fs::File> {
    fs::OpenOptions::new().read(true).write(true).open("/dev/kvm")
}

/// The result of an earlier probe with this QEMU, kernel and start of the host.
pub(crate) fn cached_result(cache: &Utf8Path, qemu: &Utf8Path, kernel: &Kernel) -> Option<Probed> {
    let cached: CachedResult = serde_json::from_slice(&fs::read(cache.join(FILE)).ok()?).ok()?;
    (cached.key == key(qemu, kernel).ok()?).then_some(cached.probed)
}

pub(super) fn cache_result(
    cache: &Utf8Path,
    qemu: &Utf8Path,
    kernel: &Kernel,
    probed: &Probed,
) -> Result<(), PortError> {
    let cached = CachedResult { key: key(qemu, kernel)?, probed: probed.clone() };
    let text = serde_json::to_vec_pretty(&cached);
    let text = text.map_err(|err| PortError::new("encode the result of the probe", err))?;
    let file = cache.join(FILE);
    rt::fs::write_atomic(file.as_std_path(), &text, 0o644)
        .map_err(|err| PortError::new(format!("write {file}"), err))
}

fn key(qemu: &Utf8Path, kernel: &Kernel) -> Result<String, PortError> {
    let host = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    let pvm = if kvm_pvm_is_loaded() { " with kvm_pvm" } else { "" };
    // Permissions and modules change while the host is up.
    let kvm = if open_kvm().is_ok() { "kvm opens" } else { "kvm does not open" };
    let (qemu, kernel, host) = (qemu_version(qemu)?, &kernel.release, host.trim());
    Ok(format!("qemu {qemu} kernel {kernel} boot {host} {kvm}{pvm}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reason_is_one_short_line() {
        let long = format!("failed to set MSR {}\nqemu: assertion", "0".repeat(300));
        let probed = Probed::new(Accelerator::Tcg, CpuModel::Plain, &long);
        assert!(probed.line().chars().count() <= 100, "{}", probed.line());
        assert!(
            probed.line().starts_with("tcg (failed to set MSR 000")
                && !probed.line().contains('\n')
        );
        let short = Probed::new(Accelerator::Kvm, CpuModel::Host, "a guest booted");
        assert_eq!(short.line(), "kvm (a guest booted)");
    }
}
