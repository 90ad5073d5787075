//! The configuration of a guest.

use crate::{TempDir, Unit};
use minicbor::{Decode, Encode};
use std::fmt;
use std::net::{Ipv4Addr, Ipv6Addr};

/// Everything that a new guest is given, once, over the agent port.
#[derive(Clone, Debug, Default, PartialEq, Encode, Decode)]
#[cbor(map)]
pub struct GuestConfig {
    /// Host name, normally the machine's id.
    #[n(0)]
    pub hostname: String,
    /// Content of `/etc/machine-id`, 32 hex digits: the same over the machine's
    /// life, another for each machine.
    #[n(1)]
    pub machine_id: String,
    /// Nanoseconds since the epoch; the guest's clock is set to it.
    #[n(2)]
    pub now: i64,
    /// 64 bytes for the kernel's entropy pool, credited.
    #[cbor(n(3), with = "minicbor::bytes")]
    pub entropy: Vec<u8>,
    /// Device of the read-only root image and its file system.
    #[n(4)]
    pub root: Device,
    /// Device of the writable layer (ext4, already made).
    #[n(5)]
    pub scratch: Device,
    /// Network; `None` leaves only loopback.
    #[n(6)]
    pub net: Option<Net>,
    /// Content of `/etc/resolv.conf`.
    #[n(7)]
    pub resolv_conf: String,
    /// Content of `/etc/hosts`.
    #[n(8)]
    pub hosts: String,
    /// Files to write before the main process starts.
    #[n(9)]
    pub files: Vec<GuestFile>,
    /// The main process.
    #[n(10)]
    pub main: Main,
    /// Swap to make, in MiB; 0 is none.
    #[n(11)]
    pub swap_mib: u64,
    /// Bytes of log that init may hold for a host that does not read.
    #[n(12)]
    pub log_buffer: u32,
    /// Run instead of `main`, which then only gives commands their environment and
    /// directory. At most [`crate::MAX_UNITS`], all containers or none.
    #[n(13)]
    pub units: Option<Vec<Unit>>,
    /// Devices of the images of containers, beside `root`.
    #[n(14)]
    pub images: Option<Vec<Device>>,
    /// Directories that containers share.
    #[n(15)]
    pub volumes: Option<Vec<TempDir>>,
    /// Audience of the OpenID Connect token that init keeps in [`crate::OIDC_TOKEN_FILE`];
    /// `None` is no token.
    #[n(16)]
    pub oidc_audience: Option<String>,
    /// Volumes. A guest that cannot mount one of them refuses its configuration.
    #[n(17)]
    pub mounts: Option<Vec<VolumeMount>>,
}

/// A volume in the guest's file tree.
#[derive(Clone, Debug, Default, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct VolumeMount {
    /// Its device, and the file system on it; `raw` is none: then `path` is a link to the
    /// device.
    #[n(0)]
    pub device: Device,
    /// Absolute path. Its directory is made if it is absent, and belongs to the user of the
    /// main process.
    #[n(1)]
    pub path: String,
}

/// The data that a guest gets when it is resumed after a suspend.
#[derive(Clone, Debug, Default, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct Resume {
    /// Nanoseconds since the epoch; the guest's clock is set to it.
    #[n(0)]
    pub now: i64,
    /// 64 bytes for the kernel's entropy pool, credited.
    #[cbor(n(1), with = "minicbor::bytes")]
    pub entropy: Vec<u8>,
    /// Command to run after that, with the main process's user, environment and
    /// working directory; empty is none.
    #[n(2)]
    pub hook: Vec<String>,
}

/// A block device and the file system on it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct Device {
    /// Path, such as `/dev/vda`.
    #[n(0)]
    pub path: String,
    /// `squashfs`, `erofs` or `ext4`.
    #[n(1)]
    pub fstype: String,
}

/// Addresses of `eth0`.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct Net {
    /// MAC address. A guest of a template finds the template's in its device.
    #[n(0)]
    pub mac: [u8; 6],
    /// Private IPv4 address.
    #[n(1)]
    pub ipv4: Ipv4Addr,
    /// Its prefix length.
    #[n(2)]
    pub ipv4_prefix: u8,
    /// Default gateway.
    #[n(3)]
    pub ipv4_gateway: Ipv4Addr,
    /// 6PN address.
    #[n(4)]
    pub ipv6: Ipv6Addr,
    /// Its prefix length.
    #[n(5)]
    pub ipv6_prefix: u8,
    /// Default gateway.
    #[n(6)]
    pub ipv6_gateway: Ipv6Addr,
    /// MTU of the interface.
    #[n(7)]
    pub mtu: u16,
}

/// A file to write. Its content may be secret: `Debug` does not show it.
#[derive(Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct GuestFile {
    /// Absolute path.
    #[n(0)]
    pub path: String,
    /// Permission bits.
    #[n(1)]
    pub mode: u32,
    /// Content.
    #[cbor(n(2), with = "minicbor::bytes")]
    pub content: Vec<u8>,
}

/// The main process. Values of its environment may be secret: `Debug` does not show them.
#[derive(Clone, Default, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct Main {
    /// Program and arguments, overrides of the machine config already applied.
    #[n(0)]
    pub argv: Vec<String>,
    /// Whole environment, except HOME and PATH if absent: init fills those in.
    #[n(1)]
    pub env: Vec<(String, String)>,
    /// `user[:group]` of the image, names or numbers; empty is root.
    #[n(2)]
    pub user: String,
    /// Working directory; empty is `/`; made if absent.
    #[n(3)]
    pub workdir: String,
    /// Give it a terminal.
    #[n(4)]
    pub tty: bool,
}

impl fmt::Debug for GuestFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = f.debug_struct("GuestFile");
        shown.field("path", &self.path).field("mode", &self.mode);
        shown.field("bytes", &self.content.len()).finish_non_exhaustive()
    }
}

impl fmt::Debug for Main {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<&str> = self.env.iter().map(|(name, _)| name.as_str()).collect();
        let mut shown = f.debug_struct("Main");
        shown.field("argv", &self.argv).field("env", &names).field("user", &self.user);
        shown.field("workdir", &self.workdir).field("tty", &self.tty).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_value_of_the_environment_or_a_file_is_shown() {
        let config = GuestConfig {
            main: Main { env: vec![("NAME".into(), "hunter2".into())], ..Main::default() },
            files: vec![GuestFile { path: "/f".into(), mode: 0o600, content: b"hunter2".to_vec() }],
            ..GuestConfig::default()
        };
        let shown = format!("{config:?}");
        assert!(shown.contains("NAME") && shown.contains("/f"), "{shown}");
        assert!(!shown.contains("hunter2") && !shown.contains("104, 117"), "{shown}");
    }
}
