//! flyctl, the client of Fly.io (<https://fly.io/docs/flyctl/>), against this platform.
//!
//! `commands.toml` has the commands, in groups that each begin with an empty platform. Where
//! `UPDRAFT_TEST_FLYCTL` names a binary of the client, a test runs them all and compares how each
//! ends with what the file has; with `UPDATE_DOCS=1` it writes the requests and answers of every
//! group to `recorded/`. Without the client the recorded requests are sent again, and the answers
//! compared with the recorded ones. `docs/flyctl-commands.md` is made from `commands.toml`.

mod client;
mod exchange;
mod page;
mod record;
mod replay;
mod script;
