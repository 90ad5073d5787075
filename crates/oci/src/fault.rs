//! Why a step failed, before it is known what it was done for.

use std::error::Error;
use std::io;
use worker::ports::{ImageError, PortError};

/// A refusal of the content, or a failure around it.
#[derive(Debug)]
pub(crate) enum Fault {
    /// The content is damaged or hostile.
    Refused(String),
    /// The content may be fine.
    Failed(PortError),
}

/// The result of a step.
pub(crate) type Result<T, E = Fault> = std::result::Result<T, E>;

impl Fault {
    /// `problem` lies in the content.
    pub(crate) fn refused(problem: impl Into<String>) -> Self {
        Self::Refused(problem.into())
    }

    /// The error that callers see; `what` names the content.
    pub(crate) fn of(self, what: &str) -> ImageError {
        match self {
            Self::Refused(problem) => ImageError::Refused { what: what.into(), problem },
            Self::Failed(error) => ImageError::Failed(error),
        }
    }

    /// The same with `context` put before a refusal's problem.
    #[must_use]
    pub(crate) fn within(self, context: &str) -> Self {
        match self {
            Self::Refused(problem) => Self::Refused(format!("{context}: {problem}")),
            failed @ Self::Failed(_) => failed,
        }
    }
}

/// `attempted` failed because of `error`.
pub(crate) fn failed(attempted: impl Into<String>) -> impl FnOnce(io::Error) -> Fault {
    let attempted = attempted.into();
    move |error| Fault::Failed(PortError::new(attempted, error))
}

/// `ImageError` has causes that can't be cloned; several waiters of one job get
/// the same words.
pub(crate) fn copy(error: &ImageError) -> ImageError {
    match error {
        ImageError::BadReference { reference, problem } => {
            ImageError::BadReference { reference: reference.clone(), problem: problem.clone() }
        }
        ImageError::NotFound { reference, detail } => {
            ImageError::NotFound { reference: reference.clone(), detail: detail.clone() }
        }
        ImageError::Refused { what, problem } => {
            ImageError::Refused { what: what.clone(), problem: problem.clone() }
        }
        ImageError::Failed(error) => {
            let copy = match error.source() {
                Some(cause) => PortError::new(error.attempted.clone(), rt::chain(cause)),
                None => PortError::plain(error.attempted.clone()),
            };
            ImageError::Failed(if error.transient { copy.transient() } else { copy })
        }
    }
}

/// What a task that panicked or was cancelled leaves.
pub(crate) fn lost(error: tokio::task::JoinError) -> Fault {
    Fault::Failed(PortError::new("run image work on a thread", error))
}
