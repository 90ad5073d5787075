//! The GraphQL front, for Fly's command line client: a request is read (`request`), bounded
//! (`limits`) and carried out field by field (`execute`). The schema is `schema.graphql`; what
//! each field answers is in `fields/`, one file per type. A field declares what its caller needs
//! with the words of [`crate::access`], calls an operation of a subject, and its error is mapped
//! in one place (`errors`).
//!
//! See <https://spec.graphql.org/October2021/> and <https://graphql.github.io/graphql-over-http/>.

mod answer;
mod errors;
mod execute;
mod fields;
#[cfg(test)]
mod fuzz_tests;
mod limits;
mod request;
mod session;

pub(crate) use errors::refusal;
pub(crate) use execute::{Done, Front};
pub(crate) use request::GraphqlRequest;
