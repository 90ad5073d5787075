//! Host and pid 1 of a guest, over one virtio-serial port named [`PORT`].
//!
//! Each message is one [`frame`]: a payload with a CRC-32C, COBS-encoded, between
//! zero bytes. The payload of the present version is CBOR (RFC 8949) with numbers
//! for variants and fields; see [`codec`] for how versions are distinguished.
//!
//! A session: the host connects and sends [`ToGuest::Hello`] with the highest and
//! the lowest version that it supports. Init ends the execs of any earlier session,
//! then answers [`ToHost::Welcome`] with the same session number, the version that
//! both use from then on, its [`Phase`] and the ports that listen. The host
//! ignores every frame before that welcome, except for log data.
//!
//! # How the protocol changes
//!
//! A VM runs the init that it was booted with, so a host meets inits of earlier
//! releases. Within a version, messages and optional fields (`Option`) may be
//! added: a reader that does not know them ignores them. A change beyond that is a new
//! version; the host keeps the codec of the version before (now [`v2`]) and the
//! frames recorded in `tests/frames`, which have to decode in every later release. Numbers of
//! variants and fields are never used again. The first two fields of a welcome
//! stay what they are in every version. A host that shares no version with a
//! guest leaves the VM alone and manages it through the hypervisor only.
//!
//! # Bounds
//!
//! A frame is at most [`MAX_FRAME`] bytes. Bulk data of an exec flows under credit
//! in both directions ([`WINDOW`] bytes to begin with), so neither reader ever
//! waits for a slow process or client. Log data has no credit: init keeps what the
//! host has not acknowledged ([`ToGuest::LogReceived`]) up to a limit, drops what
//! does not fit and reports how much it dropped.

pub mod codec;
pub mod frame;
#[cfg(test)]
mod fuzz_tests;
mod guest_config;
mod messages;
mod units;
pub mod v2;

pub use guest_config::*;
pub use messages::*;
pub use units::*;

/// Highest supported version of this protocol: the present one.
pub const HIGHEST: u16 = 3;
/// Lowest version that a host supports.
pub const LOWEST: u16 = v2::VERSION;
/// Name of the virtio-serial port.
pub const PORT: &str = "updraft.agent";
/// Longest payload of a frame, in bytes.
pub const MAX_FRAME: usize = 256 * 1024;
/// Longest bulk payload in one message, in bytes.
pub const MAX_CHUNK: usize = 32 * 1024;
/// Address at which init serves the Machines API within the guest, beside `/.fly/api`:
/// `_api.internal` in `/etc/hosts`. In the block of network 0 and machine 0, which no
/// machine has.
pub const API_ADDRESS: std::net::Ipv6Addr =
    std::net::Ipv6Addr::new(0xfdaa, 0, 0, 0, 0, 0, 0, 0x4280);
/// Its port (<https://fly.io/docs/machines/api/working-with-machines-api/>).
pub const API_PORT: u16 = 4280;
/// Where init keeps the machine's OpenID Connect token for AWS
/// (<https://fly.io/docs/security/openid-connect/>).
pub const OIDC_TOKEN_FILE: &str = "/.fly/oidc_token";
/// Most bytes a guest may send on one connection to `/.fly/api`: its requests are small.
pub const API_WINDOW: usize = 64 * 1024;
/// Most connections to `/.fly/api` at a time.
pub const API_CONNECTIONS: usize = 16;
/// Bytes each side of an exec stream may have under way before more credit.
pub const WINDOW: u32 = 256 * 1024;
