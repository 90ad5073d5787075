//! Netlink, the kernel's interface for network configuration: messages as
//! bytes, and sockets that send requests and receive answers and notifications.
//! Nothing here knows what the messages mean. See
//! <https://docs.kernel.org/userspace-api/netlink/intro.html>.

mod message;
mod notify;
mod socket;

pub(crate) use message::{
    ACK, APPEND, Body, CREATE, DUMP, EXCLUSIVE, Messages, REPLACE, REQUEST, attribute, text_of,
};
pub(crate) use notify::{NFTABLES_GROUP, Notifications, ROUTE_GROUPS};
pub(crate) use socket::Netlink;
