//! Interfaces and their addresses, over rtnetlink.

use crate::netlink::{ACK, CREATE, DUMP, Messages, Netlink, REPLACE, REQUEST, text_of};
use model::address::{Addresses, IPV6_BLOCK, Ipv4Pool};
use netlink_packet_core::Emitable;
use netlink_packet_route::AddressFamily;
use netlink_packet_route::address::{
    AddressAttribute, AddressFlags, AddressHeaderFlags, AddressMessage,
};
use netlink_packet_route::link::{LinkAttribute, LinkFlags, LinkMessage};
use netlink_packet_route::neighbour::{NeighbourAttribute, NeighbourMessage, NeighbourState};
use netlink_sys::protocols::NETLINK_ROUTE;
use rustix::net::{AddressFamily as Family, SocketFlags, SocketType, netdevice, socket_with};
use std::io;
use std::net::{IpAddr, Ipv6Addr};
use std::os::fd::OwnedFd;
use worker::ports::PortError;

/// The host's link-local address on every tap: Linux asks for a neighbour on
/// behalf of somebody else (another guest, the world) only from such a one.
const LINK_LOCAL: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 1);

// `linux/rtnetlink.h`, `linux/if_link.h`.
const DEL_LINK: u16 = 17;
const GET_LINK: u16 = 18;
const SET_LINK: u16 = 19;
const NEW_ADDRESS: u16 = 20;
const NEW_NEIGHBOUR: u16 = 28;
const LINK_HEADER: usize = 16;
const LINK_NAME: u16 = 3;

/// The interfaces of the network namespace of the thread that opened it.
#[derive(Debug)]
pub(crate) struct Links {
    netlink: Netlink,
    /// Any socket can be asked for an interface by name.
    socket: OwnedFd,
}

/// An interface.
#[derive(Debug, Clone)]
pub(crate) struct Interface {
    pub(crate) name: String,
    pub(crate) index: u32,
}

impl Links {
    pub(crate) fn open() -> Result<Self, PortError> {
        let netlink = Netlink::open(NETLINK_ROUTE)
            .map_err(|err| PortError::new("open a netlink socket", err))?;
        let socket = socket_with(Family::INET, SocketType::DGRAM, SocketFlags::CLOEXEC, None)
            .map_err(|err| PortError::new("open a socket", io::Error::from(err)))?;
        Ok(Self { netlink, socket })
    }

    /// The interface of that name, if there is one.
    pub(crate) fn find(&self, name: &str) -> Result<Option<Interface>, PortError> {
        match netdevice::name_to_index(&self.socket, name) {
            Ok(index) => Ok(Some(Interface { name: name.to_owned(), index })),
            Err(rustix::io::Errno::NODEV) => Ok(None),
            Err(err) => {
                let err = io::Error::from(err);
                Err(PortError::new(format!("look up interface {name}"), err))
            }
        }
    }

    /// Names of all interfaces.
    pub(crate) fn names(&self) -> Result<Vec<String>, PortError> {
        let mut question = Messages::default();
        question.push(GET_LINK, REQUEST | DUMP, |body| body.fixed(&[0; LINK_HEADER]));
        let mut names = Vec::new();
        let listed = self.netlink.list(question, |link| {
            let name = link.get(LINK_HEADER..).and_then(|all| text_of(all, LINK_NAME));
            names.extend(name.map(str::to_owned));
        });
        listed.map_err(|err| PortError::new("list interfaces", err))?;
        names.sort();
        names.dedup();
        Ok(names)
    }

    /// Removes an interface; one that is gone is fine.
    pub(crate) fn delete(&self, link: &Interface) -> Result<(), PortError> {
        let mut message = LinkMessage::default();
        message.header.index = link.index;
        let mut question = Messages::default();
        question.push(DEL_LINK, REQUEST | ACK, |body| body.fixed(&emitted(&message)));
        match self.netlink.ask(question) {
            Err(err) if err.raw_os_error() != Some(libc::ENODEV) => {
                Err(PortError::new(format!("remove interface {}", link.name), err))
            }
            _ => Ok(()),
        }
    }

    /// Gives a tap the host's addresses (those that are there already stay), its
    /// MAC address and the MTU, and brings it up.
    pub(crate) fn bring_up(
        &self,
        tap: &Interface,
        to: &Addresses,
        mac: [u8; 6],
        mtu: u32,
    ) -> Result<(), PortError> {
        let ends: [(IpAddr, u8); 3] = [
            (to.ipv4_gateway.into(), Ipv4Pool::BLOCK),
            (to.ipv6_gateway.into(), IPV6_BLOCK),
            (LINK_LOCAL.into(), 64),
        ];
        let mut question = Messages::default();
        for (address, length) in ends {
            let flags = REQUEST | ACK | CREATE | REPLACE;
            let message = address_of(tap.index, address, length);
            question.push(NEW_ADDRESS, flags, |body| body.fixed(&emitted(&message)));
        }
        let mut message = LinkMessage::default();
        message.header.index = tap.index;
        message.header.flags = LinkFlags::Up;
        message.header.change_mask = LinkFlags::Up;
        message.attributes = vec![LinkAttribute::Address(mac.to_vec()), LinkAttribute::Mtu(mtu)];
        question.push(SET_LINK, REQUEST | ACK, |body| body.fixed(&emitted(&message)));
        // Known for good: a first packet waits for no answer of a guest that is
        // just coming up, and is not lost for a second if the guest misses the question.
        for address in [IpAddr::V4(to.ipv4), IpAddr::V6(to.ipv6)] {
            let message = neighbour(tap.index, address, to.mac);
            let flags = REQUEST | ACK | CREATE | REPLACE;
            question.push(NEW_NEIGHBOUR, flags, |body| body.fixed(&emitted(&message)));
        }
        self.netlink.ask(question).map_err(|err| {
            let ends = ends.map(|(address, length)| format!("{address}/{length}")).join(", ");
            PortError::new(format!("bring up {} with MTU {mtu} and {ends}", tap.name), err)
        })
    }
}

fn neighbour(index: u32, address: IpAddr, mac: [u8; 6]) -> NeighbourMessage {
    let mut message = NeighbourMessage::default();
    message.header.family =
        if address.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 };
    message.header.ifindex = index;
    message.header.state = NeighbourState::Permanent;
    message.attributes = vec![
        NeighbourAttribute::Destination(address.into()),
        NeighbourAttribute::LinkLayerAddress(mac.to_vec()),
    ];
    message
}

fn address_of(index: u32, address: IpAddr, length: u8) -> AddressMessage {
    let mut message = AddressMessage::default();
    message.header.family =
        if address.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 };
    message.header.prefix_len = length;
    message.header.index = index;
    // Usable at once: nobody else can have it.
    message.header.flags = AddressHeaderFlags::Nodad;
    message.attributes = vec![
        AddressAttribute::Local(address),
        AddressAttribute::Address(address),
        AddressAttribute::Flags(AddressFlags::Nodad),
    ];
    if let IpAddr::V4(own) = address {
        let hosts = u32::MAX.checked_shr(length.into()).unwrap_or(0);
        message.attributes.push(AddressAttribute::Broadcast((own.to_bits() | hosts).into()));
    }
    message
}

fn emitted(message: &impl Emitable) -> Vec<u8> {
    let mut bytes = vec![0; message.buffer_len()];
    message.emit(&mut bytes);
    bytes
}
