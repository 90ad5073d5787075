//! Content by digest: what is independent of images and layers. SHA-256
//! digests ([`digest`]), ranges of files that are read by offset ([`blob`]),
//! decompression with verification ([`unpack`]), free disk space
//! ([`disk_space`]).

pub(crate) mod blob;
pub(crate) mod digest;
pub(crate) mod disk_space;
pub(crate) mod unpack;
