//! Loopback and `eth0`, over netlink.

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
use wire::guest::Net;

/// The interface of a guest.
pub(crate) const INTERFACE: &str = "eth0";

/// Loopback is always the first interface.
const LOOPBACK: u32 = 1;

/// A conversation with the kernel, one question at a time.
struct Netlink {
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

    /// Asks for one change and waits for the kernel's word on it.
    fn ask(&mut self, extra: u16, message: RouteNetlinkMessage) -> io::Result<()> {
        self.sequence += 1;
        let mut header = NetlinkHeader::default();
        header.flags = NLM_F_REQUEST | NLM_F_ACK | extra;
        header.sequence_number = self.sequence;
        let mut packet = NetlinkMessage::new(header, NetlinkPayload::from(message));
        packet.finalize();
        let mut bytes = vec![0; packet.buffer_len()];
        packet.serialize(&mut bytes);
        self.socket.send(&bytes, 0)?;
        let (answer, _) = self.socket.recv_from_full()?;
        verdict(&answer)
    }

    fn link_up(&mut self, index: u32, mtu: Option<u16>) -> io::Result<()> {
        let mut link = LinkMessage::default();
        link.header.index = index;
        link.header.flags = LinkFlags::Up;
        link.header.change_mask = LinkFlags::Up;
        link.attributes.extend(mtu.map(|mtu| LinkAttribute::Mtu(mtu.into())));
        self.ask(0, RouteNetlinkMessage::SetLink(link))
    }

    fn add_address(&mut self, index: u32, address: IpAddr, prefix: u8) -> io::Result<()> {
        let mut message = AddressMessage::default();
        message.header.family = family(address);
        message.header.prefix_len = prefix;
        message.header.index = index;
        if address.is_ipv6() {
            // Usable at once: the host has given it to nobody else.
            message.header.flags = AddressHeaderFlags::Nodad;
        }
        message.attributes =
            vec![AddressAttribute::Local(address), AddressAttribute::Address(address)];
        self.ask(NLM_F_CREATE | NLM_F_REPLACE, RouteNetlinkMessage::NewAddress(message))
    }

    fn add_default_route(&mut self, index: u32, gateway: IpAddr) -> io::Result<()> {
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
        self.ask(NLM_F_CREATE | NLM_F_REPLACE, RouteNetlinkMessage::NewRoute(message))
    }
}

/// The kernel's word on a change. Read by hand: the library's parser knows every
/// message there is and would be a third of this program.
fn verdict(answer: &[u8]) -> io::Result<()> {
    const ERROR: u16 = 2;
    let kind = answer.get(4..6).and_then(|b| b.try_into().ok()).map(u16::from_ne_bytes);
    let code = answer.get(16..20).and_then(|b| b.try_into().ok()).map(i32::from_ne_bytes);
    match (kind, code) {
        (Some(ERROR), Some(0)) => Ok(()),
        (Some(ERROR), Some(code)) => Err(io::Error::from_raw_os_error(code.saturating_neg())),
        _ => Err(io::Error::other("unexpected answer")),
    }
}

fn family(address: IpAddr) -> AddressFamily {
    if address.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 }
}

/// Whether the network driver has made the interface; gives its index.
pub(crate) fn interface_index() -> Option<u32> {
    let text = std::fs::read_to_string(format!("/sys/class/net/{INTERFACE}/ifindex")).ok()?;
    text.trim().parse().ok()
}

/// Brings loopback up, and `eth0` with the addresses of `net`.
pub(crate) fn configure(net: Option<&Net>) -> Result<(), String> {
    let mut netlink = Netlink::open().map_err(|err| format!("cannot open netlink: {err}"))?;
    netlink.link_up(LOOPBACK, None).map_err(|err| format!("cannot bring lo up: {err}"))?;
    // Images that run as a user listen on port 80 all the same.
    let _ = std::fs::write("/proc/sys/net/ipv4/ip_unprivileged_port_start", "0");
    let Some(net) = net else { return Ok(()) };
    let index = interface_index().ok_or_else(|| format!("{INTERFACE} is not there"))?;
    // All addresses come from the orders, and none is doubted.
    for (key, value) in [("accept_ra", "0"), ("autoconf", "0"), ("accept_dad", "0")] {
        let _ = std::fs::write(format!("/proc/sys/net/ipv6/conf/{INTERFACE}/{key}"), value);
    }
    let cannot = |what: String| move |err: io::Error| format!("cannot {what}: {err}");
    netlink.link_up(index, Some(net.mtu)).map_err(cannot(format!("bring {INTERFACE} up")))?;
    let addresses = [
        (IpAddr::V4(net.ipv4), net.ipv4_prefix, IpAddr::V4(net.ipv4_gateway)),
        (IpAddr::V6(net.ipv6), net.ipv6_prefix, IpAddr::V6(net.ipv6_gateway)),
    ];
    for (address, prefix, gateway) in addresses {
        netlink
            .add_address(index, address, prefix)
            .map_err(cannot(format!("add address {address}/{prefix}")))?;
        if !gateway.is_unspecified() {
            netlink
                .add_default_route(index, gateway)
                .map_err(cannot(format!("add the route via {gateway}")))?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_verdict_is_read() {
        let answer = |kind: u16, code: i32| {
            let mut bytes = vec![36, 0, 0, 0];
            bytes.extend(kind.to_ne_bytes());
            bytes.extend([0; 10]);
            bytes.extend(code.to_ne_bytes());
            bytes
        };
        assert!(verdict(&answer(2, 0)).is_ok());
        assert_eq!(verdict(&answer(2, -17)).unwrap_err().raw_os_error(), Some(17));
        assert!(verdict(&answer(3, 0)).is_err());
        assert!(verdict(&[0; 7]).is_err());
    }
}
