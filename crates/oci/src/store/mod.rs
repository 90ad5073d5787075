//! The image store on disk: records ([`records`]), the files they are kept in
//! ([`files`]), and the catalog of images and names over both ([`catalog`]).

pub(crate) mod catalog;
pub(crate) mod files;
pub(crate) mod records;
