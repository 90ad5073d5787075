//! The control plane: what users want, recorded, and reconcilers that make it so.
//!
//! - Subjects ([`apps`], [`machines`], [`placement`], [`images`], [`logs`], [`exec`],
//!   [`watch`], [`secrets`], [`secret_keys`], [`releases`], [`volumes`], [`tokens`], [`orgs`],
//!   [`wireguard`], [`hosts`], [`config`]):
//!   operations on records and hosts, as functions over a [`Platform`]. They know nothing of
//!   HTTP and return one typed [`Error`].
//! - [`access`]: what a call needs and what its caller may do.
//! - `cache` and `lookup`: records of the store in memory, and names and ids of
//!   requests looked up in them.
//! - `unknown_fields`: fields of a request that its type does not have.
//! - `idempotency`: requests that are sent more than once and carried out once.
//! - [`reconcile`]: finishes what a crash, a lost answer or an absent host left
//!   half done. Depends on the subjects.
//! - Fronts ([`http_api`], `graphql`, [`guest_api`]): parse a request, call an operation, map
//!   its error once.
//!
//! The global store records which host owns a machine; the host is the truth about
//! what the machine does, and every answer about one comes from it.

pub mod access;
pub mod apps;
pub mod audit;
mod cache;
pub mod config;
mod counters;
mod error;
mod event_json;
pub mod exec;
mod graphql;
pub mod guest_api;
mod host_names;
pub mod hosts;
pub mod http_api;
mod idempotency;
pub mod images;
mod logins;
pub mod logs;
mod lookup;
pub mod machines;
pub mod oidc;
pub mod orgs;
pub mod placement;
mod platform;
pub mod reconcile;
pub mod releases;
mod retry;
pub mod secret_keys;
pub mod secrets;
pub mod tokens;
mod unknown_fields;
mod unreadable;
pub mod volumes;
pub mod watch;
pub mod wireguard;

pub use access::{Grant, Rights};
pub use error::{Entry, Error, Kind};
pub use host_names::HostNames;
pub use platform::{Config, Platform, Ports};
