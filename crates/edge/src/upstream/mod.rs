//! Connections to machines: makes them through the machine's host and keeps a
//! pool of idle ones per core. A connection belongs to one boot of one machine,
//! never to an address.

pub(crate) mod budget;
pub(crate) mod connect;
pub(crate) mod pool;
pub(crate) mod request_body;
pub(crate) mod stream;
