//! What happens when a part of the program fails for good.
//!
//! A daemon that runs without one of its tasks is worse than one that is restarted:
//! the failure handler ends the process. Tests inject one that only takes notes.

use std::any::Any;
use std::fmt;
use std::sync::Arc;

/// A part of the program that has failed for good.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// The task or thread, with the place where it was started.
    pub part: String,
    /// Its panic message, or that it ended though it must not.
    pub problem: String,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} failed: {}", self.part, self.problem)
    }
}

/// Called with each [`Failure`]. Cheap to clone.
#[derive(Clone)]
pub struct FailureHandler(Arc<dyn Fn(&Failure) + Send + Sync>);

impl FailureHandler {
    /// Calls `handle` for each failure; it may return only in tests.
    pub fn new(handle: impl Fn(&Failure) + Send + Sync + 'static) -> Self {
        Self(Arc::new(handle))
    }

    /// Writes the failure to standard error and aborts the process, for its
    /// supervisor to start it again.
    pub fn abort() -> Self {
        Self::new(|failure| {
            eprintln!("fatal: {failure}; the daemon ends so that it is started again");
            std::process::abort();
        })
    }

    /// A part has failed.
    pub fn report(&self, part: impl Into<String>, problem: impl Into<String>) {
        (self.0)(&Failure { part: part.into(), problem: problem.into() });
    }
}

impl Default for FailureHandler {
    fn default() -> Self {
        Self::abort()
    }
}

impl fmt::Debug for FailureHandler {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("FailureHandler")
    }
}

/// The message of a panic.
pub fn panic_message(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    let text = text.or_else(|| panic.downcast_ref::<String>().cloned());
    text.unwrap_or_else(|| "a panic without a message".into())
}
