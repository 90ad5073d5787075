//! One attempt: the real kernel with an init of a few instructions that powers off,
//! in the same jail as every VM.

use crate::config::QemuConfig;
use crate::driver::QemuHypervisor;
use crate::guest_image::initramfs;
use camino::Utf8Path;
use model::id::{BootId, MachineId};
use std::error::Error;
use std::fs;
use std::io;
use std::time::Duration;
use worker::ports::{BootSpec, Hypervisor, PortError, VmExit};

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

/// How an attempt went.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Attempt {
    /// The guest booted and powered off.
    Booted,
    /// QEMU or the guest failed, for this reason.
    Failed(String),
    /// The guest was started and did not power off within the deadline.
    Silent,
}

/// Whether a guest boots with `config` as it is. `cache` has room for a few files
/// meanwhile.
///
/// # Errors
/// QEMU cannot be started at all, or `cache` or the VMs' directory cannot be written.
pub async fn boots(
    config: &QemuConfig,
    cache: &Utf8Path,
    deadline: Duration,
) -> Result<Attempt, PortError> {
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
    let (machine, boot) = (MachineId::from_random(0), BootId::new(0, 0));
    driver.kill(machine, boot).await?;
    let spec = BootSpec {
        machine,
        boot,
        vcpus: 1,
        memory_mib: 128,
        cpu_weight: 1000,
        root: disk.clone(),
        scratch: disk.clone(),
        images: Vec::new(),
        volumes: Vec::new(),
        nic: None,
        kernel_args: Vec::new(),
        snapshot: None,
        cold: None,
    };
    let attempt = match driver.boot(spec).await {
        Err(err) if is_timeout(&err) => Attempt::Silent,
        Err(err) => Attempt::Failed(rt::chain(&err)),
        Ok(vm) => attempt_of(tokio::time::timeout(deadline, vm.exited).await.ok()),
    };
    driver.kill(machine, boot).await?;
    for file in [initramfs, disk] {
        fs::remove_file(&file).map_err(|err| PortError::new(format!("remove {file}"), err))?;
    }
    Ok(attempt)
}

/// The process did not get ready in time, which proves nothing about the accelerator.
fn is_timeout(err: &PortError) -> bool {
    let mut cause = err.source();
    while let Some(err) = cause {
        if err.downcast_ref::<io::Error>().is_some_and(|err| err.kind() == io::ErrorKind::TimedOut)
        {
            return true;
        }
        cause = err.source();
    }
    false
}

fn attempt_of(exit: Option<VmExit>) -> Attempt {
    match exit {
        Some(exit) if exit.powered_off => Attempt::Booted,
        Some(exit) => Attempt::Failed(exit.console_tail),
        None => Attempt::Silent,
    }
}

fn write_files(initramfs: &Utf8Path, disk: &Utf8Path) -> io::Result<()> {
    rt::fs::write_atomic(initramfs.as_std_path(), &initramfs::archive_of(&tiny_elf())?, 0o644)?;
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
    fn the_tiny_program_matches_its_headers() {
        let elf = tiny_elf();
        assert_eq!(elf.len(), 120 + POWER_OFF.len());
        assert_eq!(&elf[24..32], 0x40_0078u64.to_le_bytes());
        assert_eq!(&elf[120..125], [0xbf, 0xad, 0xde, 0xe1, 0xfe]);
    }

    #[test]
    fn only_a_guest_that_powered_off_has_booted() {
        let off = VmExit { powered_off: true, ..VmExit::default() };
        assert_eq!(attempt_of(Some(off)), Attempt::Booted);
        assert_eq!(attempt_of(Some(VmExit::default())), Attempt::Failed(String::new()));
        assert_eq!(attempt_of(None), Attempt::Silent);
    }
}
