//! Interfaces, their addresses and neighbours over rtnetlink.

use super::routes::{self, Route};
use crate::config::Cidr;
use crate::netlink::{ACK, CREATE, DUMP, EXCLUSIVE, Messages, Netlink, REPLACE, REQUEST, text_of};
use model::address::{Addresses, IPV6_BLOCK, Ipv4Pool};
use netlink_packet_core::{Emitable, Parseable};
use netlink_packet_route::AddressFamily;
use netlink_packet_route::address::{
    AddressAttribute, AddressFlags, AddressHeaderFlags, AddressMessage,
};
use netlink_packet_route::link::{
    InfoData, InfoKind, InfoVeth, LinkAttribute, LinkFlags, LinkInfo, LinkMessage,
};
use netlink_packet_route::neighbour::{NeighbourAttribute, NeighbourMessage, NeighbourState};
use netlink_sys::protocols::NETLINK_ROUTE;
use rustix::net::{AddressFamily as Family, SocketFlags, SocketType, netdevice, socket_with};
use std::io;
use std::net::{IpAddr, Ipv6Addr};
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};
use worker::ports::PortError;

/// Link-local address of the gateway on every tap: when Linux forwards a packet,
/// it sends neighbour solicitations only from such an address.
const LINK_LOCAL: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 1);

// `linux/rtnetlink.h`, `linux/if_link.h`.
const NEW_LINK: u16 = 16;
const DEL_LINK: u16 = 17;
const GET_LINK: u16 = 18;
const SET_LINK: u16 = 19;
const NEW_ADDRESS: u16 = 20;
const GET_ADDRESS: u16 = 22;
const NEW_ROUTE: u16 = 24;
const GET_ROUTE: u16 = 26;
const NEW_NEIGHBOUR: u16 = 28;
const LINK_HEADER: usize = 16;
const LINK_NAME: u16 = 3;

/// The interfaces of the network namespace of the thread that opened it.
#[derive(Debug)]
pub(crate) struct Links {
    netlink: Netlink,
    /// For looking up interfaces by name.
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
        let mut request = Messages::default();
        request.push(GET_LINK, REQUEST | DUMP, |body| body.fixed(&[0; LINK_HEADER]));
        let names = self.netlink.list(request, |link| {
            link.get(LINK_HEADER..).and_then(|all| text_of(all, LINK_NAME)).map(str::to_owned)
        });
        names.map_err(|err| PortError::new("list interfaces", err))
    }

    /// Deletes an interface; one that does not exist (any more) is fine.
    pub(crate) fn delete(&self, link: &Interface) -> Result<(), PortError> {
        let mut message = LinkMessage::default();
        message.header.index = link.index;
        let mut request = Messages::default();
        request.push(DEL_LINK, REQUEST | ACK, |body| body.fixed(&emitted(&message)));
        match self.netlink.request(request) {
            Err(err) if err.raw_os_error() != Some(libc::ENODEV) => {
                Err(PortError::new(format!("remove interface {}", link.name), err))
            }
            _ => Ok(()),
        }
    }

    /// Gives a tap the gateway's addresses (those that it has stay), its MAC
    /// address and the MTU, and brings it up.
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
        let mut request = Messages::default();
        for (address, length) in ends {
            let flags = REQUEST | ACK | CREATE | REPLACE;
            let message = address_of(tap.index, address, length);
            request.push(NEW_ADDRESS, flags, |body| body.fixed(&emitted(&message)));
        }
        let mut message = up(tap.index);
        message.attributes = vec![LinkAttribute::Address(mac.to_vec()), LinkAttribute::Mtu(mtu)];
        request.push(SET_LINK, REQUEST | ACK, |body| body.fixed(&emitted(&message)));
        // Permanent neighbours: a first packet does not wait until a guest that is
        // coming up answers a solicitation, nor a second if the guest misses it.
        for address in [IpAddr::V4(to.ipv4), IpAddr::V6(to.ipv6)] {
            let message = neighbour(tap.index, address, to.mac);
            let flags = REQUEST | ACK | CREATE | REPLACE;
            request.push(NEW_NEIGHBOUR, flags, |body| body.fixed(&emitted(&message)));
        }
        self.netlink.request(request).map_err(|err| {
            let ends = ends.map(|(address, length)| format!("{address}/{length}")).join(", ");
            PortError::new(format!("bring up {} with MTU {mtu} and {ends}", tap.name), err)
        })
    }
    /// Creates a veth pair: `near` in this namespace, `far` in the one that
    /// `namespace` refers to. Both or none exist afterwards.
    pub(crate) fn create_veth(
        &self,
        near: &VethEnd,
        far: &VethEnd,
        namespace: BorrowedFd<'_>,
        mtu: u32,
    ) -> Result<(), PortError> {
        let end = |end: &VethEnd| {
            let mut message = LinkMessage::default();
            message.attributes = vec![
                LinkAttribute::IfName(end.name.clone()),
                LinkAttribute::Address(end.mac.to_vec()),
                LinkAttribute::Mtu(mtu),
            ];
            message
        };
        let (mut message, mut peer) = (end(near), end(far));
        peer.attributes.push(LinkAttribute::NetNsFd(namespace.as_raw_fd()));
        message.attributes.push(LinkAttribute::LinkInfo(vec![
            LinkInfo::Kind(InfoKind::Veth),
            LinkInfo::Data(InfoData::Veth(InfoVeth::Peer(peer))),
        ]));
        let mut request = Messages::default();
        let flags = REQUEST | ACK | CREATE | EXCLUSIVE;
        request.push(NEW_LINK, flags, |body| body.fixed(&emitted(&message)));
        let created = self.netlink.request(request);
        created.map_err(|err| PortError::new(format!("create the veth pair {}", near.name), err))
    }

    /// Gives an end of a veth pair its addresses, makes the other end a permanent
    /// neighbour, and brings it up.
    pub(crate) fn configure_veth(
        &self,
        interface: &Interface,
        own: &[(IpAddr, u8)],
        peer: (&[IpAddr], [u8; 6]),
    ) -> Result<(), PortError> {
        let mut request = Messages::default();
        let flags = REQUEST | ACK | CREATE | REPLACE;
        for (address, length) in own {
            let message = address_of(interface.index, *address, *length);
            request.push(NEW_ADDRESS, flags, |body| body.fixed(&emitted(&message)));
        }
        request.push(SET_LINK, REQUEST | ACK, |body| body.fixed(&emitted(&up(interface.index))));
        for address in peer.0 {
            let message = neighbour(interface.index, *address, peer.1);
            request.push(NEW_NEIGHBOUR, flags, |body| body.fixed(&emitted(&message)));
        }
        let attempted = || format!("configure interface {}", interface.name);
        self.netlink.request(request).map_err(|err| PortError::new(attempted(), err))
    }

    /// Brings an interface up.
    pub(crate) fn bring_up_only(&self, interface: &Interface) -> Result<(), PortError> {
        let mut request = Messages::default();
        request.push(SET_LINK, REQUEST | ACK, |body| body.fixed(&emitted(&up(interface.index))));
        let attempted = || format!("bring up {}", interface.name);
        self.netlink.request(request).map_err(|err| PortError::new(attempted(), err))
    }

    /// Moves an interface to another network namespace. It loses its addresses
    /// and rules on the way; a process that has the tap open keeps it.
    pub(crate) fn move_to(
        &self,
        interface: &Interface,
        namespace: BorrowedFd<'_>,
    ) -> Result<(), PortError> {
        let mut message = LinkMessage::default();
        message.header.index = interface.index;
        message.attributes = vec![LinkAttribute::NetNsFd(namespace.as_raw_fd())];
        let mut request = Messages::default();
        request.push(SET_LINK, REQUEST | ACK, |body| body.fixed(&emitted(&message)));
        let attempted = || format!("move {} to the platform's namespace", interface.name);
        self.netlink.request(request).map_err(|err| PortError::new(attempted(), err))
    }

    /// Adds a route, or replaces it.
    pub(crate) fn add_route(
        &self,
        to: Cidr,
        gateway: IpAddr,
        interface: &Interface,
    ) -> Result<(), PortError> {
        let message = routes::message(to, gateway, interface.index);
        let mut request = Messages::default();
        let flags = REQUEST | ACK | CREATE | REPLACE;
        request.push(NEW_ROUTE, flags, |body| body.fixed(&emitted(&message)));
        let attempted = || format!("add the route to {to} by {}", interface.name);
        self.netlink.request(request).map_err(|err| PortError::new(attempted(), err))
    }

    /// The unicast and local routes of all tables.
    pub(crate) fn routes(&self) -> Result<Vec<Route>, PortError> {
        let mut request = Messages::default();
        let message = routes::any();
        request.push(GET_ROUTE, REQUEST | DUMP, |body| body.fixed(&emitted(&message)));
        let routes = self.netlink.list(request, routes::parse);
        routes.map_err(|err| PortError::new("list routes", err))
    }

    /// All addresses of this namespace: interface, address, prefix length.
    pub(crate) fn addresses(&self) -> Result<Vec<(u32, IpAddr, u8)>, PortError> {
        let mut request = Messages::default();
        let message = AddressMessage::default();
        request.push(GET_ADDRESS, REQUEST | DUMP, |body| body.fixed(&emitted(&message)));
        let addresses = self.netlink.list(request, |body| {
            let message = AddressMessage::parse(body).ok()?;
            // On links with a peer, `Address` is the peer's.
            let of = |local| {
                message.attributes.iter().find_map(|attribute| match attribute {
                    AddressAttribute::Local(address) if local => Some(*address),
                    AddressAttribute::Address(address) if !local => Some(*address),
                    _ => None,
                })
            };
            let address = of(true).or_else(|| of(false))?;
            Some((message.header.index, address, message.header.prefix_len))
        });
        addresses.map_err(|err| PortError::new("list addresses", err))
    }
}

/// Name and MAC address of one end of a veth pair.
#[derive(Clone, Debug)]
pub(crate) struct VethEnd {
    pub(crate) name: String,
    pub(crate) mac: [u8; 6],
}

fn up(index: u32) -> LinkMessage {
    let mut message = LinkMessage::default();
    message.header.index = index;
    message.header.flags = LinkFlags::Up;
    message.header.change_mask = LinkFlags::Up;
    message
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
    // No duplicate address detection: no other node is on the link.
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
