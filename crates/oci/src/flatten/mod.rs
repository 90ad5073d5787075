//! Layers into one root image: merged in memory ([`merge`], [`tree`]), written
//! as one tar to `sqfstar` ([`pack`]), whose result gets the root directory's
//! owner and time ([`root_inode`]).

pub(crate) mod merge;
pub(crate) mod pack;
pub(crate) mod root_inode;
pub(crate) mod tree;
