//! Violations of rules, collected with the paths of their fields.

use crate::{Error, Kind};
use serde_json::Value;
use std::time::Duration;
use wire::machines::Span;

/// A rule that a config violates.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ValidationError {
    /// Path of the field, such as `config.services[0].ports[1].handlers`.
    pub field: String,
    /// The rule, in words.
    pub rule: String,
    /// The config is valid, but this version cannot act on it.
    pub unsupported: bool,
}

impl std::fmt::Display for ValidationError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}", self.field, self.rule)
    }
}

/// Violations found so far.
#[derive(Debug, Default)]
pub(super) struct ValidationErrors(Vec<ValidationError>);

impl ValidationErrors {
    pub(super) fn add(&mut self, field: impl Into<String>, rule: impl Into<String>) {
        let (field, rule) = (field.into(), rule.into());
        self.0.push(ValidationError { field, rule, unsupported: false });
    }

    pub(super) fn unsupported(&mut self, field: impl Into<String>, why: impl Into<String>) {
        let (field, rule) = (field.into(), why.into());
        self.0.push(ValidationError { field, rule, unsupported: true });
    }

    /// Adds an error unless `word` is absent or one of `allowed`.
    pub(super) fn one_of(&mut self, field: &str, word: Option<&str>, allowed: &[&str]) {
        if let Some(word) = word
            && !allowed.contains(&word)
        {
            self.add(field, format!("must be one of {}, not {}", allowed.join(", "), quote(word)));
        }
    }

    /// Parses a duration; adds an error if it is not one.
    pub(super) fn duration(&mut self, field: &str, span: Option<&Span>) -> Option<Duration> {
        let length = span?.get();
        if length.is_none() {
            self.add(field, "must be a duration such as \"10s\", or nanoseconds, and not negative");
        }
        length
    }

    pub(super) fn into_vec(self) -> Vec<ValidationError> {
        self.0
    }
}

/// Adds an error unless `name` can be that of a secret.
pub(super) fn secret_name(errors: &mut ValidationErrors, field: &str, name: &str) {
    if let Err(err) = crate::secrets::check_name(field, name) {
        errors.add(field, err.message);
    }
}

/// Input quoted in a message: short, and on one line.
pub(super) fn quote(text: &str) -> String {
    format!("{:?}", text.chars().take(80).collect::<String>())
}

/// A value that is set: neither `null` nor a zero value.
pub(crate) fn is_set(value: &Value) -> bool {
    match value {
        Value::Null => false,
        Value::Bool(value) => *value,
        Value::Number(number) => number.as_f64() != Some(0.0),
        Value::String(text) => !text.is_empty(),
        Value::Array(list) => !list.is_empty(),
        Value::Object(fields) => fields.values().any(is_set),
    }
}

pub(super) fn into_result(errors: Vec<ValidationError>) -> Result<(), Error> {
    let unsupported = errors.iter().all(|error| error.unsupported);
    let kind = if unsupported { Kind::Unsupported } else { Kind::Invalid };
    match errors.as_slice() {
        [] => Ok(()),
        [one] => {
            Err(Error { field: Some(one.field.clone()), ..Error::new(kind, one.rule.clone()) })
        }
        many => {
            let lines: Vec<String> = many.iter().map(ToString::to_string).collect();
            Err(Error::new(kind, lines.join("; ")))
        }
    }
}
