//! The public JSON of the API; serde and no logic.
//!
//! - [`machines`]: the public JSON of the Machines API, with its field names.
//! - [`platform`]: what the API returns about the platform itself.
//! - [`exec`]: an interactive command, over a WebSocket.
//! - [`orgs`]: organizations and their members.
//! - [`audit`]: the audit log.
//! - [`tokens`]: tokens of the API; [`logins`]: how a client is given one.
//! - [`logs`]: one log line, as stored, streamed and shown.
//! - [`secrets`] and [`secret_keys`]: secrets of an app; [`secret`]: a value that no output shows.
//!
//! Clients of other versions read and write these types: fields are added, not
//! changed.

pub mod audit;
pub mod exec;
pub mod logins;
pub mod logs;
pub mod machines;
pub mod orgs;
pub mod platform;
pub mod secret;
pub mod secret_keys;
pub mod secrets;
pub mod tokens;
pub mod uiex;
