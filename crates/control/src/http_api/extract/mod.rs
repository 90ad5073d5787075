//! Bodies and queries of requests: lenient in form, strict in content.

mod body;
#[cfg(test)]
mod fuzz_tests;
mod query;

pub(super) use body::{JsonBody, parse_value, read_body, upload};
pub(super) use query::Params;
