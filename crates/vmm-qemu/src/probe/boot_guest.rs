//! Which accelerator really works: found out by booting a guest.
//!
//! `/dev/kvm` proves nothing: on nested or paravirtual hosts it opens, a VM can
//! be made, and a stock kernel never starts in it. The guest here is the real
//! kernel with an init of a few instructions that powers off, in the same jail
//! as every VM.

use crate::config::{Accelerator, QemuConfig, qemu_version};
use crate::driver::QemuHypervisor;
use crate::guest_image::initramfs;
use crate::guest_image::kernel::Kernel;
use camino::Utf8Path;
use model::id::{BootId, HostId, MachineId};
use serde::{Deserialize, Serialize};
use std::fs;
use std::io;
use std::time::Duration;
use worker::ports::{BootSpec, Hypervisor, PortError, VmExit};

/// A stock kernel reaches user space within a second on working KVM.
pub const DEADLINE: Duration = Duration::from_secs(10);

/// Powers off at once: `reboot(LINUX_REBOOT_MAGIC1, LINUX_REBOOT_MAGIC2,
/// LINUX_REBOOT_CMD_POWER_OFF)`, system call 169, see reboot(2).
const POWER_OFF: [u8; 27] = [
    0xbf, 0xad, 0xde, 0xe1, 0xfe, // mov edi, 0xfee1dead
    0xbe, 0x69, 0x19, 0x12, 0x28, // mov esi, 0x28121969
    0xba, 0xdc, 0xfe, 0x21, 0x43, // mov edx, 0x4321fedc
    0xb8, 0xa9, 0x00, 0x00, 0x00, // mov eax, 169
    0x0f, 0x05, // syscall
    0xeb, 0xfe, // jmp to itself: pid 1 must not end
    0x90, 0x90, 0x90, // nop
];

/// What was found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Probed {
    /// What guests are to run on.
    pub accelerator: Accelerator,
    /// Why, in words for the operator.
    pub reason: String,
}

/// Finds the accelerator for VMs of `config` (whose own is not looked at), or
/// takes what was found earlier with this QEMU, kernel and start of the host
/// from `cache`.
///
/// # Errors
/// QEMU cannot be started at all, or `cache` or the VMs' directory cannot be
/// written. KVM that does not work is no error but an answer.
pub async fn probe(
    config: &QemuConfig,
    kernel: &Kernel,
    cache: &Utf8Path,
    deadline: Duration,
) -> Result<Probed, PortError> {
    let file = cache.join("accelerator.json");
    let key = key(config, kernel)?;
    if let Some(known) = remembered(&file, &key) {
        return Ok(known);
    }
    let with_kvm = QemuConfig { accelerator: Accelerator::Kvm, ..config.clone() };
    let probed = match boots(&with_kvm, cache, deadline).await? {
        Ok(()) => {
            Probed { accelerator: Accelerator::Kvm, reason: "a guest booted with KVM".into() }
        }
        Err(why) => Probed { accelerator: Accelerator::Tcg, reason: why },
    };
    let text = serde_json::to_vec_pretty(&Remembered { key, probed: probed.clone() });
    let text = text.map_err(|err| PortError::new("encode the result of the probe", err))?;
    rt::fs::write_atomic(file.as_std_path(), &text, 0o644)
        .map_err(|err| PortError::new(format!("write {file}"), err))?;
    Ok(probed)
}

#[derive(Serialize, Deserialize)]
struct Remembered {
    key: String,
    #[serde(flatten)]
    probed: Probed,
}

fn remembered(file: &Utf8Path, key: &str) -> Option<Probed> {
    let known: Remembered = serde_json::from_slice(&fs::read(file).ok()?).ok()?;
    (known.key == key).then_some(known.probed)
}

fn key(config: &QemuConfig, kernel: &Kernel) -> Result<String, PortError> {
    let host = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    Ok(format!(
        "qemu {} kernel {} boot {}",
        qemu_version(&config.qemu)?,
        kernel.release,
        host.trim()
    ))
}

/// Whether a guest boots with `config` as it is; the inner error says why not.
/// `cache` has room for a few files meanwhile.
///
/// # Errors
/// As of [`probe`].
pub async fn boots(
    config: &QemuConfig,
    cache: &Utf8Path,
    deadline: Duration,
) -> Result<Result<(), String>, PortError> {
    let name = config.accelerator.as_str();
    if config.accelerator == Accelerator::Kvm
        && let Err(err) = fs::OpenOptions::new().read(true).write(true).open("/dev/kvm")
    {
        return Ok(Err(format!("/dev/kvm cannot be opened: {err}")));
    }
    let (initramfs, disk) = (cache.join("probe-initramfs"), cache.join("probe-disk"));
    let written = write_files(&initramfs, &disk);
    written.map_err(|err| PortError::new(format!("write {initramfs}"), err))?;
    let mut config = config.clone();
    config.guest.initramfs = initramfs.clone();
    // Not those of real guests: they would seem to be another platform's.
    config.template_dir = cache.join("probe-templates");
    config.start_deadline = deadline;
    let driver = QemuHypervisor::open(config)?;
    // Always the same names: what a killed daemon left is removed by the next.
    let (machine, boot) = (MachineId::new(HostId(0), 0), BootId::new(0, 0));
    driver.kill(machine, boot).await?;
    let spec = BootSpec {
        machine,
        boot,
        vcpus: 1,
        memory_mib: 128,
        cpu_weight: 1000,
        root: disk.clone(),
        scratch: disk.clone(),
        nic: None,
        kernel_args: Vec::new(),
        snapshot: None,
        cold: None,
    };
    let outcome = match driver.boot(spec).await {
        Err(err) => Err(format!("a guest does not start with {name}: {}", rt::chain(&err))),
        Ok(vm) => verdict(tokio::time::timeout(deadline, vm.exited).await.ok())
            .map_err(|why| format!("a guest with {name} {why}")),
    };
    driver.kill(machine, boot).await?;
    for file in [initramfs, disk] {
        fs::remove_file(&file).map_err(|err| PortError::new(format!("remove {file}"), err))?;
    }
    Ok(outcome)
}

fn verdict(exit: Option<VmExit>) -> Result<(), String> {
    match exit {
        Some(exit) if exit.powered_off => Ok(()),
        Some(exit) => Err(format!("failed: {}", exit.last_words)),
        None => Err("never came up".into()),
    }
}

fn write_files(initramfs: &Utf8Path, disk: &Utf8Path) -> io::Result<()> {
    rt::fs::write_atomic(initramfs.as_std_path(), &initramfs::bare(&tiny_elf())?, 0o644)?;
    fs::File::create(disk)?.set_len(1024 * 1024)
}

/// A static program of [`POWER_OFF`] and nothing else; see elf(5).
fn tiny_elf() -> Vec<u8> {
    const BASE: u64 = 0x40_0000;
    const HEADERS: u64 = 64 + 56;
    let size = HEADERS + POWER_OFF.len() as u64;
    let mut elf = b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0".to_vec();
    for half in [2u16, 62] {
        elf.extend(half.to_le_bytes()); // executable, x86-64
    }
    elf.extend(1u32.to_le_bytes());
    for word in [BASE + HEADERS, 64, 0] {
        elf.extend(word.to_le_bytes()); // entry, program headers, no sections
    }
    elf.extend(0u32.to_le_bytes());
    for half in [64u16, 56, 1, 0, 0, 0] {
        elf.extend(half.to_le_bytes());
    }
    elf.extend(1u32.to_le_bytes()); // to be loaded,
    elf.extend(5u32.to_le_bytes()); // readable and executable
    for word in [0, BASE, BASE, size, size, 0x1000] {
        elf.extend(word.to_le_bytes());
    }
    elf.extend(POWER_OFF);
    elf
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tiny_program_is_what_its_headers_say() {
        let elf = tiny_elf();
        assert_eq!(elf.len(), 120 + POWER_OFF.len());
        assert_eq!(&elf[24..32], 0x40_0078u64.to_le_bytes());
        assert_eq!(&elf[120..125], [0xbf, 0xad, 0xde, 0xe1, 0xfe]);
    }

    #[test]
    fn only_a_guest_that_powered_off_proves_kvm() {
        let off = VmExit { powered_off: true, ..VmExit::default() };
        assert!(verdict(Some(off)).is_ok());
        assert!(verdict(Some(VmExit::default())).is_err());
        assert!(verdict(None).unwrap_err().contains("never came up"));
    }
}
