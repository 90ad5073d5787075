//! Loopback and `eth0`, configured over rtnetlink.

use guest_protocol::{API_ADDRESS, Net};
use netlink_packet_core::{
    NLM_F_ACK, NLM_F_CREATE, NLM_F_REPLACE, NLM_F_REQUEST, NetlinkHeader, NetlinkMessage,
    NetlinkPayload,
};
use netlink_packet_route::address::{AddressAttribute, AddressHeaderFlags, AddressMessage};
use netlink_packet_route::link::{LinkAttribute, LinkFlags, LinkMessage};
use netlink_packet_route::route::{
    RouteAddress, RouteAttribute, RouteFlags, RouteHeader, RouteMessage, RouteProtocol, RouteScope,
    RouteType,
};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};
use netlink_sys::{Socket, SocketAddr, protocols::NETLINK_ROUTE};
use std::io;
use std::net::IpAddr;
use std::os::fd::AsRawFd;

/// The interface of a guest.
pub(crate) const INTERFACE: &str = "eth0";

/// Loopback is always the first interface.
const LOOPBACK: u32 = 1;

/// An rtnetlink socket.
pub(crate) struct Netlink {
    socket: Socket,
    sequence: u32,
}

impl Netlink {
    fn open() -> io::Result<Self> {
        let mut socket = Socket::new(NETLINK_ROUTE)?;
        socket.bind_auto()?;
        socket.connect(&SocketAddr::new(0, 0))?;
        Ok(Self { socket, sequence: 0 })
    }

    /// Sends changes, all in one datagram, and waits for the kernel's answer.
    fn apply(&mut self, mut changes: Changes) -> Result<(), String> {
        let first = self.sequence.wrapping_add(1);
        let Some(last) = changes.0.last_mut() else { return Ok(()) };
        // Failures are always reported; one acknowledgement covers all changes before it.
        last.packet.header.flags |= NLM_F_ACK;
        let mut bytes = Vec::new();
        for Change { packet, .. } in &mut changes.0 {
            self.sequence = self.sequence.wrapping_add(1);
            packet.header.sequence_number = self.sequence;
            packet.finalize();
            let at = bytes.len();
            bytes.resize(at + packet.buffer_len().next_multiple_of(4), 0);
            packet.serialize(&mut bytes[at..]);
        }
        let cannot = |what: &str, err: io::Error| format!("cannot {what}: {err}");
        let talk = |err| cannot("use netlink", err);
        self.socket.send(&bytes, 0).map_err(talk)?;
        loop {
            let (answer, _) = self.socket.recv_from_full().map_err(talk)?;
            let sequence = number(&answer, 8).ok_or("netlink answers in pieces")?;
            let what = changes.0.get(sequence.wrapping_sub(first) as usize);
            let what = what.map_or("use netlink", |change| &change.what);
            parse_ack(&answer).map_err(|err| cannot(what, err))?;
            if sequence == self.sequence {
                return Ok(());
            }
        }
    }

    /// The index of an interface, if it is there.
    pub(crate) fn index(&self, name: &str) -> Option<u32> {
        // SAFETY: all zeros is a valid `ifreq`.
        let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
        for (to, from) in request.ifr_name.iter_mut().zip(name.bytes()).take(libc::IFNAMSIZ - 1) {
            *to = from as libc::c_char;
        }
        let fd = self.socket.as_raw_fd();
        // SAFETY: the request reads the name and writes the index.
        let index = unsafe {
            match libc::ioctl(fd, libc::SIOCGIFINDEX as _, &raw mut request) {
                0 => request.ifr_ifru.ifru_ifindex,
                _ => return None,
            }
        };
        u32::try_from(index).ok()
    }
}

/// A change of the network configuration.
struct Change {
    /// Its purpose, for the error message.
    what: String,
    packet: NetlinkMessage<RouteNetlinkMessage>,
}

#[derive(Default)]
struct Changes(Vec<Change>);

impl Changes {
    fn add(&mut self, what: String, extra: u16, message: RouteNetlinkMessage) {
        let mut header = NetlinkHeader::default();
        header.flags = NLM_F_REQUEST | extra;
        let packet = NetlinkMessage::new(header, NetlinkPayload::from(message));
        self.0.push(Change { what, packet });
    }

    /// Brings a link up. The kernel sets the attributes first.
    fn link_up(&mut self, index: u32, name: &str, attributes: Vec<LinkAttribute>) {
        let mut link = LinkMessage::default();
        link.header.index = index;
        link.header.flags = LinkFlags::Up;
        link.header.change_mask = LinkFlags::Up;
        link.attributes = attributes;
        self.add(format!("bring {name} up"), 0, RouteNetlinkMessage::SetLink(link));
    }

    fn add_address(&mut self, index: u32, address: IpAddr, prefix: u8) {
        let mut message = AddressMessage::default();
        message.header.family = family(address);
        message.header.prefix_len = prefix;
        message.header.index = index;
        if address.is_ipv6() {
            // Usable at once: the host allocates it to one machine only.
            message.header.flags = AddressHeaderFlags::Nodad;
        }
        message.attributes =
            vec![AddressAttribute::Local(address), AddressAttribute::Address(address)];
        let what = format!("add address {address}/{prefix}");
        self.add(what, NLM_F_CREATE | NLM_F_REPLACE, RouteNetlinkMessage::NewAddress(message));
    }

    fn add_default_route(&mut self, index: u32, gateway: IpAddr) {
        let via = match gateway {
            IpAddr::V4(address) => RouteAddress::Inet(address),
            IpAddr::V6(address) => RouteAddress::Inet6(address),
        };
        let mut message = RouteMessage::default();
        message.header = RouteHeader {
            address_family: family(gateway),
            table: RouteHeader::RT_TABLE_MAIN,
            protocol: RouteProtocol::Static,
            scope: RouteScope::Universe,
            kind: RouteType::Unicast,
            // Reached through this interface also when outside of the prefix.
            flags: RouteFlags::Onlink,
            ..RouteHeader::default()
        };
        message.attributes = vec![RouteAttribute::Gateway(via), RouteAttribute::Oif(index)];
        let what = format!("add the route via {gateway}");
        self.add(what, NLM_F_CREATE | NLM_F_REPLACE, RouteNetlinkMessage::NewRoute(message));
    }
}

/// Reads the kernel's answer to a change. By hand: the crate's parser covers every
/// kind of message and would be a third of this program.
fn parse_ack(answer: &[u8]) -> io::Result<()> {
    const ERROR: u16 = 2;
    let kind = answer.get(4..6).and_then(|b| b.try_into().ok()).map(u16::from_ne_bytes);
    match (kind, number(answer, 16).map(u32::cast_signed)) {
        (Some(ERROR), Some(0)) => Ok(()),
        (Some(ERROR), Some(code)) => Err(io::Error::from_raw_os_error(code.saturating_neg())),
        _ => Err(io::Error::other("unexpected answer")),
    }
}

fn number(answer: &[u8], at: usize) -> Option<u32> {
    answer.get(at..at + 4)?.try_into().ok().map(u32::from_ne_bytes)
}

fn family(address: IpAddr) -> AddressFamily {
    if address.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 }
}

/// The setup that needs no configuration: loopback, and the kernel's defaults for `eth0`.
/// What an app can do without is added to `warnings`.
pub(crate) fn before_config(warnings: &mut Vec<String>) -> Result<Netlink, String> {
    let mut netlink = Netlink::open().map_err(|err| format!("cannot open netlink: {err}"))?;
    let mut changes = Changes::default();
    changes.link_up(LOOPBACK, "lo", Vec::new());
    netlink.apply(changes)?;
    // Of its own: a kernel without IPv6 (`ipv6.disable=1`) refuses it.
    let mut changes = Changes::default();
    changes.add_address(LOOPBACK, API_ADDRESS.into(), 128);
    if let Err(err) = netlink.apply(changes) {
        warnings.push(format!("_api.internal cannot be reached: {err}"));
    }
    // Images that do not run as root may listen on port 80 all the same.
    let _ = std::fs::write("/proc/sys/net/ipv4/ip_unprivileged_port_start", "0");
    // All addresses come from the configuration, without duplicate detection. As
    // defaults, so that the start has less to do; a built-in driver has made eth0.
    for interface in ["default", INTERFACE] {
        for (key, value) in [("accept_ra", "0"), ("autoconf", "0"), ("accept_dad", "0")] {
            let _ = std::fs::write(format!("/proc/sys/net/ipv6/conf/{interface}/{key}"), value);
        }
    }
    Ok(netlink)
}

/// Sets the addresses of `eth0`, the MAC address first, and brings it up.
pub(crate) fn configure(netlink: &mut Netlink, net: &Net) -> Result<(), String> {
    let index = netlink.index(INTERFACE).ok_or_else(|| format!("{INTERFACE} does not exist"))?;
    let mut changes = Changes::default();
    let mut attributes = vec![LinkAttribute::Mtu(net.mtu.into())];
    if net.mac != [0; 6] {
        attributes.push(LinkAttribute::Address(net.mac.to_vec()));
    }
    changes.link_up(index, INTERFACE, attributes);
    let addresses = [
        (IpAddr::V4(net.ipv4), net.ipv4_prefix, IpAddr::V4(net.ipv4_gateway)),
        (IpAddr::V6(net.ipv6), net.ipv6_prefix, IpAddr::V6(net.ipv6_gateway)),
    ];
    for (address, prefix, gateway) in addresses {
        changes.add_address(index, address, prefix);
        if !gateway.is_unspecified() {
            changes.add_default_route(index, gateway);
        }
    }
    netlink.apply(changes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_answer_is_read() {
        let answer = |kind: u16, code: i32| {
            let mut bytes = vec![36, 0, 0, 0];
            bytes.extend(kind.to_ne_bytes());
            bytes.extend([0; 10]);
            bytes.extend(code.to_ne_bytes());
            bytes
        };
        assert!(parse_ack(&answer(2, 0)).is_ok());
        assert_eq!(parse_ack(&answer(2, -17)).unwrap_err().raw_os_error(), Some(17));
        assert!(parse_ack(&answer(3, 0)).is_err());
        assert!(parse_ack(&[0; 7]).is_err());
    }
}
