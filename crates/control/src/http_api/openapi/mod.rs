//! The OpenAPI 3.1 document of the API (<https://spec.openapis.org/oas/v3.1.0>) and a page that
//! shows it without any script.
//!
//! `operations/` describes every route by subject; a test compares them with the routes, so
//! that none is forgotten. `operation` is the form of a description, `document` puts them together with the
//! schemas of the wire types, `page` renders the document.

mod document;
mod operation;
mod operations;
mod page;
mod parameters;

pub(super) use document::json;
pub(super) use page::html;
pub(super) use parameters::parameters;
