//! Bodies and queries of requests: lenient in form, strict in content.

mod body;
mod query;

pub(super) use body::{JsonBody, parse_value, read_body, upload};
pub(super) use query::Params;
