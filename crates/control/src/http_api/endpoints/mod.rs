//! The endpoints of the Machines API, by what their paths begin with.

pub(super) mod apps;
pub(super) mod audit;
pub(super) mod description;
pub(super) mod graphql;
pub(super) mod logins;
pub(super) mod machines;
pub(super) mod oidc;
pub(super) mod orgs;
pub(super) mod platform;
pub(super) mod tokens;
pub(super) mod uiex;
pub(super) mod watch;
