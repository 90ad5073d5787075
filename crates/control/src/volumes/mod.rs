//! Volumes: claim and create, list, read, change, destroy; and `mounts`, which volumes a machine
//! is given. `record` is their part of the store, `shown` what clients see: the truth about
//! a volume's disk and its machine is its host's.

mod change;
mod create;
mod destroy;
mod list;
mod mounts;
mod record;
mod shown;

pub use change::{Extended, extend, update};
pub use create::{Created, create};
pub(crate) use create::{confirm, release};
pub use destroy::destroy;
pub(crate) use destroy::{destroy_all_of, finish as finish_destroy};
pub(crate) use list::count_by_app;
pub use list::{OrgFilter, get, list, list_org};
pub(crate) use mounts::{for_machine, on_hosts};
pub(crate) use record::app_of;
