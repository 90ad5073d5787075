//! The initramfs of a guest: our init and the kernel modules it loads.
//!
//! Not compressed: unpacking costs an emulated guest more than reading does.

use crate::config::GuestImage;
use crate::guest_image::kernel::{Kernel, Module};
use camino::Utf8Path;
use cpio::newc::{Builder, trailer};
use sha2::{Digest, Sha256};
use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::PermissionsExt;
use worker::ports::PortError;

/// Begins the names of what we make, with the version of its layout.
const PREFIX: &str = "guest-2-";

/// Makes kernel and initramfs for guests below `cache`, or takes those that are
/// there for the same kernel and init; removes older ones. A guest that runs
/// has read them already.
///
/// # Errors
/// The kernel's files cannot be read, or the cache cannot be written.
pub fn prepare(cache: &Utf8Path, kernel: &Kernel, init: &[u8]) -> Result<GuestImage, PortError> {
    let name = format!("{PREFIX}{}", key(kernel, init)?);
    let dir = cache.join(&name);
    let image = GuestImage { vmlinuz: dir.join("vmlinuz"), initramfs: dir.join("initramfs") };
    if image.vmlinuz.exists() && image.initramfs.exists() {
        return Ok(image);
    }
    let modules = kernel.load_order()?;
    let contents = modules.iter().map(|m| kernel.read(m)).collect::<Result<Vec<_>, _>>()?;
    let failed = |err| PortError::new(format!("write guest image {dir}"), err);
    let bytes = archive(init, &modules, &contents).map_err(failed)?;
    let vmlinuz = fs::read(&kernel.vmlinuz)
        .map_err(|err| PortError::new(format!("read {}", kernel.vmlinuz), err))?;
    // Copied, since some distributions let only root read their kernels.
    store(&dir, &image, &vmlinuz, &bytes).map_err(failed)?;
    remove_others(cache, &name);
    Ok(image)
}

fn key(kernel: &Kernel, init: &[u8]) -> Result<String, PortError> {
    let failed = |err| PortError::new(format!("look at {}", kernel.vmlinuz), err);
    // A distribution may rebuild a kernel under its old name.
    let found = fs::metadata(&kernel.vmlinuz).map_err(failed)?;
    let built = found.modified().map_err(failed)?;
    let mut hash = Sha256::new();
    hash.update(format!("{} {} {built:?} {}\n", kernel.vmlinuz, found.len(), kernel.release));
    hash.update(init);
    Ok(hex::encode(&hash.finalize()[..12]))
}

fn store(dir: &Utf8Path, image: &GuestImage, vmlinuz: &[u8], initramfs: &[u8]) -> io::Result<()> {
    fs::create_dir_all(dir)?;
    fs::set_permissions(dir, fs::Permissions::from_mode(0o755))?;
    rt::fs::write_atomic(image.vmlinuz.as_std_path(), vmlinuz, 0o644)?;
    rt::fs::write_atomic(image.initramfs.as_std_path(), initramfs, 0o644)
}

fn remove_others(cache: &Utf8Path, keep: &str) {
    for entry in fs::read_dir(cache).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let ours = name.to_str().is_some_and(|name| name.starts_with(PREFIX) && name != keep);
        if ours && let Err(err) = fs::remove_dir_all(entry.path()) {
            tracing::warn!(path = ?entry.path(), error = %rt::chain(&err), "old guest image stays");
        }
    }
}

/// The archive in the kernel's own format (newc).
fn archive(init: &[u8], modules: &[Module], contents: &[Vec<u8>]) -> io::Result<Vec<u8>> {
    let mut out = Archive { bytes: Vec::new(), entries: 0 };
    for name in ["dev", "modules"] {
        out.add(Builder::new(name).mode(0o040_755).nlink(2), b"")?;
    }
    // The kernel opens it for init before anything could be mounted.
    out.add(Builder::new("dev/console").mode(0o020_600).rdev_major(5).rdev_minor(1), b"")?;
    out.add(Builder::new("init").mode(0o100_755), init)?;
    out.add(Builder::new("modules/order").mode(0o100_644), order(modules).as_bytes())?;
    for (module, content) in modules.iter().zip(contents) {
        let name = format!("modules/{}", module.file_name());
        out.add(Builder::new(&name).mode(0o100_644), content)?;
    }
    trailer(out.bytes)
}

/// File names in the order of loading; `--` ends what is loaded before the
/// agent port is opened.
fn order(modules: &[Module]) -> String {
    let lines = |first: bool| {
        let stage = modules.iter().filter(move |m| m.first == first);
        stage.map(|m| format!("{}\n", m.file_name())).collect::<String>()
    };
    format!("{}--\n{}", lines(true), lines(false))
}

struct Archive {
    bytes: Vec<u8>,
    entries: u32,
}

impl Archive {
    fn add(&mut self, entry: Builder, content: &[u8]) -> io::Result<()> {
        self.entries += 1;
        let size = u32::try_from(content.len()).map_err(io::Error::other)?;
        let entry = entry.ino(self.entries);
        let mut writer = entry.write(std::mem::take(&mut self.bytes), size);
        writer.write_all(content)?;
        self.bytes = writer.finish()?;
        Ok(())
    }
}

/// An archive of an init alone, for the probe.
pub(crate) fn archive_of(init: &[u8]) -> io::Result<Vec<u8>> {
    archive(init, &[], &[])
}

#[cfg(test)]
mod tests {
    use super::*;
    use expect_test::expect;

    #[test]
    fn the_archive_has_init_and_modules() {
        let module = |name: &str, first| Module { path: format!("kernel/{name}.ko.xz"), first };
        let modules = [module("virtio", true), module("overlay", false)];
        let bytes = archive(b"ELF", &modules, &[b"one".to_vec(), b"three".to_vec()]).unwrap();
        let (mut rest, mut text) = (&bytes[..], String::new());
        loop {
            let mut reader = cpio::NewcReader::new(rest).unwrap();
            let mut content = String::new();
            io::Read::read_to_string(&mut reader, &mut content).unwrap();
            let entry = reader.entry();
            if entry.is_trailer() {
                break;
            }
            let device = (entry.rdev_major(), entry.rdev_minor());
            text.push_str(&format!("{:o} {} {device:?} {content:?}\n", entry.mode(), entry.name()));
            rest = reader.finish().unwrap();
        }
        expect![[r#"
            40755 dev (0, 0) ""
            40755 modules (0, 0) ""
            20600 dev/console (5, 1) ""
            100755 init (0, 0) "ELF"
            100644 modules/order (0, 0) "virtio.ko\n--\noverlay.ko\n"
            100644 modules/virtio.ko (0, 0) "one"
            100644 modules/overlay.ko (0, 0) "three"
        "#]]
        .assert_eq(&text);
    }
}
