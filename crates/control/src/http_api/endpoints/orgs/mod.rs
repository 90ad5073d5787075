//! `/v1/orgs/{org}`.

pub(in crate::http_api) mod machines;
