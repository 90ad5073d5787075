//! Routes, as rtnetlink messages.

use crate::config::Cidr;
use netlink_packet_core::Parseable;
use netlink_packet_route::AddressFamily;
use netlink_packet_route::route::{
    RouteAddress, RouteAttribute, RouteHeader, RouteMessage, RouteProtocol, RouteScope, RouteType,
};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// A route of any table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Route {
    /// Destinations.
    pub(crate) to: Cidr,
    /// Index of the interface; `None` for routes with several.
    pub(crate) interface: Option<u32>,
    /// The destination is an address of this namespace.
    pub(crate) local: bool,
    /// It leads to a network without a router in between.
    pub(crate) connected: bool,
}

/// Asks for the routes of both families.
pub(super) fn any() -> RouteMessage {
    RouteMessage::default()
}

/// A route by a gateway, in the main table.
pub(super) fn message(to: Cidr, gateway: IpAddr, interface: u32) -> RouteMessage {
    let mut message = RouteMessage::default();
    message.header.address_family = match to.address() {
        IpAddr::V4(_) => AddressFamily::Inet,
        IpAddr::V6(_) => AddressFamily::Inet6,
    };
    message.header.destination_prefix_length = to.length();
    message.header.table = RouteHeader::RT_TABLE_MAIN;
    message.header.protocol = RouteProtocol::Static;
    message.header.scope = RouteScope::Universe;
    message.header.kind = RouteType::Unicast;
    message.attributes = vec![
        RouteAttribute::Destination(address(to.address())),
        RouteAttribute::Gateway(address(gateway)),
        RouteAttribute::Oif(interface),
    ];
    message
}

fn address(address: IpAddr) -> RouteAddress {
    match address {
        IpAddr::V4(address) => RouteAddress::Inet(address),
        IpAddr::V6(address) => RouteAddress::Inet6(address),
    }
}

/// A unicast or local route; others (broadcast, multicast, blackhole) are left out.
pub(super) fn parse(body: &[u8]) -> Option<Route> {
    let message = RouteMessage::parse(body).ok()?;
    let header = &message.header;
    let local = header.kind == RouteType::Local;
    if !local && header.kind != RouteType::Unicast {
        return None;
    }
    let (mut to, mut interface, mut gateway) = (None, None, false);
    for attribute in &message.attributes {
        match attribute {
            RouteAttribute::Destination(RouteAddress::Inet(address)) => {
                to = Some((*address).into())
            }
            RouteAttribute::Destination(RouteAddress::Inet6(address)) => {
                to = Some((*address).into());
            }
            RouteAttribute::Oif(index) => interface = Some(*index),
            RouteAttribute::Gateway(_) | RouteAttribute::Via(_) | RouteAttribute::MultiPath(_) => {
                gateway = true;
            }
            _ => {}
        }
    }
    // A default route has no destination.
    let to = to.or(match header.address_family {
        AddressFamily::Inet => Some(IpAddr::V4(Ipv4Addr::UNSPECIFIED)),
        AddressFamily::Inet6 => Some(IpAddr::V6(Ipv6Addr::UNSPECIFIED)),
        _ => None,
    })?;
    let to = Cidr::containing(to, header.destination_prefix_length);
    let connected = !local && !gateway && to.length() > 0;
    Some(Route { to, interface, local, connected })
}
