//! Taps by their descriptors. See
//! <https://docs.kernel.org/networking/tuntap.html>.

use rustix::fs::{Mode, OFlags};
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use worker::ports::PortError;

/// The device that makes taps.
pub(crate) const DEVICE: &str = "/dev/net/tun";

/// More frames than the queue of a tap can hold (1000).
const MAX_QUEUED: usize = 4096;

/// Creates a tap in the network namespace of the calling thread. It exists as
/// long as its descriptor, or a copy of it, is open. Fails if there is an
/// interface of that name. Frames carry a virtio header, so that a VM can leave
/// checksums and segmentation to the kernel.
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
    let mut request = empty_request();
    if name.len() >= request.ifr_name.len() {
        return Err(io::Error::other("interface name is too long"));
    }
    for (to, from) in request.ifr_name.iter_mut().zip(name.bytes()) {
        *to = from as libc::c_char;
    }
    let flags = libc::IFF_TAP | libc::IFF_NO_PI | libc::IFF_VNET_HDR | libc::IFF_TUN_EXCL;
    request.ifr_ifru.ifru_flags = flags as libc::c_short;
    ioctl(fd, libc::TUNSETIFF, &mut request)
}

/// Resets what a VM can change about its tap with the descriptor alone, without
/// privileges. `mac` is the address of the gateway's end.
///
/// A tap with one queue that is up refuses changes of its flags, queues and link
/// type; its owner has no effect while the queue is taken.
pub(crate) fn reset(fd: &OwnedFd, mac: [u8; 6]) -> io::Result<()> {
    ioctl_number(fd, libc::TUNSETPERSIST, 0)?;
    ioctl_number(fd, libc::TUNSETOFFLOAD, 0)?;
    // `struct virtio_net_hdr` alone, in the host's byte order.
    ioctl(fd, libc::TUNSETVNETHDRSZ, &mut 10_i32)?;
    ioctl(fd, libc::TUNSETVNETLE, &mut 0_i32)?;
    let mut unlimited = i32::MAX;
    ioctl(fd, libc::TUNSETSNDBUF, &mut unlimited)?;
    // `struct tun_filter` with no flags and no addresses: off.
    ioctl(fd, libc::TUNSETTXFILTER, &mut [0_u16; 2])?;
    ioctl(fd, libc::TUNDETACHFILTER, &mut [0_u64; 2])?;
    ioctl(fd, libc::TUNSETSTEERINGEBPF, &mut -1_i32)?;
    ioctl(fd, libc::TUNSETFILTEREBPF, &mut -1_i32)?;
    ioctl(fd, libc::TUNSETCARRIER, &mut 1_i32)?;
    set_mac(fd, mac)
}

/// Sets the MAC address if it differs: a change empties the neighbour table.
fn set_mac(fd: &OwnedFd, mac: [u8; 6]) -> io::Result<()> {
    let mut request = empty_request();
    ioctl(fd, libc::SIOCGIFHWADDR, &mut request)?;
    // SAFETY: the kernel has filled in this part, and any bytes are valid in it.
    let mut address = unsafe { request.ifr_ifru.ifru_hwaddr };
    let wanted = mac.map(|byte| byte as libc::c_char);
    if address.sa_data[..6] == wanted {
        return Ok(());
    }
    address.sa_data[..6].copy_from_slice(&wanted);
    request.ifr_ifru.ifru_hwaddr = address;
    ioctl(fd, libc::SIOCSIFHWADDR, &mut request)
}

/// Discards the frames in the queue of a tap. Fails if the interface is gone.
pub(crate) fn drain(fd: &OwnedFd) -> io::Result<()> {
    rustix::fs::fcntl_setfl(fd, OFlags::NONBLOCK)?;
    // A short read discards the rest of its frame.
    let mut frame = [0; 64];
    for _ in 0..MAX_QUEUED {
        match rustix::io::read(fd, &mut frame) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            // The flags of a new descriptor; a VM may also have asked for signals.
            Err(rustix::io::Errno::AGAIN) => {
                return Ok(rustix::fs::fcntl_setfl(fd, OFlags::empty())?);
            }
            Err(err) => return Err(err.into()),
        }
    }
    Err(io::Error::other("its queue does not become empty"))
}

fn empty_request() -> libc::ifreq {
    // SAFETY: `ifreq` is plain old data, for which zeros are a valid value.
    unsafe { std::mem::zeroed() }
}

fn ioctl<T>(fd: &OwnedFd, request: libc::Ioctl, argument: &mut T) -> io::Result<()> {
    // SAFETY: every request here reads and writes at most the type its caller
    // gives it, which lives here.
    checked(unsafe { libc::ioctl(fd.as_raw_fd(), request, std::ptr::from_mut(argument)) })
}

fn ioctl_number(fd: &OwnedFd, request: libc::Ioctl, number: libc::c_ulong) -> io::Result<()> {
    // SAFETY: these requests take a number and touch no memory of ours.
    checked(unsafe { libc::ioctl(fd.as_raw_fd(), request, number) })
}

fn checked(result: libc::c_int) -> io::Result<()> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}
