//! The image store on disk: records ([`records`]), the files they are kept in
//! ([`files`]), the names of images ([`names`]), the catalog of images ([`catalog`]),
//! and the removal of what is not needed any more ([`garbage`]).

pub(crate) mod catalog;
pub(crate) mod files;
mod garbage;
pub(crate) mod names;
pub(crate) mod records;
