//! The second REST service that flyctl asks, below `/api/v1`: organizations, releases and builds.

pub(in crate::http_api) mod builds;
pub(in crate::http_api) mod orgs;
pub(in crate::http_api) mod releases;
