//! The API over HTTP on loopback, against a real store and a fake host.

#![allow(clippy::unwrap_used, reason = "a failed test is to panic")]

mod access;
mod apps;
mod audit;
mod batch;
mod checks;
mod clients;
mod compatibility;
mod crash;
mod errors;
mod flyctl;
mod graphql;
mod guest_socket;
mod guests;
mod hosts;
mod idempotency;
mod leases;
mod logins;
mod logs;
mod machines;
mod not_yet;
mod oidc;
mod openapi;
mod org_list;
mod orgs;
mod random_calls;
mod rate_limits;
mod reads;
mod regions;
mod releases;
mod runs;
mod secret_keys;
mod secrets;
mod suspend;
mod tokens;
mod volumes;
mod walk;
mod warnings;
mod watch;
mod world;
