//! The data directory: only its owner may read or write it.

use super::adapters::make_dir;
use crate::error::DaemonError;
use camino::Utf8Path;
use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt};

/// Makes it if it is not there; refuses one that others may have tampered with,
/// and closes one that others may only look into.
pub(super) fn prepare(path: &Utf8Path) -> Result<(), DaemonError> {
    let refused = || DaemonError::failed(format!("Cannot use the data directory {path}"));
    let hint = "Give a directory of its own with --data-dir.";
    make_dir(path).map_err(|err| refused().because_of(&err))?;
    let failed = |err: io::Error| refused().because_of(&err);
    let found = fs::metadata(path).map_err(failed)?;
    let (owner, own) = (found.uid(), rustix::process::geteuid().as_raw());
    if owner != own {
        let why = format!("It belongs to user {owner}, and this is user {own}");
        return Err(refused().because(why).hint(hint));
    }
    let mode = found.mode() & 0o7777;
    if mode & 0o022 != 0 {
        let why = format!("Others may write to it, and may have: its mode is {mode:o}");
        let hint = format!("Look at what is in it, then run `chmod 700 {path}`.");
        return Err(refused().because(why).hint(hint));
    }
    if mode & 0o077 != 0 {
        fs::set_permissions(path, Permissions::from_mode(0o700)).map_err(failed)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::chown;
    use testkit::skip::{Lacks, skip};

    #[test]
    fn only_a_directory_of_ones_own_is_used() {
        let dir = tempfile::tempdir().unwrap();
        let path = Utf8Path::from_path(dir.path()).unwrap().join("data");
        let mode = || fs::metadata(&path).unwrap().mode() & 0o7777;
        prepare(&path).unwrap();
        assert_eq!(mode(), 0o700);
        fs::set_permissions(&path, Permissions::from_mode(0o755)).unwrap();
        prepare(&path).unwrap();
        assert_eq!(mode(), 0o700);
        for open in [0o770, 0o722, 0o1777] {
            fs::set_permissions(&path, Permissions::from_mode(open)).unwrap();
            let refused = prepare(&path).unwrap_err().render();
            assert!(refused.contains(&format!("mode is {open:o}")), "{refused}");
            assert_eq!(mode(), open, "it is left as it is");
        }
        fs::set_permissions(&path, Permissions::from_mode(0o700)).unwrap();
        // Only root can give a directory away.
        if !rustix::process::geteuid().is_root() {
            return skip("giving a directory to another user needs root", Lacks::Required);
        }
        chown(&path, Some(1), None).unwrap();
        let refused = prepare(&path).unwrap_err().render();
        assert!(refused.contains("belongs to user 1"), "{refused}");
    }
}
