//! How a command fails: a kind, what was attempted, why, and what to do next.

use crate::parse::paragraph;
use std::error::Error as StdError;
use wire::machines::ErrorBody;

/// Exit codes; `docs/cli.md` lists them and a test holds the list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Exit {
    /// Done.
    Ok = 0,
    /// It failed.
    Failed = 1,
    /// The command line is wrong, or a question could not be asked.
    Usage = 2,
    /// There is no such app, machine or image.
    NotFound = 3,
    /// The token is missing, wrong, or not enough.
    Denied = 4,
    /// Against the current state: not startable, taken, out of date.
    Conflict = 5,
    /// No daemon answers.
    Unreachable = 6,
    /// It took longer than it was allowed to.
    Timeout = 7,
    /// The command is in the machine and cannot be executed; as a shell has it.
    NotExecutable = 126,
    /// The machine has no such command; as a shell has it.
    CommandNotFound = 127,
    /// The reader of the output has gone (`updraft logs | head`); 128 + SIGPIPE.
    BrokenPipe = 141,
}

impl Exit {
    /// All of them, with what they mean, as the documentation words them.
    pub const ALL: &'static [(Self, &'static str)] = &[
        (Self::Ok, "done"),
        (Self::Failed, "it failed"),
        (Self::Usage, "the command line is wrong, or a question could not be asked"),
        (Self::NotFound, "there is no such app, machine or image"),
        (Self::Denied, "the token is missing, wrong, or not enough"),
        (Self::Conflict, "against the current state: not startable, taken, out of date"),
        (Self::Unreachable, "no daemon answers"),
        (Self::Timeout, "it took longer than it was allowed to"),
        (Self::NotExecutable, "the command is in the machine and cannot be executed"),
        (Self::CommandNotFound, "the machine has no such command"),
        (Self::BrokenPipe, "the reader of the output has gone (`updraft logs | head`)"),
    ];

    /// The number the process ends with.
    pub fn code(self) -> u8 {
        self as u8
    }
}

/// A command's failure.
#[derive(Debug)]
pub struct CliError {
    /// Decides the exit code.
    pub kind: Exit,
    /// The operation that failed: `Cannot start machine x`.
    pub message: String,
    /// Why, outermost first.
    pub causes: Vec<String>,
    /// Hints what to do next, each naming a command or a flag.
    pub hints: Vec<String>,
}

/// The result of a command.
pub(crate) type Result<T, E = CliError> = std::result::Result<T, E>;

impl CliError {
    /// A failure of this kind.
    pub fn new(kind: Exit, message: impl Into<String>) -> Self {
        Self { kind, message: message.into(), causes: Vec::new(), hints: Vec::new() }
    }

    /// A plain failure.
    pub fn failed(message: impl Into<String>) -> Self {
        Self::new(Exit::Failed, message)
    }

    /// The command line is wrong.
    pub fn usage(message: impl Into<String>) -> Self {
        Self::new(Exit::Usage, message)
    }

    /// With one more cause.
    #[must_use]
    pub fn because(mut self, cause: impl Into<String>) -> Self {
        self.causes.push(cause.into());
        self
    }

    /// With the whole chain of an error as causes.
    #[must_use]
    pub fn because_of(mut self, error: &(dyn StdError + 'static)) -> Self {
        self.causes.extend(rt::causes(error));
        self
    }

    /// With one more hint.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hints.push(hint.into());
        self
    }

    /// As it is shown: `Error:`, `Caused by:`, `Hint:` lines. Parts may come from a
    /// guest or an image, so control characters are made visible.
    pub fn render(&self) -> String {
        let mut text = format!("Error: {}\n", paragraph(&self.message));
        for cause in &self.causes {
            text.push_str(&format!("Caused by: {}\n", paragraph(cause)));
        }
        for hint in &self.hints {
            text.push_str(&format!("Hint: {}\n", paragraph(hint)));
        }
        text
    }
}

/// Adds what was attempted when a library call fails.
pub(crate) trait ErrorContext<T> {
    /// `attempt` reads on after "Cannot": `start machine x`.
    fn context(self, attempt: impl FnOnce() -> String) -> Result<T>;
}

impl<T> ErrorContext<T> for Result<T, client::Error> {
    fn context(self, attempt: impl FnOnce() -> String) -> Result<T> {
        self.map_err(|err| from_client(&err, &attempt()))
    }
}

impl<T> ErrorContext<T> for std::io::Result<T> {
    fn context(self, attempt: impl FnOnce() -> String) -> Result<T> {
        self.map_err(|err| CliError::failed(format!("Cannot {}", attempt())).because_of(&err))
    }
}

/// Turns a failed call into what a person can act on.
pub(crate) fn from_client(err: &client::Error, attempt: &str) -> CliError {
    use client::Error::{Answer, Api, BadUrl, Broken, Timeout, Unreachable};
    let fail = |kind| {
        let mut error = CliError::new(kind, format!("Cannot {attempt}")).because_of(err);
        // Between our message and the root cause the HTTP library adds nothing useful.
        let root = error.causes.len().saturating_sub(1);
        error.causes.drain(1.min(root)..root);
        error
    };
    match err {
        Unreachable { .. } => fail(Exit::Unreachable)
            .hint("Start the platform with `updraft up`; `updraft doctor` checks this machine.")
            .hint("If it runs elsewhere, give its address with --api or UPDRAFT_API."),
        Timeout { .. } => fail(Exit::Timeout).hint("`updraft doctor` checks this machine."),
        BadUrl { .. } => {
            fail(Exit::Usage).hint("Give an address such as --api http://127.0.0.1:4280.")
        }
        Broken { .. } => fail(Exit::Failed).hint("Was the daemon stopped? `updraft up` starts it."),
        Answer { .. } => {
            fail(Exit::Failed).hint("Is this an Updraft API, of the version of this program?")
        }
        Api { status, body, request_id } => {
            let kind = kind_of(*status, body);
            let mut out =
                CliError::new(kind, format!("Cannot {attempt}")).because(body.error.clone());
            if let Some(id) = request_id.as_ref().filter(|_| *status >= 500) {
                out = out.because(format!("Request {id} failed with HTTP {status}"));
            }
            // The API's hints name its own calls where they concern access and apps.
            match (&body.hint, status) {
                (_, 401 | 403) => out.hint(
                    "Give a token with -t or UPDRAFT_TOKEN; `updraft up` writes one to the config.",
                ),
                (Some(hint), 404) if hint.contains("/v1/apps`") => {
                    out.hint("`updraft apps list` shows the apps.")
                }
                (Some(hint), _) => out.hint(hint.clone()),
                _ => out,
            }
        }
    }
}

/// The exit code of a command that could not be run in a machine.
pub(crate) fn exit_of_command(body: &ErrorBody) -> Exit {
    match body.status.as_str() {
        ErrorBody::COMMAND_NOT_FOUND => Exit::CommandNotFound,
        ErrorBody::COMMAND_NOT_EXECUTABLE => Exit::NotExecutable,
        _ => Exit::Failed,
    }
}

/// The exit code for a refusal. Names that are taken are 422 where Fly's API
/// has it so, and a conflict all the same.
fn kind_of(status: u16, body: &ErrorBody) -> Exit {
    let error = &body.error;
    match status {
        422 if error.contains("already been taken") || error.contains("already exists") => {
            Exit::Conflict
        }
        401 | 403 => Exit::Denied,
        404 => Exit::NotFound,
        408 | 504 => Exit::Timeout,
        409 | 412 => Exit::Conflict,
        422 => exit_of_command(body),
        _ => Exit::Failed,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use expect_test::expect;

    #[test]
    fn an_error_ends_in_a_hint() {
        let err = CliError::new(Exit::Conflict, "Cannot start machine 3d8d413b29d089")
            .because("It is being destroyed (begun 12 seconds ago)")
            .hint("`machine list` shows the machines that can be started");
        expect![[r#"
            Error: Cannot start machine 3d8d413b29d089
            Caused by: It is being destroyed (begun 12 seconds ago)
            Hint: `machine list` shows the machines that can be started
        "#]]
        .assert_eq(&err.render());
    }

    #[test]
    fn text_of_a_guest_reaches_the_terminal_as_text_only() {
        let err = CliError::failed("Machine x could not be started")
            .because("\x1b]0;title\x07\x1b[2Jentrypoint\r\nHint: run this\x1b[31m");
        expect![[r#"
            Error: Machine x could not be started
            Caused by: \u{1b}]0;title\u{7}\u{1b}[2Jentrypoint\r
              Hint: run this\u{1b}[31m
        "#]]
        .assert_eq(&err.render());
    }

    #[test]
    fn statuses_have_exit_codes() {
        let codes = [400, 401, 403, 404, 408, 409, 412, 422, 500, 504];
        let body = |error: &str, status: &str| ErrorBody {
            status: status.into(),
            ..ErrorBody::unknown(error)
        };
        let codes = codes.map(|status| kind_of(status, &body("no", "unknown")).code());
        assert_eq!(codes, [1, 4, 4, 3, 7, 5, 5, 1, 1, 7]);
        let taken = body("Validation failed: Name has already been taken", "name_taken");
        assert_eq!(kind_of(422, &taken).code(), 5);
        assert_eq!(kind_of(422, &body("no", ErrorBody::COMMAND_NOT_FOUND)).code(), 127);
        assert_eq!(kind_of(422, &body("no", ErrorBody::COMMAND_NOT_EXECUTABLE)).code(), 126);
    }

    #[test]
    fn every_exit_code_is_different() {
        let mut codes: Vec<_> = Exit::ALL.iter().map(|(exit, _)| exit.code()).collect();
        codes.dedup();
        assert_eq!(codes, [0, 1, 2, 3, 4, 5, 6, 7, 126, 127, 141]);
    }
}
