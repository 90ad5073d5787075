//! What the driver needs of the host, checked one by one, each with its remedy.

use crate::cgroup::groups::Cgroups;
use crate::config::{find_qemu, qemu_version};
use crate::guest_image::kernel;
use camino::Utf8Path;
use diagnostics::Check;

/// Checks QEMU, the guest kernel, virtualisation, cgroups and privileges.
/// Starts no VM and changes nothing that lasts. Whether KVM really works only
/// [`crate::probe::probe`] can say.
pub fn doctor_checks(qemu: Option<&Utf8Path>) -> Vec<Check> {
    vec![privileges(), qemu_check(qemu), kernel_check(), kvm(), cgroups()]
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

fn kvm() -> Check {
    let opened = std::fs::OpenOptions::new().read(true).write(true).open("/dev/kvm");
    match opened {
        Ok(_) => {
            Check::good("kvm", "/dev/kvm opens; whether guests boot with it is found out at start")
        }
        Err(err) => Check::weak(
            "kvm",
            format!("/dev/kvm cannot be opened: {err}"),
            "guests run in slow software emulation; enable virtualisation in the firmware, or \
             nested virtualisation on the host of this host",
        ),
    }
}

fn cgroups() -> Check {
    let warnings = Cgroups::detect("doctor", None).warnings().to_vec();
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
