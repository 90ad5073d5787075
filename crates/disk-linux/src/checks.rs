//! The requirements of machines' disks on a host, for `doctor`.

use crate::reflink::probe;
use camino::Utf8Path;
use diagnostics::Check;
use std::process::Stdio;

/// Below this, machines with usual scratch disks soon fail.
const LOW_SPACE: u64 = 2 << 30;

/// Checks what scratch disks and images in `data_dir` need. Writes and removes
/// two small files there.
pub fn disks(data_dir: &Utf8Path) -> Vec<Check> {
    let mut checks = vec![mkfs()];
    // Before the first start the directory does not exist: its parent is checked.
    let existing = data_dir.ancestors().find(|dir| dir.is_dir()).unwrap_or(data_dir);
    match probe(existing) {
        Ok((free, reflinks)) => {
            checks.push(free_space(data_dir, free));
            checks.push(if reflinks {
                Check::good("reflinks", format!("{data_dir} copies files without copying data"))
            } else {
                Check::weak(
                    "reflinks",
                    format!(
                        "the file system of {data_dir} has none, so copies take space and time"
                    ),
                    "put the data directory on XFS or Btrfs",
                )
            });
        }
        Err(err) => checks.push(Check::broken(
            "data directory",
            format!("{data_dir}: {err}"),
            "create it, writable for root",
        )),
    }
    checks
}

fn mkfs() -> Check {
    let output = std::process::Command::new("mkfs.ext4").arg("-V").stdin(Stdio::null()).output();
    match output {
        Ok(output) => {
            let stderr = String::from_utf8_lossy(&output.stderr);
            Check::good("mkfs.ext4", stderr.lines().next().unwrap_or("installed").to_owned())
        }
        Err(err) => Check::broken("mkfs.ext4", err.to_string(), "install the package e2fsprogs"),
    }
}

fn free_space(data_dir: &Utf8Path, free: u64) -> Check {
    let found = format!("{} MiB free for {data_dir}", free >> 20);
    if free < LOW_SPACE {
        Check::weak("free space", found, "free some space, or move the data directory")
    } else {
        Check::good("free space", found)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_disks_of_a_directory_that_is_and_one_that_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let dir = Utf8Path::from_path(dir.path()).unwrap();
        let names: Vec<_> = disks(dir).iter().map(|check| check.name).collect();
        assert_eq!(names, ["mkfs.ext4", "free space", "reflinks"]);
        assert_eq!(dir.read_dir_utf8().unwrap().count(), 0);
        // One that is not there yet is judged by what will hold it.
        let missing = disks(&dir.join("missing"));
        assert_eq!(missing[1].finding, diagnostics::Finding::Good);
        let impossible = disks(Utf8Path::new("/proc/missing"));
        assert_eq!(impossible[1].finding, diagnostics::Finding::Broken);
    }
}
