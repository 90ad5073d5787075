//! The requirements of the driver on the host, checked one by one, each with its remedy.

use crate::cgroup::groups::Cgroups;
use crate::config::{Accelerator, find_qemu, qemu_version};
use crate::guest_image::kernel;
use crate::probe::{self, Probed};
use camino::Utf8Path;
use diagnostics::Check;

/// Checks QEMU, the guest kernel, virtualisation, cgroups and privileges.
/// Starts no VM and changes nothing that lasts. `guest_cache` is where the daemon's
/// probe keeps its result, which is shown as the probe recorded it.
pub fn doctor_checks(qemu: Option<&Utf8Path>, guest_cache: &Utf8Path) -> Vec<Check> {
    let accelerator = accelerator(qemu, guest_cache);
    vec![privileges(), qemu_check(qemu), kernel_check(), accelerator, cgroups()]
}

fn privileges() -> Check {
    let name = "privileges";
    if rustix::process::geteuid().is_root() {
        return Check::good(name, "runs as root");
    }
    Check::broken(name, "does not run as root", "start it as root: jails for VMs need it")
}

fn qemu_check(given: Option<&Utf8Path>) -> Check {
    let found = find_qemu(given).and_then(|path| Ok((qemu_version(&path)?, path)));
    match found {
        Ok((version, path)) => Check::good("qemu", format!("QEMU {version} at {path}")),
        Err(err) => Check::broken("qemu", rt::chain(&err), "apt install qemu-system-x86"),
    }
}

fn kernel_check() -> Check {
    let remedy = "apt install linux-image-cloud-amd64 (Ubuntu: linux-image-virtual)";
    match kernel::find().and_then(|kernel| kernel.load_order().map(|_| kernel)) {
        Ok(kernel) => {
            Check::good("guest kernel", format!("{} at {}", kernel.release, kernel.vmlinuz))
        }
        Err(err) => Check::broken("guest kernel", rt::chain(&err), remedy),
    }
}

/// The result that the daemon's probe has recorded; before that, what can be seen
/// without booting a guest.
fn accelerator(qemu: Option<&Utf8Path>, guest_cache: &Utf8Path) -> Check {
    let known = || {
        let (qemu, kernel) = (find_qemu(qemu).ok()?, kernel::find().ok()?);
        probe::cached_result(guest_cache, &qemu, &kernel)
    };
    match known() {
        Some(probed) => found(&probed),
        None => not_probed_yet(),
    }
}

fn found(probed: &Probed) -> Check {
    let name = "accelerator";
    if probed.accelerator == Accelerator::Kvm {
        return Check::good(name, probed.line());
    }
    let advice = match probe::kvm_pvm_is_loaded() {
        true => PVM_ADVICE,
        false => EMULATION_ADVICE,
    };
    let mut remedy = advice.to_owned();
    for failure in &probed.failures {
        let line = failure.lines().next().unwrap_or_default();
        remedy
            .push_str(&format!("; tried {}", line.chars().take(FAILURE_CHARS).collect::<String>()));
    }
    Check::weak(name, probed.line(), remedy)
}

fn not_probed_yet() -> Check {
    let name = "accelerator";
    let opened = std::fs::OpenOptions::new().read(true).write(true).open("/dev/kvm");
    match opened {
        Ok(_) if probe::kvm_pvm_is_loaded() => {
            let found = "not probed yet; kvm_pvm is loaded, a stock kernel does not start with it";
            Check::weak(name, found, PVM_ADVICE)
        }
        Ok(_) => Check::good(name, "not probed yet; /dev/kvm opens, `updraft up` boots a guest"),
        Err(err) => {
            Check::weak(name, format!("tcg (/dev/kvm cannot be opened: {err})"), EMULATION_ADVICE)
        }
    }
}

/// Most characters of a failed attempt that are shown.
const FAILURE_CHARS: usize = 120;
const EMULATION_ADVICE: &str = "guests run in slow software emulation; enable virtualisation in \
     the firmware, or nested virtualisation on the host of this host";
const PVM_ADVICE: &str = "guests run in slow software emulation, unless their kernel is made for \
     kvm_pvm (https://github.com/virt-pvm/linux)";

fn cgroups() -> Check {
    let warnings = Cgroups::try_out("doctor");
    if warnings.is_empty() {
        return Check::good("cgroups", "cpu, memory and pids limits can be set");
    }
    Check::weak(
        "cgroups",
        warnings.join("; "),
        "VMs run without these limits; enable the controllers (kernel command line \
         cgroup_enable=memory), or give the container write access to its cgroups",
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::CpuModel;

    #[test]
    fn the_probes_words_are_shown_and_failures_are_named() {
        let probed = |accelerator| Probed {
            accelerator,
            cpu_model: CpuModel::Plain,
            reason: "why".into(),
            failures: vec!["host: failed to set MSR 0x10a\nassertion".into()],
        };
        let kvm = found(&probed(Accelerator::Kvm));
        assert_eq!((kvm.found.as_str(), kvm.remedy.as_str()), ("kvm (why)", ""));
        let tcg = found(&probed(Accelerator::Tcg));
        assert_eq!(tcg.found, "tcg (why)");
        assert!(tcg.remedy.ends_with("; tried host: failed to set MSR 0x10a"), "{}", tcg.remedy);
    }
}
