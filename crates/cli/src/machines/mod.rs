//! Code that commands about machines share: which machines are meant, and waiting for
//! their states.

pub(crate) mod pick;
pub(crate) mod wait;
