//! Apps: create, read, and delete with everything in them.

mod create;
mod delete;
mod orgs;
mod read;
mod status;

pub use create::create;
pub use delete::request_deletion;
pub(crate) use delete::{Progress, finish_deletion};
pub(crate) use orgs::{organization_of_apps, organizations};
pub(crate) use read::readable_records;
pub use read::{Readable, get, list, readable};
pub(crate) use status::mark_deployed;
