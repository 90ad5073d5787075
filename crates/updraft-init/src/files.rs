//! Files that init writes into the root file system.

use rustix::fs::{Mode, OFlags};
use std::io::Write;
use std::path::Path;
use wire::guest::{GuestFile, Orders};

/// Writes the files of the orders and those of `/etc` that make the machine
/// know itself.
pub(crate) fn write_all(orders: &Orders) -> Result<(), String> {
    let hostname = format!("{}\n", orders.hostname);
    let own = [
        ("/etc/hostname", if orders.hostname.is_empty() { "" } else { &hostname }),
        ("/etc/hosts", &orders.hosts),
        ("/etc/resolv.conf", &orders.resolv_conf),
    ];
    for (path, content) in own {
        if !content.is_empty() {
            // An image's own may be a link to where nothing is (systemd's resolv.conf).
            if std::fs::symlink_metadata(path).is_ok_and(|meta| meta.is_symlink()) {
                let _ = std::fs::remove_file(path);
            }
            write(path, 0o644, content.as_bytes())?;
        }
    }
    write_machine_id()?;
    for GuestFile { path, mode, content } in &orders.files {
        write(path, *mode, content)?;
    }
    Ok(())
}

/// A machine id of its own, unless the image brings one.
fn write_machine_id() -> Result<(), String> {
    const PATH: &str = "/etc/machine-id";
    let absent = std::fs::metadata(PATH).map_or(true, |meta| meta.len() == 0);
    if !absent {
        return Ok(());
    }
    let mut id = [0u8; 16];
    let _ = rustix::rand::getrandom(&mut id[..], rustix::rand::GetRandomFlags::empty());
    let text: String = id.iter().map(|byte| format!("{byte:02x}")).collect();
    write(PATH, 0o444, format!("{text}\n").as_bytes())
}

/// Writes one file, its parents made if absent.
fn write(path: &str, mode: u32, content: &[u8]) -> Result<(), String> {
    let cannot = |err: std::io::Error| format!("cannot write file {path}: {err}");
    if !path.starts_with('/') {
        return Err(format!("cannot write file {path}: the path is not absolute"));
    }
    if let Some(parent) = Path::new(path).parent() {
        std::fs::create_dir_all(parent).map_err(cannot)?;
    }
    // Without waiting: the image may have a pipe of that name.
    let flags =
        OFlags::WRONLY | OFlags::CREATE | OFlags::TRUNC | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let mode = Mode::from_raw_mode(mode & 0o7777);
    let fd = rustix::fs::open(path, flags, mode).map_err(|err| cannot(err.into()))?;
    let mut file = std::fs::File::from(fd);
    file.write_all(content).map_err(cannot)?;
    rustix::fs::fchmod(&file, mode).map_err(|err| cannot(err.into()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn parents_are_made_and_the_mode_is_exact() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a/b/c");
        let text = path.to_str().unwrap();
        write(text, 0o4777, b"one").unwrap();
        write(text, 0o600, b"2").unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"2");
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o7777, 0o600);
    }

    #[test]
    fn what_cannot_be_written_is_named() {
        let error = write("etc/x", 0o600, b"").unwrap_err();
        assert_eq!(error, "cannot write file etc/x: the path is not absolute");
        let error = write("/proc/nope/x", 0o600, b"").unwrap_err();
        assert!(error.starts_with("cannot write file /proc/nope/x: "), "{error}");
    }
}
