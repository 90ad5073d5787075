//! Files that init writes into the root file system.

use rustix::fs::{Mode, OFlags};
use std::io::Write;
use std::path::Path;
use wire::guest::{GuestFile, Orders};

/// Writes the files of the orders and those of `/etc` that make the machine
/// know itself.
pub(crate) fn write_all(orders: &Orders) -> Result<(), String> {
    let hostname = format!("{}\n", orders.hostname);
    let machine_id = match orders.machine_id.as_str() {
        "" => random_id(),
        id => format!("{id}\n"),
    };
    let own = [
        ("/etc/hostname", 0o644, if orders.hostname.is_empty() { "" } else { &hostname }),
        ("/etc/hosts", 0o644, &orders.hosts),
        ("/etc/resolv.conf", 0o644, &orders.resolv_conf),
        // An image's own would be that of all its machines.
        ("/etc/machine-id", 0o444, &machine_id),
    ];
    for (path, mode, content) in own {
        if !content.is_empty() {
            // An image's own may be a link to where nothing is (systemd's resolv.conf).
            if std::fs::symlink_metadata(path).is_ok_and(|meta| meta.is_symlink()) {
                let _ = std::fs::remove_file(path);
            }
            write(path, mode, content.as_bytes())?;
        }
    }
    // The place of old: mostly absent, or a link to the other.
    let old = "/var/lib/dbus/machine-id";
    if std::fs::symlink_metadata(old).is_ok_and(|meta| meta.is_file()) {
        write(old, 0o444, machine_id.as_bytes())?;
    }
    for GuestFile { path, mode, content } in &orders.files {
        write(path, *mode, content)?;
    }
    Ok(())
}

fn random_id() -> String {
    let mut id = [0u8; 16];
    let _ = rustix::rand::getrandom(&mut id[..], rustix::rand::GetRandomFlags::empty());
    id.iter().map(|byte| format!("{byte:02x}")).chain(["\n".to_owned()]).collect()
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
