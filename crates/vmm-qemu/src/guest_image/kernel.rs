//! The distribution's guest kernel and its modules.

use crate::guest_image::decompress::decompress;
use camino::{Utf8Path, Utf8PathBuf};
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use worker::ports::PortError;

/// Modules init loads before it opens the agent port, and those after, when it
/// has set the kernel to bind no devices until it is configured; what they
/// depend on comes by itself. A name that the kernel has built in, or optional
/// ones it does not have, are skipped.
const FIRST: [&str; 4] = ["virtio_ring", "virtio", "virtio_mmio", "virtio_console"];
const THEN: [&str; 12] = [
    "virtio_blk",
    "virtio_net",
    "virtio_rng",
    "virtio_balloon",
    "squashfs",
    "erofs",
    "overlay",
    "binfmt_misc",
    // For apps: FUSE file systems, VPNs, networks of containers.
    "fuse",
    "tun",
    "bridge",
    "wireguard",
];
/// Without these, built in or as module, nothing can be booted.
const NEEDED: [&str; 5] = ["virtio_mmio", "virtio_console", "virtio_blk", "squashfs", "overlay"];

/// A kernel that guests can boot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kernel {
    /// As `uname -r` prints in the guest.
    pub release: String,
    /// The compressed kernel.
    pub vmlinuz: Utf8PathBuf,
    /// `/lib/modules/<release>`.
    pub modules: Utf8PathBuf,
}

/// A module in the order of loading.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Module {
    /// Path below the modules' directory, as in `modules.dep`.
    pub path: String,
    /// Loaded before the agent port is opened.
    pub first: bool,
}

impl Module {
    /// File name without what a compression adds, such as `virtio_blk.ko`.
    pub fn file_name(&self) -> &str {
        let name = self.path.rsplit('/').next().unwrap_or(&self.path);
        name.find(".ko").map_or(name, |at| &name[..at + 3])
    }
}

/// The best kernel in `/boot` that has its modules in `/lib/modules`: one built
/// for guests before a general one, then the newest.
///
/// # Errors
/// There is none.
pub fn find() -> Result<Kernel, PortError> {
    find_in(Utf8Path::new("/boot"), Utf8Path::new("/lib/modules"))
}

fn find_in(boot: &Utf8Path, modules: &Utf8Path) -> Result<Kernel, PortError> {
    let entries = fs::read_dir(boot).map_err(|err| PortError::new(format!("read {boot}"), err))?;
    let names = entries.flatten().filter_map(|entry| entry.file_name().into_string().ok());
    let releases = names.filter_map(|name| name.strip_prefix("vmlinuz-").map(str::to_owned));
    let usable = releases.filter(|r| modules.join(r).join("modules.dep").exists());
    let best = usable.max_by_key(|release| preference(release));
    let release = best.ok_or_else(|| {
        PortError::plain(format!(
            "there is no guest kernel in {boot} with modules in {modules}; \
             install one with: apt install linux-image-cloud-amd64 (Ubuntu: linux-image-virtual)"
        ))
    })?;
    let (vmlinuz, modules) = (boot.join(format!("vmlinuz-{release}")), modules.join(&release));
    Ok(Kernel { release, vmlinuz, modules })
}

/// Greater is better: built for guests, then numbers compared as numbers.
fn preference(release: &str) -> (bool, Vec<u64>) {
    let for_guests = ["cloud", "virtual", "kvm"].iter().any(|word| release.contains(word));
    let numbers = release.split(|c: char| !c.is_ascii_digit()).filter_map(|n| n.parse().ok());
    (for_guests, numbers.collect())
}

impl Kernel {
    /// The modules guests need, in the order of loading.
    ///
    /// # Errors
    /// The lists of modules cannot be read, or the kernel lacks one that is
    /// needed.
    pub fn load_order(&self) -> Result<Vec<Module>, PortError> {
        load_order(&self.list("modules.dep")?, &self.list("modules.builtin")?).map_err(|missing| {
            PortError::plain(format!(
                "kernel {} has no {missing}, guests cannot boot it",
                self.release
            ))
        })
    }

    /// The content of a module, decompressed.
    ///
    /// # Errors
    /// It cannot be read or decompressed.
    pub fn read(&self, module: &Module) -> Result<Vec<u8>, PortError> {
        let path = self.modules.join(&module.path);
        let bytes = fs::read(&path).map_err(|err| PortError::new(format!("read {path}"), err))?;
        decompress(path.extension(), &bytes)
            .map_err(|err| PortError::new(format!("decompress {path}"), err))
    }

    fn list(&self, name: &str) -> Result<String, PortError> {
        let path = self.modules.join(name);
        fs::read_to_string(&path).map_err(|err| PortError::new(format!("read {path}"), err))
    }
}

/// The order of loading from `modules.dep` and `modules.builtin` (see their
/// manual pages), or the name of a needed one that is neither.
fn load_order(dep: &str, builtin: &str) -> Result<Vec<Module>, &'static str> {
    let depends: BTreeMap<String, (&str, Vec<&str>)> = dep
        .lines()
        .filter_map(|line| line.split_once(':'))
        .map(|(path, deps)| (name_of(path), (path, deps.split_whitespace().collect())))
        .collect();
    let builtin: BTreeSet<String> = builtin.lines().map(name_of).collect();
    let known = |name: &str| depends.contains_key(name) || builtin.contains(name);
    if let Some(missing) = NEEDED.into_iter().find(|name| !known(name)) {
        return Err(missing);
    }
    let mut order: Vec<Module> = Vec::new();
    let wanted = FIRST.map(|name| (name, true)).into_iter().chain(THEN.map(|name| (name, false)));
    for (name, first) in wanted {
        let Some((path, deps)) = depends.get(name) else { continue };
        // The list has what is needed last at its beginning: reversed it loads.
        for path in deps.iter().rev().chain([path]) {
            if !order.iter().any(|module| module.path == **path) {
                order.push(Module { path: (*path).to_owned(), first });
            }
        }
    }
    Ok(order)
}

/// `virtio_rng` for `kernel/drivers/char/hw_random/virtio-rng.ko.xz`.
fn name_of(path: &str) -> String {
    let file = path.rsplit('/').next().unwrap_or(path);
    file.split('.').next().unwrap_or(file).replace('-', "_")
}

#[cfg(test)]
mod tests {
    use super::*;
    use expect_test::expect;

    const DEP: &str = "\
kernel/drivers/virtio/virtio_mmio.ko.xz: kernel/drivers/virtio/virtio.ko.xz kernel/drivers/virtio/virtio_ring.ko.xz
kernel/drivers/virtio/virtio_ring.ko.xz:
kernel/drivers/virtio/virtio.ko.xz: kernel/drivers/virtio/virtio_ring.ko.xz
kernel/drivers/char/virtio_console.ko.xz: kernel/drivers/virtio/virtio.ko.xz kernel/drivers/virtio/virtio_ring.ko.xz
kernel/drivers/net/virtio_net.ko.xz: kernel/drivers/net/net_failover.ko.xz kernel/net/core/failover.ko.xz kernel/drivers/virtio/virtio.ko.xz kernel/drivers/virtio/virtio_ring.ko.xz
kernel/drivers/char/hw_random/virtio-rng.ko.xz: kernel/drivers/virtio/virtio.ko.xz kernel/drivers/virtio/virtio_ring.ko.xz
kernel/drivers/block/virtio_blk.ko.xz: kernel/drivers/virtio/virtio.ko.xz kernel/drivers/virtio/virtio_ring.ko.xz
kernel/fs/overlayfs/overlay.ko.xz:
";

    #[test]
    fn modules_are_loaded_after_those_they_need() {
        let order = load_order(DEP, "kernel/fs/squashfs/squashfs.ko\n").unwrap();
        let lines = order.iter().map(|m| format!("{} {}\n", m.file_name(), m.first));
        expect![[r#"
            virtio_ring.ko true
            virtio.ko true
            virtio_mmio.ko true
            virtio_console.ko true
            virtio_blk.ko false
            failover.ko false
            net_failover.ko false
            virtio_net.ko false
            virtio-rng.ko false
            overlay.ko false
        "#]]
        .assert_eq(&lines.collect::<String>());
    }

    #[test]
    fn a_kernel_without_a_needed_driver_is_refused() {
        assert_eq!(load_order(DEP, ""), Err("squashfs"));
    }

    #[test]
    fn a_kernel_for_guests_and_then_the_newest_is_chosen() {
        let temp = tempfile::tempdir().unwrap();
        let dir = Utf8Path::from_path(temp.path()).unwrap();
        for release in ["6.1.0-9-cloud-amd64", "6.1.0-56-cloud-amd64", "6.12.1-amd64"] {
            fs::write(dir.join(format!("vmlinuz-{release}")), "").unwrap();
            fs::create_dir(dir.join(release)).unwrap();
            fs::write(dir.join(release).join("modules.dep"), "").unwrap();
        }
        fs::write(dir.join("vmlinuz-9.9.9-cloud-amd64"), "without modules").unwrap();
        assert_eq!(find_in(dir, dir).unwrap().release, "6.1.0-56-cloud-amd64");
    }
}
