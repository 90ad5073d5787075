//! What the driver needs of the host, checked one by one, each with its remedy.

use crate::cgroup::Cgroups;
use crate::config::{find_qemu, qemu_version};
use crate::kernel;
use camino::Utf8Path;

/// One thing that was looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Check {
    /// What it is about, in a word or two.
    pub name: &'static str,
    /// Whether it is as it should be.
    pub state: CheckState,
    /// What was found.
    pub found: String,
    /// What to do about it; empty if nothing.
    pub remedy: String,
}

/// How bad a finding is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CheckState {
    /// As it should be.
    Good,
    /// Works, but worse than it could.
    Weak,
    /// No VM can be started.
    Broken,
}

/// Checks QEMU, the guest kernel, virtualisation, cgroups and privileges.
/// Starts no VM and changes nothing that lasts. Whether KVM really works only
/// [`crate::probe::probe`] can say.
pub fn doctor_checks(qemu: Option<&Utf8Path>) -> Vec<Check> {
    vec![privileges(), qemu_check(qemu), kernel_check(), kvm(), cgroups()]
}

fn privileges() -> Check {
    let name = "privileges";
    if rustix::process::geteuid().is_root() {
        return good(name, "runs as root");
    }
    broken(name, "does not run as root", "start it as root: jails for VMs need it")
}

fn qemu_check(given: Option<&Utf8Path>) -> Check {
    let found = find_qemu(given).and_then(|path| Ok((qemu_version(&path)?, path)));
    match found {
        Ok((version, path)) => good("qemu", format!("QEMU {version} at {path}")),
        Err(err) => broken("qemu", rt::chain(&err), "apt install qemu-system-x86"),
    }
}

fn kernel_check() -> Check {
    let remedy = "apt install linux-image-cloud-amd64 (Ubuntu: linux-image-virtual)";
    match kernel::find().and_then(|kernel| kernel.load_order().map(|_| kernel)) {
        Ok(kernel) => good("guest kernel", format!("{} at {}", kernel.release, kernel.vmlinuz)),
        Err(err) => broken("guest kernel", rt::chain(&err), remedy),
    }
}

fn kvm() -> Check {
    let opened = std::fs::OpenOptions::new().read(true).write(true).open("/dev/kvm");
    match opened {
        Ok(_) => good("kvm", "/dev/kvm opens; whether guests boot with it is found out at start"),
        Err(err) => Check {
            name: "kvm",
            state: CheckState::Weak,
            found: format!("/dev/kvm cannot be opened: {err}"),
            remedy: "guests run in slow software emulation; enable virtualisation in the firmware, \
                     or nested virtualisation on the host of this host"
                .into(),
        },
    }
}

fn cgroups() -> Check {
    let warnings = Cgroups::detect("doctor").warnings().to_vec();
    if warnings.is_empty() {
        return good("cgroups", "cpu, memory and pids limits can be set");
    }
    Check {
        name: "cgroups",
        state: CheckState::Weak,
        found: warnings.join("; "),
        remedy: "VMs run without these limits; enable the controllers (kernel command line \
                 cgroup_enable=memory), or give the container write access to its cgroups"
            .into(),
    }
}

fn good(name: &'static str, found: impl Into<String>) -> Check {
    Check { name, state: CheckState::Good, found: found.into(), remedy: String::new() }
}

fn broken(name: &'static str, found: impl Into<String>, remedy: &str) -> Check {
    Check { name, state: CheckState::Broken, found: found.into(), remedy: remedy.into() }
}
