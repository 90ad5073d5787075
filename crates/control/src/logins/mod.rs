//! Logins of clients: a client begins one, its user gives a token on a page, and the client
//! fetches the token (<https://fly.io/docs/flyctl/auth-login/>).
//!
//! Logins are kept in memory only: one that was begun before a restart is begun again. The id of
//! a login is as secret as the token that is given to it.

mod open;
mod steps;

pub(crate) use open::Logins;
pub(crate) use steps::{begin, client, complete, take, valid};
