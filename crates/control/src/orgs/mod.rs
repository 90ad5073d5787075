//! Organizations with their 6PN networks, and their members with a role each.
//!
//! A member is known by an e-mail address and acts through tokens of its own, which its role
//! bounds. Admin tokens of the platform are of no organization and may do everything.

mod create;
mod default;
mod delete;
mod members;
mod read;

pub(crate) use create::create;
pub use default::{DEFAULT_NETWORK, DEFAULT_ORG, ensure_default};
pub(crate) use delete::{delete, finish_deletion};
pub(crate) use members::{members, put_member, remove_member};
pub use read::get;
pub(crate) use read::{list, show, visible};
