//! Machines that run on a schedule.
//!
//! `plan` reads the schedule of a config, `run` is the record of one run, `driver` is the
//! task that begins the runs of one machine and notes how they end, and `requests` is how
//! a call asks it for a run. When a machine runs next is decided by `model::schedule`.
//!
//! Invariant: `host.db` has the moment up to which the schedule has been dealt with, and
//! every run is written before its machine is started: a daemon that is killed neither
//! repeats a run nor loses one.

pub(crate) mod driver;
mod plan;
pub(crate) mod requests;
pub(crate) mod run;
