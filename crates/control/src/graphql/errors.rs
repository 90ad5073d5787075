//! Every failure as GraphQL clients know it: an entry of `errors` with a code in its extensions.

use crate::{Error, Kind};
use apollo_compiler::response::{ExecutionResponse, GraphQLError};
use serde_json::{Value, json};
use wire::machines::ErrorBody;

/// Characters of a message that quotes the document.
const MAX_TEXT: usize = 400;
/// Errors of one answer.
const MAX_ERRORS: usize = 20;

/// An answer with what it would have been over the REST API.
#[derive(Debug)]
pub(crate) struct Answer {
    /// The JSON.
    pub(crate) body: Value,
    /// Kind of the first error.
    pub(crate) failed: Option<Kind>,
}

/// The JSON of a request that was refused so.
pub(crate) fn refusal(refused: &ErrorBody) -> Value {
    let code = refused.code.as_deref().unwrap_or_default().to_uppercase();
    let extensions = json!({ "code": code, "hint": refused.hint });
    json!({ "errors": [{ "message": refused.error, "extensions": extensions }], "data": null })
}

impl Answer {
    /// That of a request that was not carried out.
    pub(super) fn refused(err: &Error) -> Self {
        let error = json!({ "message": err.to_string(), "extensions": extensions(err) });
        Self { body: json!({ "errors": [error], "data": null }), failed: Some(err.kind) }
    }

    /// That of a request that was carried out. `failures` are the errors of its fields, which are
    /// numbered in the response ([`mark`]).
    pub(super) fn of(response: ExecutionResponse, failures: &[Error]) -> Self {
        let mut failed = None;
        let mut errors = Vec::new();
        for error in response.errors.iter().take(MAX_ERRORS) {
            let failure = marked(&error.message).and_then(|number| failures.get(number));
            let shown = match failure {
                Some(err) => with_place(error, err),
                None => with_place(error, &Error::invalid("query", library_text(&error.message))),
            };
            failed.get_or_insert(failure.map_or(Kind::Invalid, |err| err.kind));
            errors.push(shown);
        }
        let data = serde_json::to_value(&response.data).unwrap_or_default();
        let body = match errors.is_empty() {
            true => json!({ "data": data }),
            false => json!({ "errors": errors, "data": data }),
        };
        Self { body, failed }
    }
}

fn with_place(at: &GraphQLError, err: &Error) -> Value {
    json!({
        "message": err.to_string(),
        "path": at.path,
        "locations": at.locations,
        "extensions": extensions(err),
    })
}

/// The code is that of the error catalogue, in capitals.
fn extensions(err: &Error) -> Value {
    let entry = err.kind.entry();
    json!({
        "code": entry.code.to_uppercase(),
        "hint": err.hint.as_deref().unwrap_or(entry.remedy),
    })
}

/// The message of a field's error in the response of the library, which keeps texts only.
pub(super) fn mark(number: usize) -> String {
    format!("#{number}")
}

fn marked(message: &str) -> Option<usize> {
    library_text(message).strip_prefix('#')?.parse().ok()
}

/// A message of the library without its own prefix.
pub(super) fn library_text(message: &str) -> String {
    let text = message.strip_prefix("resolver error: ").unwrap_or(message);
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(MAX_TEXT).collect()
}
