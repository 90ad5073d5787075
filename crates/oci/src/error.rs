//! Why a step failed, before the image that it was done for is known.

use std::error::Error as _;
use std::io;
use worker::ports::{ImageError, PortError};

/// A refusal of the content, or a failure around it.
#[derive(Debug)]
pub(crate) enum Error {
    /// The content is damaged, hostile or not supported.
    Refused(String),
    /// The step failed for a reason outside the content.
    Failed(PortError),
}

/// The result of a step.
pub(crate) type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    /// A refusal: `problem` lies in the content.
    pub(crate) fn refused(problem: impl Into<String>) -> Self {
        Self::Refused(problem.into())
    }

    /// The error for callers of the port; `image` names the content.
    pub(crate) fn for_image(self, image: &str) -> ImageError {
        match self {
            Self::Refused(problem) => ImageError::Refused { what: image.into(), problem },
            Self::Failed(error) => ImageError::Failed(error),
        }
    }

    /// The same error, a refusal with `context` before its problem.
    #[must_use]
    pub(crate) fn within(self, context: &str) -> Self {
        match self {
            Self::Refused(problem) => Self::Refused(format!("{context}: {problem}")),
            failed @ Self::Failed(_) => failed,
        }
    }
}

/// Errors of the store, which concern no image in particular.
impl From<Error> for ImageError {
    fn from(error: Error) -> Self {
        error.for_image("store")
    }
}

/// Maps an I/O error to a failure of the step `attempted`.
pub(crate) fn failed(attempted: impl Into<String>) -> impl FnOnce(io::Error) -> Error {
    let attempted = attempted.into();
    move |error| Error::Failed(PortError::new(attempted, error))
}

/// A copy for each caller that waits for the same job. The cause of an
/// `ImageError` cannot be cloned, so the copy has the cause's text.
pub(crate) fn copy(error: &ImageError) -> ImageError {
    match error {
        ImageError::BadReference { reference, problem } => {
            ImageError::BadReference { reference: reference.clone(), problem: problem.clone() }
        }
        ImageError::NotFound { reference, detail } => {
            ImageError::NotFound { reference: reference.clone(), detail: detail.clone() }
        }
        ImageError::InUse { reference, problem } => {
            ImageError::InUse { reference: reference.clone(), problem: problem.clone() }
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

/// The failure of a job whose thread or task panicked or was cancelled.
pub(crate) fn lost(error: tokio::task::JoinError) -> Error {
    Error::Failed(PortError::new("run image work on a thread", error))
}
