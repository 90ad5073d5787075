//! Kernel modules, in the two stages of `/modules/order`.
//!
//! Modules needed to open the agent port come first. The rest is loaded when the
//! port is open and devices are held (see `virtio`), so that drivers are there and
//! have not probed the devices of a template.

use rustix::fs::{Mode, OFlags};

/// Where the host's initramfs keeps modules.
const DIR: &str = "/modules";
/// The line between the two stages.
const DIVIDER: &str = "--";

/// Module files of both stages, in load order.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct ModuleOrder {
    /// Needed to open the agent port.
    pub(crate) early: Vec<String>,
    /// Loaded when the port is open.
    pub(crate) late: Vec<String>,
}

impl ModuleOrder {
    /// Reads `/modules/order`; a kernel with all drivers built in has none.
    pub(crate) fn read() -> Self {
        std::fs::read_to_string(format!("{DIR}/order")).map(|t| Self::parse(&t)).unwrap_or_default()
    }

    fn parse(text: &str) -> Self {
        let mut order = Self::default();
        let mut late = false;
        for line in text.lines().map(str::trim) {
            match line {
                "" => {}
                DIVIDER => late = true,
                comment if comment.starts_with('#') => {}
                name if late => order.late.push(name.to_owned()),
                name => order.early.push(name.to_owned()),
            }
        }
        order
    }
}

/// Loads modules and returns a warning for each that could not be loaded. A missing
/// module is no error here: the step that needs it fails with a better one.
pub(crate) fn load(names: &[String]) -> Vec<String> {
    let failed = |name: &String| {
        let err = load_one(name).err()?;
        Some(format!("cannot load kernel module {name}: {err}"))
    };
    names.iter().filter_map(failed).collect()
}

fn load_one(name: &str) -> rustix::io::Result<()> {
    let flags = OFlags::RDONLY | OFlags::CLOEXEC;
    let file = rustix::fs::open(format!("{DIR}/{name}"), flags, Mode::empty())?;
    match rustix::system::finit_module(&file, c"", 0) {
        Err(rustix::io::Errno::EXIST) => Ok(()),
        other => other,
    }
}

/// Frees the memory of the initramfs: modules and this program's file.
pub(crate) fn free_initramfs() {
    let _ = std::fs::remove_dir_all(DIR);
    let _ = std::fs::remove_file("/init");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_divider_splits_the_stages() {
        let order = ModuleOrder::parse("# why\nvirtio_ring.ko\nvirtio.ko\n\n--\n virtio_blk.ko\n");
        assert_eq!(order.early, ["virtio_ring.ko", "virtio.ko"]);
        assert_eq!(order.late, ["virtio_blk.ko"]);
    }

    #[test]
    fn without_a_divider_everything_is_early() {
        assert_eq!(ModuleOrder::parse("a.ko\r\nb.ko").early, ["a.ko", "b.ko"]);
        assert_eq!(ModuleOrder::parse(""), ModuleOrder::default());
    }
}
