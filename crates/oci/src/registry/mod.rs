//! Registries, by the OCI distribution specification: HTTP with its limits
//! ([`http`]), authentication ([`auth`]), what responses mean ([`response`]), the documents and blobs of one
//! repository ([`repository`]), and a pull into the store ([`pull`]).

pub(crate) mod auth;
pub(crate) mod http;
pub(crate) mod pull;
pub(crate) mod repository;
pub(crate) mod response;
