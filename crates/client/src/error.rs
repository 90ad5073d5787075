//! Why a call failed.

use wire::machines::ErrorBody;

/// Why a call failed. The message has what was attempted; the source has why.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The address of the API is none.
    #[error("{url:?} is not the URL of an API: {why}")]
    BadUrl {
        /// What was given.
        url: String,
        /// What is wrong with it.
        why: String,
    },
    /// Nothing answers there.
    #[error("connect to {url}")]
    Unreachable {
        /// Base URL of the API.
        url: String,
        /// Why.
        #[source]
        err: reqwest::Error,
    },
    /// The server took longer than the call allows.
    #[error("{call}: no answer in time")]
    Timeout {
        /// Method and path.
        call: String,
        /// Why.
        #[source]
        err: reqwest::Error,
    },
    /// The connection broke before the answer was complete.
    #[error("{call}: the connection broke")]
    Broken {
        /// Method and path.
        call: String,
        /// Why.
        #[source]
        err: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The server refused or failed.
    #[error("{}", body.error)]
    Api {
        /// HTTP status code.
        status: u16,
        /// Error body of the answer.
        body: Box<ErrorBody>,
        /// `fly-request-id` of the answer.
        request_id: Option<String>,
    },
    /// The answer is not what this program understands.
    #[error("{call}: the answer is not of the expected form")]
    Answer {
        /// Method and path.
        call: String,
        /// Why.
        #[source]
        err: Box<dyn std::error::Error + Send + Sync>,
    },
}

impl Error {
    /// The HTTP status, if the server answered with an error.
    pub fn status(&self) -> Option<u16> {
        match self {
            Self::Api { status, .. } => Some(*status),
            _ => None,
        }
    }

    /// The server answered 404: there is no such object.
    pub fn is_not_found(&self) -> bool {
        self.status() == Some(404)
    }

    /// Sorts an error of the transport.
    pub(crate) fn transport(base: &str, call: &str, err: reqwest::Error) -> Self {
        if err.is_connect() {
            return Self::Unreachable { url: base.to_owned(), err };
        }
        if err.is_timeout() {
            return Self::Timeout { call: call.to_owned(), err };
        }
        Self::broken(call, err)
    }

    pub(crate) fn broken(
        call: &str,
        err: impl Into<Box<dyn std::error::Error + Send + Sync>>,
    ) -> Self {
        Self::Broken { call: call.to_owned(), err: err.into() }
    }

    pub(crate) fn answer(
        call: &str,
        err: impl Into<Box<dyn std::error::Error + Send + Sync>>,
    ) -> Self {
        Self::Answer { call: call.to_owned(), err: err.into() }
    }
}
