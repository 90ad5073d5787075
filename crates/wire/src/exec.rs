//! What crosses the WebSocket of `GET …/machines/{id}/exec/stream`.
//!
//! The client's first message is a text: the JSON of [`ExecStart`].
//! After it, client to server: a binary message is input, a text is an
//! [`ExecControl`]. Server to client: a binary message is output whose first
//! byte is [`STDOUT`] or [`STDERR`], a text is an [`ExecEnd`] and the last.

use crate::machines::ErrorBody;
use serde::{Deserialize, Serialize};

/// First byte of a binary message that carries standard output or the terminal.
pub const STDOUT: u8 = 1;
/// First byte of a binary message that carries standard error.
pub const STDERR: u8 = 2;

/// Size of a terminal in characters.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TermSize {
    /// Rows.
    pub rows: u16,
    /// Columns.
    pub cols: u16,
}

/// A command to run in a guest.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ExecStart {
    /// Program and arguments.
    pub argv: Vec<String>,
    /// `user[:group]`; `None` is root.
    #[serde(default)]
    pub user: Option<String>,
    /// Added to the environment.
    #[serde(default)]
    pub env: Vec<(String, String)>,
    /// Give it a terminal of this size.
    #[serde(default)]
    pub tty: Option<TermSize>,
    /// Milliseconds until it is killed.
    #[serde(default)]
    pub timeout_ms: Option<u64>,
    /// Run it in this container; absent means the first one, if there are any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub container: Option<String>,
    /// Run it in the machine's own root, outside of any container.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub machine: bool,
}

/// Client to an exec.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum ExecInput {
    /// Input; empty means end of input.
    Data(#[serde(with = "serde_bytes")] Vec<u8>),
    /// New size of the terminal.
    Resize(TermSize),
    /// Signal, Linux number.
    Signal(i32),
}

/// Exec to client; `Exited` or `Failed` is the last.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum ExecOutput {
    /// Standard output, or the terminal.
    Stdout(#[serde(with = "serde_bytes")] Vec<u8>),
    /// Standard error.
    Stderr(#[serde(with = "serde_bytes")] Vec<u8>),
    /// It has ended.
    Exited {
        /// Exit code, or 128 + signal.
        code: i32,
        /// Signal that ended it, or 0.
        signal: i32,
    },
    /// It could not be run, or the machine went away.
    Failed(ErrorBody),
}

/// Client to server, as text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ExecControl {
    /// `{"resize":{"rows":24,"cols":80}}`: new size of the terminal.
    Resize(TermSize),
    /// `{"signal":2}`: signal to the command, Linux number.
    Signal(i32),
    /// `{"eof":true}`: end of input.
    Eof(bool),
}

/// Server to client, as text; the last message.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(into = "EndText", from = "EndText")]
pub enum ExecEnd {
    /// `{"exited":{"code":0,"signal":0}}`: it has ended.
    Exited {
        /// Exit code, or 128 + signal.
        code: i32,
        /// Signal that ended it, or 0.
        signal: i32,
    },
    /// `{"failed":"…","status":"…"}`: it could not be run, or the machine went away.
    /// `status` and `hint` are those of an error of the API.
    Failed(ErrorBody),
}

/// [`ExecEnd`] as it is written. `failed` is a text, since the first version of the
/// protocol had nothing beside it.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
struct EndText {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    exited: Option<Exit>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    failed: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    status: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    code: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    hint: Option<String>,
}

#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
struct Exit {
    code: i32,
    signal: i32,
}

impl From<ExecEnd> for EndText {
    fn from(end: ExecEnd) -> Self {
        match end {
            ExecEnd::Exited { code, signal } => {
                Self { exited: Some(Exit { code, signal }), ..Self::default() }
            }
            ExecEnd::Failed(ErrorBody { error, status, code, hint, .. }) => {
                Self { exited: None, failed: Some(error), status: Some(status), code, hint }
            }
        }
    }
}

impl From<EndText> for ExecEnd {
    fn from(text: EndText) -> Self {
        match text.exited {
            Some(Exit { code, signal }) => Self::Exited { code, signal },
            None => Self::Failed(ErrorBody {
                error: text.failed.unwrap_or_default(),
                status: text.status.unwrap_or_else(|| "unknown".into()),
                code: text.code,
                hint: text.hint,
                ..ErrorBody::default()
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_words_on_the_wire() {
        let control = |c| serde_json::to_string(&c).unwrap();
        let size = TermSize { rows: 24, cols: 80 };
        assert_eq!(control(ExecControl::Resize(size)), r#"{"resize":{"rows":24,"cols":80}}"#);
        assert_eq!(control(ExecControl::Signal(2)), r#"{"signal":2}"#);
        assert_eq!(control(ExecControl::Eof(true)), r#"{"eof":true}"#);
        let end = |e| serde_json::to_string(&e).unwrap();
        let exited = ExecEnd::Exited { code: 130, signal: 2 };
        assert_eq!(end(exited), r#"{"exited":{"code":130,"signal":2}}"#);
        let status = ErrorBody::COMMAND_NOT_FOUND.to_owned();
        let failed = ExecEnd::Failed(ErrorBody { status, ..ErrorBody::unknown("no") });
        assert_eq!(end(failed), r#"{"failed":"no","status":"command_not_found"}"#);
        let earlier: ExecEnd = serde_json::from_str(r#"{"failed":"no"}"#).unwrap();
        let status = "unknown".to_owned();
        assert_eq!(earlier, ExecEnd::Failed(ErrorBody { status, ..ErrorBody::unknown("no") }));
    }
}
