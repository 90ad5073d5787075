//! API tokens: who has one, and what it permits. The store keeps their hashes only.
//!
//! A token is opaque unless a macaroon is requested. Of both there is a record, so that both can
//! be listed and revoked; the record has what the token permits at most, and a macaroon can be
//! narrowed by its holder.

mod admin;
mod current;
mod find;
mod issue;
mod manage;
mod note_use;
mod scope;
mod secret;
mod show;
mod uses;
mod verify;

pub use admin::install_admin_token;
pub(crate) use current::current;
pub use find::is_valid;
pub(crate) use find::{Found, until_changed};
pub(crate) use issue::issue;
pub(crate) use manage::{delete, delete_of_app, list, of_org, revoke};
pub(crate) use note_use::note_use;
pub use secret::TokenSecret;
pub(crate) use show::public_id;
pub(crate) use uses::TokenUses;
pub(crate) use verify::{authenticate, verify, verify_access};
