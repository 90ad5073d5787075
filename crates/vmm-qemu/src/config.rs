//! Configuration of the driver, and finding QEMU.

use camino::{Utf8Path, Utf8PathBuf};
use serde::{Deserialize, Serialize};
use std::process::Command;
use std::time::Duration;
use worker::ports::PortError;

/// Configuration of the driver.
#[derive(Clone, Debug)]
pub struct QemuConfig {
    /// Directory of the VMs, such as `<data>/vms`; made if absent, mode 0700.
    pub run_dir: Utf8PathBuf,
    /// Where templates are kept, such as `<data>/templates`; made if absent.
    pub template_dir: Utf8PathBuf,
    /// Distinguishes daemons on one host; part of cgroup names. Lower-case
    /// letters, digits and dashes, at most 32.
    pub instance: String,
    /// The QEMU program, from [`find_qemu`].
    pub qemu: Utf8PathBuf,
    /// Kernel and initramfs of every guest.
    pub guest: GuestImage,
    /// The accelerator that the probe found.
    pub accelerator: Accelerator,
    /// The CPU model that the probe found. One for all VMs; part of what templates and snapshots
    /// depend on.
    pub cpu_model: CpuModel,
    /// Most memory of all VMs together, in MiB; no limit if absent.
    pub vms_memory_mib: Option<u64>,
    /// How VMs are jailed.
    pub jail: JailConfig,
    /// A boot that has not got its QEMU to answer by then is killed.
    pub start_deadline: Duration,
}

impl QemuConfig {
    /// A good [`QemuConfig::start_deadline`]: QEMU answers within 50 ms, and
    /// within seconds on a host with far too much to do.
    pub const START_DEADLINE: Duration = Duration::from_secs(20);
}

/// How VMs are jailed.
#[derive(Clone, Debug)]
pub struct JailConfig {
    /// A program that calls [`crate::jail::main`] when its first argument is
    /// [`crate::jail::SUBCOMMAND`].
    pub launcher: Utf8PathBuf,
    /// First user id that VMs may have; the group id is the same number.
    pub uid_base: u32,
    /// How many user ids from there: the most VMs on this host.
    pub uid_count: u32,
}

impl JailConfig {
    /// `launcher` with the default range of user ids: above those of people,
    /// services and containers, in what systemd's table of ids calls unused.
    pub fn new(launcher: impl Into<Utf8PathBuf>) -> Self {
        Self { launcher: launcher.into(), uid_base: 0x7000_0000, uid_count: 4096 }
    }
}

/// The boot files of every guest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GuestImage {
    /// Kernel, readable by any user.
    pub vmlinuz: Utf8PathBuf,
    /// Initial file system with our init, readable by any user.
    pub initramfs: Utf8PathBuf,
}

/// The accelerator that runs guest instructions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Accelerator {
    /// The processor's virtualisation.
    Kvm,
    /// QEMU's translator: works anywhere, several times slower, and guests are
    /// separated by QEMU and the jail alone.
    Tcg,
}

impl Accelerator {
    /// `kvm` or `tcg`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Kvm => "kvm",
            Self::Tcg => "tcg",
        }
    }
}

/// The processor that guests see, as QEMU's `-cpu`. Emulated guests have the plain one
/// regardless of this setting.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum CpuModel {
    /// The host's own.
    #[default]
    Host,
    /// The host's own without the MSR for architectural capabilities, which QEMU
    /// cannot set on some nested hosts.
    HostWithoutArchCapabilities,
    /// x86-64-v2, which images of some distributions need, and nothing beyond.
    Plain,
}

impl CpuModel {
    /// The CPU models that the probe tries with KVM, in this order.
    pub const LADDER: [Self; 3] = [Self::Host, Self::HostWithoutArchCapabilities, Self::Plain];

    /// The argument of `-cpu`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Host => "host",
            Self::HostWithoutArchCapabilities => "host,-arch-capabilities",
            // `-cpu max` was seen not to reach init on some machines.
            Self::Plain => "qemu64,+ssse3,+sse4.1,+sse4.2,+popcnt",
        }
    }
}

/// The QEMU of this host: `given`, or the first of the usual names in the usual
/// places.
///
/// # Errors
/// No QEMU was found.
pub fn find_qemu(given: Option<&Utf8Path>) -> Result<Utf8PathBuf, PortError> {
    if let Some(path) = given {
        return is_program(path).then(|| path.to_owned()).ok_or_else(|| {
            PortError::plain(format!("{path} is not a program that can be started"))
        });
    }
    let dirs = ["/usr/local/bin", "/usr/bin", "/bin", "/usr/libexec"];
    let names = ["qemu-system-x86_64", "qemu-kvm"];
    let mut paths =
        dirs.iter().flat_map(|dir| names.iter().map(move |n| Utf8Path::new(dir).join(n)));
    paths.find(|path| is_program(path)).ok_or_else(|| {
        PortError::plain(
            "there is no qemu-system-x86_64; install it with: apt install qemu-system-x86",
        )
    })
}

fn is_program(path: &Utf8Path) -> bool {
    use std::os::unix::fs::PermissionsExt;
    std::fs::metadata(path).is_ok_and(|m| m.is_file() && m.permissions().mode() & 0o111 != 0)
}

/// Version of a QEMU program, such as `7.2.22`.
///
/// # Errors
/// It cannot be started, or does not call itself QEMU.
pub fn qemu_version(qemu: &Utf8Path) -> Result<String, PortError> {
    let attempted = || format!("ask {qemu} for its version");
    let output = Command::new(qemu).arg("--version").output();
    let output = output.map_err(|err| PortError::new(attempted(), err))?;
    parse_version(&String::from_utf8_lossy(&output.stdout)).ok_or_else(|| {
        PortError::plain(format!("{qemu} is not QEMU: `--version` prints something else"))
    })
}

fn parse_version(text: &str) -> Option<String> {
    let rest = text.split_once("QEMU emulator version ")?.1;
    let version = rest.split(|c: char| !c.is_ascii_digit() && c != '.').next()?;
    (!version.is_empty()).then(|| version.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_version_of_qemu() {
        let debian = "QEMU emulator version 7.2.22 (Debian 1:7.2+dfsg-7+deb12u18+b3)\nCopyright";
        assert_eq!(parse_version(debian).as_deref(), Some("7.2.22"));
        assert_eq!(parse_version("QEMU emulator version 9.2.0\n").as_deref(), Some("9.2.0"));
        assert_eq!(parse_version("GNU coreutils"), None);
    }
}
