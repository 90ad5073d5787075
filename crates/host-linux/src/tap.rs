//! Opening a new tap.

use rustix::fs::{Mode, OFlags};
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use worker::ports::PortError;

/// The device that makes taps.
pub(crate) const DEVICE: &str = "/dev/net/tun";

/// Makes a tap that lives as long as its descriptor (or a copy of it) is open.
/// Fails if there is an interface of that name. Frames carry a virtio header,
/// so that a VM can hand over checksums and large segments.
pub(crate) fn create(name: &str) -> Result<OwnedFd, PortError> {
    let fd =
        rustix::fs::open(DEVICE, OFlags::RDWR | OFlags::CLOEXEC, Mode::empty()).map_err(|err| {
            let remedy = match err {
                rustix::io::Errno::NOENT | rustix::io::Errno::NXIO | rustix::io::Errno::NODEV => {
                    "load the kernel module: `modprobe tun`"
                }
                _ => "run as root",
            };
            PortError::new(format!("open {DEVICE} ({remedy})"), io::Error::from(err))
        })?;
    set_interface(&fd, name).map_err(|err| {
        let remedy = match err.kind() {
            io::ErrorKind::PermissionDenied => " (it takes CAP_NET_ADMIN: run as root)",
            _ => "",
        };
        PortError::new(format!("create tap {name}{remedy}"), err)
    })?;
    Ok(fd)
}

fn set_interface(fd: &OwnedFd, name: &str) -> io::Result<()> {
    // SAFETY: `ifreq` is plain old data, for which zeros are a valid value.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    if name.len() >= request.ifr_name.len() {
        return Err(io::Error::other("interface name is too long"));
    }
    for (to, from) in request.ifr_name.iter_mut().zip(name.bytes()) {
        *to = from as libc::c_char;
    }
    let flags = libc::IFF_TAP | libc::IFF_NO_PI | libc::IFF_VNET_HDR | libc::IFF_TUN_EXCL;
    request.ifr_ifru.ifru_flags = flags as libc::c_short;
    // SAFETY: TUNSETIFF reads and writes one `ifreq`, which lives here.
    let answer = unsafe { libc::ioctl(fd.as_raw_fd(), libc::TUNSETIFF as _, &mut request) };
    if answer < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}
