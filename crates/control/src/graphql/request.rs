//! The body of a request.

use crate::Error;
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Map, Value};

/// A GraphQL request (<https://graphql.github.io/graphql-over-http/draft/#sec-Request-Parameters>).
#[derive(Clone, Debug, Deserialize, JsonSchema)]
pub(crate) struct GraphqlRequest {
    /// The document.
    pub(crate) query: String,
    /// Values of its variables; those that it does not declare are ignored.
    #[serde(default)]
    pub(crate) variables: Option<Map<String, Value>>,
    /// Which operation of the document, if there are several.
    #[serde(default, rename = "operationName")]
    pub(crate) operation_name: Option<String>,
}

impl GraphqlRequest {
    /// Reads a body.
    ///
    /// # Errors
    /// It is not the JSON of one request.
    pub(crate) fn parse(body: &[u8]) -> Result<Self, Error> {
        if body.trim_ascii_start().starts_with(b"[") {
            let why = "must be one request: lists of requests are not supported";
            return Err(Error::invalid("body", why));
        }
        let mut json = serde_json::Deserializer::from_slice(body);
        let request: Self = serde_path_to_error::deserialize(&mut json).map_err(|err| {
            let path = err.path().to_string();
            let path = if path == "." || path == "?" { "body".to_owned() } else { path };
            Error::invalid(path, err.inner().to_string().chars().take(300).collect::<String>())
        })?;
        json.end().map_err(|err| Error::invalid("body", err.to_string()))?;
        Ok(request)
    }

    /// The name of the operation, if one is given.
    pub(crate) fn operation(&self) -> Option<&str> {
        self.operation_name.as_deref().filter(|name| !name.is_empty())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bodies() {
        for (body, expected) in [
            (r#"{"query":"{a}"}"#, "ok"),
            (r#"{"query":"{a}","variables":null,"operationName":""}"#, "ok"),
            (r#"{"query":"{a}","variables":{"x":1},"extensions":{}}"#, "ok"),
            ("", "body: EOF while parsing a value at line 1 column 0"),
            ("{}", "body: missing field `query` at line 1 column 2"),
            (r#"{"query":1}"#, "query: invalid type: integer `1`, expected a string"),
            (r#"{"query":"{a}","variables":[]}"#, "variables: invalid type: sequence"),
            (" [{}]", "body: must be one request: lists of requests are not supported"),
            (r#"{"query":"{a}"} x"#, "body: trailing characters"),
        ] {
            let read = GraphqlRequest::parse(body.as_bytes());
            let read = read.map_or_else(|err| err.to_string(), |_| "ok".to_owned());
            assert!(read.starts_with(expected), "{body}: {read}");
        }
    }
}
