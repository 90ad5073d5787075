//! The bytes of `guest.S`, and its counter.

use camino::Utf8Path;
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::fs::FileExt;
use testkit::skip::{Lacks, skip};
use vmm_qemu::GuestImage;

/// Where the counter is, in the guest's memory.
const COUNTER: u64 = 0x7000;
/// Where the header of the Linux boot protocol begins.
const HEADER: usize = 0x1f1;
/// Everything from there to the end of the code.
const CODE: [u8; 136] = [
    0x01, 0x00, 0x00, 0x01, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x55, 0xaa, 0xeb,
    0x3a, 0x48, 0x64, 0x72, 0x53, 0x06, 0x02, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00,
    0x01, 0x00, 0x80, 0x00, 0x00, 0x10, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00,
    0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0xff, 0xff, 0xff, 0x7f, 0x00,
    0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0xff, 0x00, 0x00, 0x00, 0x31, 0xc0, 0x8e, 0xc0, 0x66,
    0x31, 0xdb, 0x66, 0x43, 0x26, 0x66, 0x89, 0x1e, 0x00, 0x70, 0xb9, 0x04, 0x00, 0x89, 0xda, 0xc1,
    0xc2, 0x04, 0x88, 0xd0, 0x24, 0x0f, 0x3c, 0x0a, 0x72, 0x02, 0x04, 0x27, 0x04, 0x30, 0x52, 0xba,
    0xf8, 0x03, 0xee, 0x5a, 0xe2, 0xe9, 0xb0, 0x0a, 0xba, 0xf8, 0x03, 0xee, 0x66, 0xb9, 0x20, 0x4e,
    0x00, 0x00, 0x66, 0x49, 0x75, 0xfc, 0xeb, 0xca,
];

/// The kernel, as `ld` makes it from `guest.S`.
pub(crate) fn kernel() -> Vec<u8> {
    let mut bytes = vec![0; 1024];
    bytes[HEADER..HEADER + CODE.len()].copy_from_slice(&CODE);
    // In place of the protected-mode kernel: `nop`.
    bytes.extend([0x90; 512]);
    bytes
}

/// Kernel and an initramfs that the guest never looks at, in `dir`.
pub(crate) fn image(dir: &Utf8Path) -> GuestImage {
    let image = GuestImage {
        vmlinuz: dir.join("counting-kernel"),
        initramfs: dir.join("counting-initramfs"),
    };
    std::fs::write(&image.vmlinuz, kernel()).unwrap();
    std::fs::write(&image.initramfs, "unused").unwrap();
    image
}

/// How far the guest of the process `pid` has counted.
pub(crate) fn counter(pid: u32) -> io::Result<u32> {
    let maps = std::fs::read_to_string(format!("/proc/{pid}/maps"))?;
    let ram = maps.lines().find(|line| {
        let name = line.split_ascii_whitespace().nth(5).unwrap_or_default();
        let first = line.split_ascii_whitespace().nth(2) == Some("00000000");
        first && (name.contains("memfd:guest-memory") || name.ends_with("/ram"))
    });
    let start = ram.and_then(|line| line.split_once('-'));
    let start = start.ok_or_else(|| io::Error::other("the memory is not mapped"))?.0;
    let start = u64::from_str_radix(start, 16).map_err(io::Error::other)?;
    let mut bytes = [0; 4];
    let mut memory = std::fs::File::open(format!("/proc/{pid}/mem"))?;
    memory.seek(SeekFrom::Start(start + COUNTER))?;
    memory.read_exact(&mut bytes)?;
    Ok(u32::from_le_bytes(bytes))
}

/// The counter in a file with a guest's memory.
pub(crate) fn counter_in(file: &Utf8Path) -> u32 {
    let mut bytes = [0; 4];
    std::fs::File::open(file).unwrap().read_exact_at(&mut bytes, COUNTER).unwrap();
    u32::from_le_bytes(bytes)
}

#[test]
fn the_bytes_are_those_of_the_source() {
    let temp = tempfile::tempdir().unwrap();
    let source = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/counting/guest.S");
    let run = |program: &str, args: &[&str]| {
        let status = std::process::Command::new(program).args(args).current_dir(&temp).status();
        status.map(|status| assert!(status.success(), "{program}"))
    };
    if run("as", &["--32", "-o", "guest.o", source]).is_err() {
        return skip("there is no assembler (`as` of binutils)", Lacks::Optional);
    }
    let args =
        ["-m", "elf_i386", "-Ttext", "0", "--oformat", "binary", "-o", "guest.bin", "guest.o"];
    run("ld", &args).unwrap();
    assert!(std::fs::read(temp.path().join("guest.bin")).unwrap() == kernel());
}
