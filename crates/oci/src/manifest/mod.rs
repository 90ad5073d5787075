//! The JSON documents of an image, of any source: index, manifest
//! and config ([`document`], [`image_config`]), and the choice of the manifest
//! that suits the guest's CPU ([`platform`]).

pub(crate) mod document;
pub(crate) mod image_config;
pub(crate) mod platform;
