//! What a guest is to be and run.

use serde::{Deserialize, Serialize};
use std::net::{Ipv4Addr, Ipv6Addr};

/// Everything a fresh guest is told, once, over the agent port.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Orders {
    /// Host name, normally the machine's id.
    pub hostname: String,
    /// Content of `/etc/machine-id`, 32 hex digits: the same over the machine's
    /// life, another for each machine.
    pub machine_id: String,
    /// Nanoseconds since the epoch; the guest's clock is set to it.
    pub now: i64,
    /// 64 bytes for the kernel's entropy pool, credited.
    pub entropy: Vec<u8>,
    /// Device of the read-only root image and its file system.
    pub root: Device,
    /// Device of the writable layer (ext4, already made).
    pub scratch: Device,
    /// Network; `None` leaves only loopback.
    pub net: Option<Net>,
    /// Content of `/etc/resolv.conf`.
    pub resolv_conf: String,
    /// Content of `/etc/hosts`.
    pub hosts: String,
    /// Files to write before the main process starts.
    pub files: Vec<GuestFile>,
    /// The main process.
    pub main: Main,
    /// Swap to make, in MiB; 0 is none.
    pub swap_mib: u64,
    /// Bytes of log init may hold for a host that does not read.
    pub log_buffer: u32,
}

/// What a guest is told when it goes on after it was suspended.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Resume {
    /// Nanoseconds since the epoch; the guest's clock is set to it.
    pub now: i64,
    /// 64 bytes for the kernel's entropy pool, credited.
    pub entropy: Vec<u8>,
    /// Command to run after that, with the main process's user, environment and
    /// working directory; empty is none.
    pub hook: Vec<String>,
}

/// A block device and the file system on it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Device {
    /// Path, such as `/dev/vda`.
    pub path: String,
    /// `squashfs`, `erofs` or `ext4`.
    pub fstype: String,
}

/// Addresses of `eth0`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Net {
    /// MAC address. A guest of a template finds the template's in its device.
    pub mac: [u8; 6],
    /// Private IPv4 address.
    pub ipv4: Ipv4Addr,
    /// Its prefix length.
    pub ipv4_prefix: u8,
    /// Default gateway.
    pub ipv4_gateway: Ipv4Addr,
    /// 6PN address.
    pub ipv6: Ipv6Addr,
    /// Its prefix length.
    pub ipv6_prefix: u8,
    /// Default gateway.
    pub ipv6_gateway: Ipv6Addr,
    /// MTU of the interface.
    pub mtu: u16,
}

/// A file to write.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GuestFile {
    /// Absolute path.
    pub path: String,
    /// Permission bits.
    pub mode: u32,
    /// Content.
    #[serde(with = "serde_bytes")]
    pub content: Vec<u8>,
}

/// The main process.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Main {
    /// Program and arguments, overrides already applied (C020).
    pub argv: Vec<String>,
    /// Whole environment, except HOME and PATH if absent: init fills those in.
    pub env: Vec<(String, String)>,
    /// `user[:group]` of the image, names or numbers; empty is root.
    pub user: String,
    /// Working directory; empty is `/`; made if absent.
    pub workdir: String,
    /// Give it a terminal.
    pub tty: bool,
}
