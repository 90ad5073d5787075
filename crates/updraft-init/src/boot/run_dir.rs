//! `/run` of the image. It is a tmpfs in the guest, so that nothing in it outlives
//! a boot; what the image has there (directories of databases and web servers,
//! made when the image was built) is copied into it at each boot.

use std::fs::{self, Metadata, Permissions};
use std::io::{Error, Result};
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt, lchown, symlink};
use std::path::Path;

/// Bounds of what is copied: it takes memory, and time at each start.
const MAX_ENTRIES: usize = 4096;
const MAX_BYTES: u64 = 16 << 20;
const MAX_DEPTH: usize = 32;

/// Copies `run` of `image` into `run` of `root`, with owners and modes. No link is
/// followed. What cannot be copied is a line in the log.
pub(crate) fn copy_from_image(image: &Path, root: &Path, log: &mut dyn FnMut(String)) {
    let (from, to) = (image.join("run"), root.join("run"));
    // A link leads elsewhere in the image; what is there is kept anyway.
    let Ok(meta) = fs::symlink_metadata(&from) else { return };
    if !meta.is_dir() {
        return;
    }
    let mut copy = Copy { entries: MAX_ENTRIES, bytes: MAX_BYTES };
    if let Err(err) = copy.directory(&from, &to, MAX_DEPTH) {
        log(format!("cannot copy all of the image's /run: {err}"));
    }
}

/// The bytes and files that may still be copied.
struct Copy {
    entries: usize,
    bytes: u64,
}

impl Copy {
    /// Copies the entries of a directory; continues after a failure, and returns the
    /// first one.
    fn directory(&mut self, from: &Path, to: &Path, depth: usize) -> Result<()> {
        let mut outcome = Ok(());
        for entry in fs::read_dir(from)? {
            let entry = entry?;
            let name = entry.file_name();
            self.entries = self.entries.checked_sub(1).ok_or_else(too_much)?;
            let copied = self.entry(&entry.path(), &to.join(&name), depth);
            let named = |err: Error| Error::other(format!("{}: {err}", name.display()));
            outcome = outcome.and(copied.map_err(named));
        }
        outcome
    }

    fn entry(&mut self, from: &Path, to: &Path, depth: usize) -> Result<()> {
        let meta = fs::symlink_metadata(from)?;
        let kind = meta.file_type();
        if kind.is_dir() {
            let depth = depth.checked_sub(1).ok_or_else(too_much)?;
            fs::create_dir(to)?;
            // The mode last: it may take the right to write away.
            let copied = self.directory(from, to, depth);
            own(to, &meta)?;
            copied
        } else if kind.is_symlink() {
            symlink(fs::read_link(from)?, to)?;
            lchown(to, Some(meta.uid()), Some(meta.gid()))
        } else if kind.is_file() {
            self.bytes = self.bytes.checked_sub(meta.len()).ok_or_else(too_much)?;
            fs::copy(from, to)?;
            own(to, &meta)
        } else if kind.is_fifo() {
            let mode = rustix::fs::Mode::from_raw_mode(0o600);
            rustix::fs::mknodat(rustix::fs::CWD, to, rustix::fs::FileType::Fifo, mode, 0)?;
            own(to, &meta)
        } else {
            // A socket without a listener, or a device: made by the processes that use it.
            Ok(())
        }
    }
}

/// Owner before mode: a change of owner clears the setuid bits.
fn own(path: &Path, meta: &Metadata) -> Result<()> {
    lchown(path, Some(meta.uid()), Some(meta.gid()))?;
    fs::set_permissions(path, Permissions::from_mode(meta.mode() & 0o7777))
}

fn too_much() -> Error {
    Error::other(format!(
        "more than {MAX_ENTRIES} entries, {} MiB or {MAX_DEPTH} levels",
        MAX_BYTES >> 20
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn dirs() -> (tempfile::TempDir, std::path::PathBuf, std::path::PathBuf) {
        let dir = tempfile::tempdir().unwrap();
        let (image, root) = (dir.path().join("image"), dir.path().join("root"));
        fs::create_dir_all(image.join("run")).unwrap();
        fs::create_dir_all(root.join("run")).unwrap();
        (dir, image, root)
    }

    #[test]
    fn directories_files_and_links_are_copied_with_their_modes() {
        let (_dir, image, root) = dirs();
        let run = image.join("run");
        fs::create_dir_all(run.join("app/sub")).unwrap();
        fs::write(run.join("app/keep"), "kept").unwrap();
        symlink("/etc/shadow", run.join("link")).unwrap();
        fs::set_permissions(run.join("app/keep"), Permissions::from_mode(0o640)).unwrap();
        fs::set_permissions(run.join("app"), Permissions::from_mode(0o2750)).unwrap();
        let mut log = Vec::new();
        copy_from_image(&image, &root, &mut |line| log.push(line));
        assert_eq!(log, [""; 0]);
        let copied = root.join("run");
        let mode = |name: &str| fs::metadata(copied.join(name)).unwrap().mode() & 0o7777;
        assert_eq!((mode("app"), mode("app/keep")), (0o2750, 0o640));
        assert!(copied.join("app/sub").is_dir());
        assert_eq!(fs::read_to_string(copied.join("app/keep")).unwrap(), "kept");
        assert_eq!(fs::read_link(copied.join("link")).unwrap(), Path::new("/etc/shadow"));
    }

    #[test]
    fn too_much_is_not_copied_and_logged() {
        let (_dir, image, root) = dirs();
        fs::write(image.join("run/small"), "x").unwrap();
        let file = fs::File::create(image.join("run/large")).unwrap();
        file.set_len(MAX_BYTES + 1).unwrap();
        let mut log = Vec::new();
        copy_from_image(&image, &root, &mut |line| log.push(line));
        let want = "cannot copy all of the image's /run: large: \
                    more than 4096 entries, 16 MiB or 32 levels";
        assert_eq!(log, [want]);
        assert!(root.join("run/small").exists() && !root.join("run/large").exists());
    }

    #[test]
    fn an_image_whose_run_is_a_link_has_nothing_to_copy() {
        let (_dir, image, root) = dirs();
        fs::remove_dir(image.join("run")).unwrap();
        symlink("/etc", image.join("run")).unwrap();
        copy_from_image(&image, &root, &mut |line| panic!("{line}"));
        assert_eq!(fs::read_dir(root.join("run")).unwrap().count(), 0);
    }
}
