//! Counters of the kernel, as the host's metrics show them: files of `/proc`, and the file
//! systems.

use guest_protocol::{FileSystem, GuestStats};
use std::io::Read;

/// Bytes of one file.
const MAX_FILE: u64 = 16 * 1024;
const MAX_FILE_SYSTEMS: usize = 16;

/// Reads them. What cannot be read is empty.
pub(crate) fn read() -> GuestStats {
    GuestStats {
        loadavg: text("/proc/loadavg"),
        stat: text("/proc/stat"),
        meminfo: text("/proc/meminfo"),
        diskstats: text("/proc/diskstats"),
        net_dev: text("/proc/net/dev"),
        file_nr: text("/proc/sys/fs/file-nr"),
        filesystems: file_systems(&text("/proc/self/mounts")),
    }
}

fn text(path: &str) -> String {
    let mut bytes = Vec::new();
    // Cut where it is too long: the host leaves out the last line then.
    if let Ok(file) = std::fs::File::open(path) {
        let _ = file.take(MAX_FILE).read_to_end(&mut bytes);
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// File systems with blocks, by their mounts; the one that was mounted last on a path counts.
fn file_systems(mounts: &str) -> Vec<FileSystem> {
    let mut found: Vec<FileSystem> = Vec::new();
    for mount in mounts.lines().filter_map(mount_of_blocks) {
        let Ok(stat) = rustix::fs::statvfs(mount) else { continue };
        found.retain(|fs| fs.mount != mount);
        if found.len() < MAX_FILE_SYSTEMS && stat.f_blocks > 0 {
            found.push(FileSystem {
                mount: mount.to_owned(),
                block_size: stat.f_frsize,
                blocks: stat.f_blocks,
                blocks_free: stat.f_bfree,
                blocks_avail: stat.f_bavail,
            });
        }
    }
    found
}

/// The path of a mount of a disk, or of the root made of several.
fn mount_of_blocks(line: &str) -> Option<&str> {
    let mut words = line.split(' ');
    let (device, mount, kind) = (words.next()?, words.next()?, words.next()?);
    (device.starts_with("/dev/") || kind == "overlay").then_some(mount)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn disks_and_the_root_have_blocks() {
        assert_eq!(mount_of_blocks("overlay / overlay rw 0 0"), Some("/"));
        assert_eq!(mount_of_blocks("/dev/vdb /data ext4 rw 0 0"), Some("/data"));
        assert_eq!(mount_of_blocks("proc /proc proc rw 0 0"), None);
        assert_eq!(mount_of_blocks("x"), None);
    }

    #[test]
    fn the_files_of_this_kernel_can_be_read() {
        let stats = read();
        assert!(stats.meminfo.starts_with("MemTotal:"), "{}", stats.meminfo);
        assert!(stats.stat.contains("cpu0 ") && stats.loadavg.contains('/'));
    }
}
