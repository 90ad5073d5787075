//! Files that init writes into the root file system.

use guest_protocol::{GuestConfig, GuestFile};
use rustix::fs::{Mode, OFlags};
use std::io::Write;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// The directory of the machine's own files.
const ETC: &str = "etc";

/// Name, mode and content of a file below `/etc`.
type Own = (&'static str, u32, String);

/// The machine's own files; those that the configuration leaves empty are the image's.
fn own(config: &GuestConfig) -> Vec<Own> {
    let line = |text: &str| if text.is_empty() { String::new() } else { format!("{text}\n") };
    let machine_id = match config.machine_id.as_str() {
        "" => random_id(),
        id => id.to_owned(),
    };
    let all = [
        ("hostname", 0o644, line(&config.hostname)),
        ("hosts", 0o644, config.hosts.clone()),
        ("resolv.conf", 0o644, config.resolv_conf.clone()),
        // The image's id would be the same in all its machines.
        ("machine-id", 0o444, line(&machine_id)),
    ];
    all.into_iter().filter(|(_, _, content)| !content.is_empty()).collect()
}

/// The machine's own files, written into the upper layer of a root that is not
/// mounted yet, if that was possible.
pub(crate) struct OwnFiles {
    files: Vec<Own>,
    written: bool,
}

impl OwnFiles {
    /// Writes them into the upper layer: through the overlay the first one would
    /// copy `/etc` up, a good part of what a start costs.
    pub(crate) fn write_into(upper: &Path, lower: &Path, config: &GuestConfig) -> Self {
        let files = own(config);
        let written = write_layer(&upper.join(ETC), &lower.join(ETC), &files).is_ok();
        Self { files, written }
    }
}

/// The upper layer may be from an earlier boot and was written by the app: no link
/// in it is followed.
fn write_layer(upper: &Path, lower: &Path, files: &[Own]) -> std::io::Result<()> {
    let odd = || std::io::Error::other("not a directory");
    let image = std::fs::symlink_metadata(lower)?;
    if !image.is_dir() {
        return Err(odd());
    }
    match std::fs::create_dir(upper) {
        Ok(()) => {
            std::os::unix::fs::lchown(upper, Some(image.uid()), Some(image.gid()))?;
            std::fs::set_permissions(upper, image.permissions())?;
        }
        Err(_) if std::fs::symlink_metadata(upper)?.is_dir() => {}
        Err(_) => return Err(odd()),
    }
    for (name, mode, content) in files {
        let path = upper.join(name);
        match std::fs::remove_file(&path) {
            Err(err) if err.kind() != std::io::ErrorKind::NotFound => return Err(err),
            _ => {}
        }
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
        let mode = Mode::from_raw_mode(*mode);
        let mut file = std::fs::File::from(rustix::fs::open(&path, flags, mode)?);
        file.write_all(content.as_bytes())?;
    }
    Ok(())
}

/// Writes the machine's own files if that is left to do, and the configured files.
pub(crate) fn write_all(own: &OwnFiles, configured: &[GuestFile]) -> Result<(), String> {
    for (name, mode, content) in own.files.iter().filter(|_| !own.written) {
        let path = format!("/{ETC}/{name}");
        // The image's may be a dangling link (systemd's resolv.conf).
        if std::fs::symlink_metadata(&path).is_ok_and(|meta| meta.is_symlink()) {
            let _ = std::fs::remove_file(&path);
        }
        write(&path, *mode, content.as_bytes())?;
    }
    // The former place of the machine id: mostly absent, or a link to the other.
    let old = "/var/lib/dbus/machine-id";
    let id = own.files.iter().find(|(name, ..)| *name == "machine-id");
    if let Some((_, mode, content)) = id
        && std::fs::symlink_metadata(old).is_ok_and(|meta| meta.is_file())
    {
        write(old, *mode, content.as_bytes())?;
    }
    for GuestFile { path, mode, content } in configured {
        write(path, *mode, content)?;
    }
    Ok(())
}

fn random_id() -> String {
    let mut id = [0u8; 16];
    let _ = rustix::rand::getrandom(&mut id[..], rustix::rand::GetRandomFlags::empty());
    id.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Writes one file, and makes its parent directories.
fn write(path: &str, mode: u32, content: &[u8]) -> Result<(), String> {
    let cannot = |err: std::io::Error| format!("cannot write file {path}: {err}");
    if !path.starts_with('/') {
        return Err(format!("cannot write file {path}: the path is not absolute"));
    }
    if let Some(parent) = Path::new(path).parent() {
        std::fs::create_dir_all(parent).map_err(cannot)?;
    }
    // Non-blocking: the image may have a FIFO of that name.
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
    fn a_layer_gets_the_files_whatever_was_there() {
        let dir = tempfile::tempdir().unwrap();
        let [upper, lower, outside] = ["upper", "lower", "outside"].map(|n| dir.path().join(n));
        for path in [&upper, &lower, &outside] {
            std::fs::create_dir(path).unwrap();
        }
        let config =
            GuestConfig { hostname: "h".into(), machine_id: "id".into(), ..GuestConfig::default() };
        let written = || OwnFiles::write_into(&upper, &lower, &config).written;
        assert!(!written(), "an image without /etc");
        std::fs::create_dir(lower.join(ETC)).unwrap();
        std::fs::set_permissions(lower.join(ETC), PermissionsExt::from_mode(0o711)).unwrap();
        assert!(written() && written(), "again, as in a later boot");
        let mode = std::fs::metadata(upper.join(ETC)).unwrap().permissions().mode();
        assert_eq!(mode & 0o7777, 0o711);
        // A link that an app left there is replaced, not followed.
        let (victim, name) = (outside.join("victim"), upper.join("etc/hostname"));
        std::fs::write(&victim, "whole").unwrap();
        std::fs::remove_file(&name).unwrap();
        std::os::unix::fs::symlink(&victim, &name).unwrap();
        assert!(written());
        assert_eq!(std::fs::read_to_string(&name).unwrap(), "h\n");
        assert_eq!(std::fs::read_to_string(&victim).unwrap(), "whole");
        std::fs::remove_dir_all(upper.join(ETC)).unwrap();
        std::os::unix::fs::symlink(&outside, upper.join(ETC)).unwrap();
        assert!(!written());
    }

    #[test]
    fn a_file_that_cannot_be_written_is_named() {
        let error = write("etc/x", 0o600, b"").unwrap_err();
        assert_eq!(error, "cannot write file etc/x: the path is not absolute");
        let error = write("/proc/nope/x", 0o600, b"").unwrap_err();
        assert!(error.starts_with("cannot write file /proc/nope/x: "), "{error}");
    }
}
