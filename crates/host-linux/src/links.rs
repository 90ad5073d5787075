//! Interfaces and their addresses, over rtnetlink.

use futures_util::TryStreamExt;
use model::address::{Addresses, IPV6_BLOCK, Ipv4Pool};
use rtnetlink::packet_route::address::{AddressAttribute, AddressFlags, AddressHeaderFlags};
use rtnetlink::packet_route::link::LinkAttribute;
use rtnetlink::{Error, Handle, LinkUnspec};
use std::net::{IpAddr, Ipv6Addr};
use worker::ports::PortError;

/// One netlink socket, in the network namespace of the thread that opened it.
#[derive(Clone, Debug)]
pub(crate) struct Links {
    handle: Handle,
}

/// The host's link-local address on every tap: Linux asks for a neighbour on
/// behalf of somebody else (another guest, the world) only from such a one.
const LINK_LOCAL: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 1);

/// An interface.
#[derive(Debug)]
pub(crate) struct Interface {
    pub(crate) name: String,
    pub(crate) index: u32,
}

impl Links {
    /// Opens the socket; must be called inside a runtime.
    pub(crate) fn open() -> Result<Self, PortError> {
        let (connection, handle, _) = rtnetlink::new_connection()
            .map_err(|err| PortError::new("open a netlink socket", err))?;
        // The task ends when the last handle is dropped: nobody has to stop it.
        drop(rt::Tasks::new().spawn(connection));
        Ok(Self { handle })
    }

    /// Index of the interface of that name.
    pub(crate) async fn index(&self, name: &str) -> Result<Option<u32>, PortError> {
        let mut found = self.handle.link().get().match_name(name).execute();
        match found.try_next().await {
            Ok(link) => Ok(link.map(|link| link.header.index)),
            Err(err) if is(&err, libc::ENODEV) => Ok(None),
            Err(err) => Err(PortError::new(format!("look up interface {name}"), err)),
        }
    }

    /// All interfaces whose name begins with `prefix`.
    pub(crate) async fn with_prefix(&self, prefix: &str) -> Result<Vec<Interface>, PortError> {
        let mut all = self.handle.link().get().execute();
        let mut found = Vec::new();
        let failed = |err| PortError::new("list interfaces", err);
        while let Some(link) = all.try_next().await.map_err(failed)? {
            let name = link.attributes.into_iter().find_map(|attribute| match attribute {
                LinkAttribute::IfName(name) => Some(name),
                _ => None,
            });
            if let Some(name) = name.filter(|name| name.starts_with(prefix)) {
                found.push(Interface { name, index: link.header.index });
            }
        }
        Ok(found)
    }

    /// Removes an interface; one that is gone is fine.
    pub(crate) async fn delete(&self, link: &Interface) -> Result<(), PortError> {
        match self.handle.link().del(link.index).execute().await {
            Err(err) if !is(&err, libc::ENODEV) => {
                Err(PortError::new(format!("remove interface {}", link.name), err))
            }
            _ => Ok(()),
        }
    }

    /// Gives a tap the host's addresses; those that are there already stay.
    pub(crate) async fn address(&self, tap: &Interface, to: &Addresses) -> Result<(), PortError> {
        let ends: [(IpAddr, u8); 3] = [
            (to.ipv4_gateway.into(), Ipv4Pool::BLOCK),
            (to.ipv6_gateway.into(), IPV6_BLOCK),
            (LINK_LOCAL.into(), 64),
        ];
        for (address, length) in ends {
            let mut request = self.handle.address().add(tap.index, address, length).replace();
            // Usable at once: nobody else can have it.
            let message = request.message_mut();
            message.header.flags |= AddressHeaderFlags::Nodad;
            message.attributes.push(AddressAttribute::Flags(AddressFlags::Nodad));
            request.execute().await.map_err(|err| {
                PortError::new(format!("give {address}/{length} to {}", tap.name), err)
            })?;
        }
        Ok(())
    }

    /// Sets the host's MAC address and the MTU, and brings the interface up.
    pub(crate) async fn up(
        &self,
        tap: &Interface,
        mac: [u8; 6],
        mtu: u32,
    ) -> Result<(), PortError> {
        let change = LinkUnspec::new_with_index(tap.index).address(mac.to_vec()).mtu(mtu).up();
        let request = self.handle.link().change(change.build());
        request
            .execute()
            .await
            .map_err(|err| PortError::new(format!("bring up {} with MTU {mtu}", tap.name), err))
    }
}

fn is(err: &Error, errno: i32) -> bool {
    matches!(err, Error::NetlinkError(answer) if answer.raw_code() == -errno)
}
