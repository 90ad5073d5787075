//! Processes of the guest: how they are started and as which user, the main
//! process, execs, the resume hook, their streams and signals, and the list of
//! all that run.

pub(crate) mod child;
pub(crate) mod exec;
pub(crate) mod list;
pub(crate) mod main_process;
pub(crate) mod program;
pub(crate) mod resume_hook;
pub(crate) mod signals;
pub(crate) mod spawn;
pub(crate) mod stream;
pub(crate) mod users;
