//! The launch specification that the daemon sends to the launcher, and how the launcher reports a failure.

use camino::Utf8PathBuf;
use serde::{Deserialize, Serialize};
use std::io;

/// Guest kernel, as seen from inside.
pub(crate) const VMLINUZ: &str = "/vm/vmlinuz";
/// Guest initramfs, as seen from inside.
pub(crate) const INITRAMFS: &str = "/vm/initramfs";

/// Descriptors that QEMU holds, beside 0 (`/dev/null`), 1 and 2 (its log).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Fd {
    /// Listening socket of the agent port.
    Agent,
    /// Listening socket of the monitor.
    Qmp,
    /// Root image, read-only.
    Root,
    /// Scratch image.
    Scratch,
    /// Lock of the user id.
    UidLock,
    /// The tap; absent without network.
    Tap,
    /// The guest's memory.
    Ram,
    /// Saved state of the devices; absent if the guest boots.
    State,
    /// A further image, read-only.
    Image(u8),
    /// The disk of a volume.
    Volume(u8),
}

impl Fd {
    /// Its number in QEMU.
    pub(crate) fn number(self) -> i32 {
        match self {
            Self::Agent => 3,
            Self::Qmp => 4,
            Self::Root => 5,
            Self::Scratch => 6,
            Self::UidLock => 7,
            Self::Tap => 8,
            Self::Ram => 9,
            Self::State => 10,
            Self::Image(image) => 11 + i32::from(image),
            // Behind the images, of which there are fewer than 21.
            Self::Volume(volume) => 32 + i32::from(volume),
        }
    }
}

/// The process that the launcher is to set up and start.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Spec {
    pub(crate) program: Utf8PathBuf,
    pub(crate) args: Vec<String>,
    /// Files shown inside, read-only: host path and path inside.
    pub(crate) files: Vec<(Utf8PathBuf, Utf8PathBuf)>,
    /// Shows `/dev/kvm` inside.
    pub(crate) kvm: bool,
    pub(crate) uid_base: u32,
    pub(crate) uid_count: u32,
    /// No file grows beyond, in bytes: the size of its largest disk.
    pub(crate) file_size: u64,
    /// Most threads of the VM's user.
    pub(crate) threads: u64,
    /// The meaning of the message's descriptors, in their order.
    pub(crate) fds: Vec<Fd>,
    /// The memory is this VM's alone and is given to its user. What several VMs
    /// share is sealed against writing by any process.
    pub(crate) own_memory: bool,
}

/// The failed step and its reason, for the log that the daemon reads.
pub(super) struct Problem(pub(super) String);

pub(super) trait Attempt<T> {
    fn attempt(self, what: impl std::fmt::Display) -> Result<T, Problem>;
}

impl<T, E: Into<io::Error>> Attempt<T> for Result<T, E> {
    fn attempt(self, what: impl std::fmt::Display) -> Result<T, Problem> {
        self.map_err(|err| Problem(format!("{what}: {}", err.into())))
    }
}
