//! Version 2 of the protocol, as the inits of release 0.1 use it: postcard, in
//! which nothing can be added or left out. The types are frozen; they are turned
//! into the present ones where they arrive and from them where they are sent.

mod convert;
mod messages;

pub use messages::*;

use crate::frame::seal;
use serde::{Serialize, de::DeserializeOwned};

/// The number of this version.
pub const VERSION: u16 = 2;

/// One message as a frame.
///
/// # Panics
/// Never for the types of this module: they all serialize.
pub fn encode<M: Serialize>(message: &M) -> Vec<u8> {
    seal(postcard::to_stdvec(message).expect("messages of version 2 serialize"))
}

/// Reads the payload of a frame.
pub fn decode<M: DeserializeOwned>(payload: &[u8]) -> Option<M> {
    postcard::from_bytes(payload).ok()
}
