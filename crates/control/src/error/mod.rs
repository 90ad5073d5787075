//! The one error of all operations: what kind, what was attempted and why it
//! failed, which field is to blame, what to do next. [`catalogue`] describes each kind.

mod catalogue;

use host_api::{ExecError, HostError};
use store::StoreError;

pub use catalogue::Entry;

/// What kind of failure it is. Fronts map it to their protocol's codes, by [`Kind::entry`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// The request breaks a rule; repeating it is no use.
    Invalid,
    /// There is no valid token.
    Unauthorized,
    /// The caller may not do this.
    Forbidden,
    /// There is nothing of that name.
    NotFound,
    /// Against the current state.
    Conflict,
    /// The version given is not the current one.
    VersionMismatch,
    /// The name belongs to something else.
    NameTaken,
    /// No host has room.
    NoCapacity,
    /// The request is valid and names something that this version cannot do.
    Unsupported,
    /// This part of the platform is not built.
    NotImplemented,
    /// The request is larger than allowed.
    TooLarge,
    /// The body is in a format that the call does not take.
    UnsupportedMedia,
    /// The guest has no such command.
    CommandNotFound,
    /// The command exists and cannot be executed.
    CommandNotExecutable,
    /// It took too long.
    Timeout,
    /// It was sent to a host, whose answer has not arrived: it may have been done.
    InDoubt,
    /// Too many calls of this kind are in progress.
    Busy,
    /// Something outside the platform, such as a registry, failed.
    BadGateway,
    /// A host cannot be reached, or the platform is stopping.
    Unavailable,
    /// A defect, or a broken host or store.
    Internal,
}

/// A failed operation.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{}{message}", .field.as_ref().map(|field| format!("{field}: ")).unwrap_or_default())]
pub struct Error {
    /// Kind.
    pub kind: Kind,
    /// What was attempted and why it failed.
    pub message: String,
    /// Path of the field that is to blame, such as `config.image`.
    pub field: Option<String>,
    /// What to do next.
    pub hint: Option<String>,
}

impl Error {
    /// A failure of a kind.
    pub fn new(kind: Kind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into(), field: None, hint: None }
    }

    /// A field that breaks a rule.
    pub fn invalid(field: impl Into<String>, rule: impl Into<String>) -> Self {
        Self { field: Some(field.into()), ..Self::new(Kind::Invalid, rule) }
    }

    /// A valid field that this version cannot act on.
    pub fn unsupported(field: impl Into<String>, why: impl Into<String>) -> Self {
        Self { field: Some(field.into()), ..Self::new(Kind::Unsupported, why) }
    }

    /// A part of the platform that is not built.
    pub fn not_implemented(part: &str) -> Self {
        Self::new(Kind::NotImplemented, format!("{part} not supported yet"))
            .hint("docs/api/README.md lists the calls that this version answers")
    }

    pub(crate) fn not_found(message: impl Into<String>) -> Self {
        Self::new(Kind::NotFound, message)
    }

    pub(crate) fn internal(message: impl Into<String>) -> Self {
        Self::new(Kind::Internal, message)
    }

    /// Byte for byte the text that clients look for.
    pub(crate) fn no_app(app: &str) -> Self {
        Self::not_found(format!("Could not find App \"{}\"", shortened(app, 80)))
            .hint("`updraft apps list` shows the apps of this platform")
    }

    pub(crate) fn no_machine(app: &str, machine: &str) -> Self {
        let machine = shortened(machine, 80);
        Self::not_found(format!("machine not found: app {app:?} has no machine {machine:?}"))
            .hint(format!("`updraft machine list -a {app}` shows the machines of the app"))
    }

    /// Begins with the text that clients look for.
    pub(crate) fn name_taken(detail: &str) -> Self {
        let text = "Validation failed: Name has already been taken";
        let message = if detail.is_empty() { text.into() } else { format!("{text}: {detail}") };
        Self::new(Kind::NameTaken, message)
    }

    pub(crate) fn no_capacity(why: &str) -> Self {
        // Clients look for these words.
        const TEXT: &str = "could not reserve resource for machine";
        let message = if why.contains(TEXT) { why.into() } else { format!("{TEXT}: {why}") };
        Self::new(Kind::NoCapacity, message)
            .hint("stop or destroy machines, ask for less memory, or name another region")
    }

    /// Others keep writing to the same record.
    pub(crate) fn contention(what: &str) -> Self {
        Self::new(Kind::Conflict, format!("{what} is being changed by others")).hint("try again")
    }

    #[must_use]
    pub(crate) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }
}

/// The beginning of a client's text, for messages.
pub(crate) fn shortened(text: &str, chars: usize) -> String {
    text.chars().take(chars).collect()
}

impl From<HostError> for Error {
    fn from(err: HostError) -> Self {
        let text = err.to_string();
        match err {
            HostError::NotFound(_) => Self::not_found(text),
            HostError::NotMine { .. } | HostError::StaleEpoch { .. } => {
                Self::new(Kind::Unavailable, text).hint("the machine is being moved; try again")
            }
            HostError::Conflict(_) => Self::new(Kind::Conflict, text),
            HostError::Leased { .. } => Self::new(Kind::Conflict, text).hint(
                "wait until it expires, send its nonce in the header `fly-machine-lease-nonce`, or \
                 end it with `updraft machine leases clear`",
            ),
            HostError::VersionMismatch(_) => Self::new(Kind::VersionMismatch, text),
            HostError::Invalid(_) => Self::new(Kind::Invalid, text),
            HostError::NoCapacity(_) => Self::no_capacity(&text),
            HostError::Busy(_) => Self::new(Kind::Busy, text),
            HostError::DeadlineExceeded(_) | HostError::Unavailable { may_have_run: true, .. } => {
                Self::new(Kind::InDoubt, text).hint(
                    "what was requested may have been done: list the machines before you repeat it",
                )
            }
            HostError::Unsupported(_) => Self::new(Kind::Unsupported, text),
            HostError::Unavailable { .. } => {
                Self::new(Kind::Unavailable, text).hint("the host may be down; try again later")
            }
            HostError::Internal(_) => Self::internal(text),
        }
    }
}

impl From<ExecError> for Error {
    fn from(err: ExecError) -> Self {
        let kind = match err {
            ExecError::NotFound(_) => Kind::CommandNotFound,
            ExecError::NotExecutable(_) => Kind::CommandNotExecutable,
            ExecError::Refused(_) | ExecError::Unsupported(_) => Kind::Unsupported,
            ExecError::TooLarge(_) => Kind::Invalid,
            ExecError::Busy(_) => Kind::Busy,
            ExecError::DeadlineExceeded(_) => Kind::Timeout,
            ExecError::Malformed(_) => Kind::BadGateway,
            ExecError::Lost(_) => Kind::InDoubt,
        };
        let error = Self::new(kind, format!("exec: {err}"));
        match kind {
            Kind::InDoubt => {
                error.hint("the command may have had effects; see what the machine does")
            }
            _ => error,
        }
    }
}

impl From<StoreError> for Error {
    fn from(err: StoreError) -> Self {
        let why = rt::chain(&err);
        tracing::error!(error = why, "global store failed");
        Self::internal(why)
    }
}
