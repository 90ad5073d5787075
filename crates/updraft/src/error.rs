//! How the daemon fails to start or to stop: what was attempted, why, and what
//! to do next.

use std::error::Error as StdError;

/// Decides the exit code of the process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// It failed.
    Failed,
    /// The settings are wrong.
    Usage,
}

/// A failure of `up`, `down` or `doctor`.
#[derive(Debug)]
pub(crate) struct DaemonError {
    kind: Kind,
    message: String,
    causes: Vec<String>,
    hints: Vec<String>,
}

impl DaemonError {
    fn new(kind: Kind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into(), causes: Vec::new(), hints: Vec::new() }
    }

    /// What was attempted failed: `Cannot listen on 127.0.0.1:4280`.
    pub(crate) fn failed(message: impl Into<String>) -> Self {
        Self::new(Kind::Failed, message)
    }

    /// The settings are wrong.
    pub(crate) fn usage(message: impl Into<String>) -> Self {
        Self::new(Kind::Usage, message)
    }

    /// With one more cause.
    #[must_use]
    pub(crate) fn because(mut self, cause: impl Into<String>) -> Self {
        self.causes.push(cause.into());
        self
    }

    /// With the whole chain of an error as causes.
    #[must_use]
    pub(crate) fn because_of(mut self, error: &(dyn StdError + 'static)) -> Self {
        self.causes.extend(rt::causes(error));
        self
    }

    /// With one more hint.
    #[must_use]
    pub(crate) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hints.push(hint.into());
        self
    }

    /// As it is shown: `Error:`, `Caused by:`, `Hint:` lines.
    pub(crate) fn render(&self) -> String {
        let lines = std::iter::once(format!("Error: {}\n", self.message))
            .chain(self.causes.iter().map(|cause| format!("Caused by: {cause}\n")))
            .chain(self.hints.iter().map(|hint| format!("Hint: {hint}\n")));
        lines.collect()
    }

    /// The exit code of the process.
    pub(crate) fn exit_code(&self) -> u8 {
        match self.kind {
            Kind::Failed => 1,
            Kind::Usage => 2,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_has_what_why_and_what_next() {
        let io = std::io::Error::other("in use");
        let err = DaemonError::failed("Cannot listen").because_of(&io).hint("Give another port.");
        let lines = "Error: Cannot listen\nCaused by: in use\nHint: Give another port.\n";
        assert_eq!((err.render().as_str(), err.exit_code()), (lines, 1));
        assert_eq!(DaemonError::usage("x").exit_code(), 2);
    }
}
