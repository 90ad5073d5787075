//! Health checks of machines (<https://fly.io/docs/reference/health-checks/>).
//!
//! `spec` reads the checks of a config, `probe` runs one of them, `monitor` is the task
//! that runs those of one machine while it is started, `board` keeps the newest results
//! for the API, and `health` is how a change of status reaches the machine's task, which
//! alone acts on it (route, event, restart). The rule from results to a status is
//! `model::check`.

pub(crate) mod board;
pub(crate) mod health;
pub(crate) mod monitor;
pub(crate) mod probe;
pub(crate) mod spec;
