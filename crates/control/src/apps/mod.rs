//! Apps: create, read, and delete with everything in them.

mod create;
mod delete;
mod read;
mod status;

pub use create::create;
pub use delete::request_deletion;
pub(crate) use delete::{Progress, finish_deletion};
pub use read::{Readable, get, list, readable};
pub(crate) use status::mark_deployed;
