//! The JSON documents of an image, of any source: index, manifest
//! and config ([`document`], [`image_config`]), the limits of labels ([`labels`]), and the choice of the manifest
//! that suits the guest's CPU ([`platform`]).

pub(crate) mod document;
pub(crate) mod image_config;
pub(crate) mod labels;
pub(crate) mod platform;
