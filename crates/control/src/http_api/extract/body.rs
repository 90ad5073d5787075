//! Reading JSON bodies.

use crate::http_api::warnings::Warnings;
use crate::http_api::{HttpApi, too_large};
use crate::{Error, Kind, unknown_fields};
use axum::body::{Body, Bytes};
use axum::extract::{FromRequest, Request};
use futures_util::stream::{self, StreamExt};
use host_api::ImageUpload;
use http_body_util::{BodyExt, LengthLimitError, Limited};
use schemars::JsonSchema;
use serde::de::DeserializeOwned;
use serde_json::Value;
use std::io;
use std::time::Duration;
use tokio::time::timeout;
use tokio_util::io::StreamReader;

/// A JSON body. The content type is not looked at, and no body at all is the
/// same as `{}`, since clients of the platform send such requests.
pub(in crate::http_api) struct JsonBody<T>(pub(in crate::http_api) T);

impl<T: DeserializeOwned + JsonSchema> FromRequest<HttpApi> for JsonBody<T> {
    type Rejection = Error;

    async fn from_request(request: Request, api: &HttpApi) -> Result<Self, Error> {
        let warnings = request.extensions().get::<Warnings>().cloned().unwrap_or_default();
        let body = read_body(api, request.into_body()).await?;
        let parsed = parse(&body)?;
        // Parsed once more: the type has dropped the fields that it does not have.
        if let Ok(value) = parse::<Value>(&body) {
            warnings.extend(unknown_fields::warnings::<T>(&value));
        }
        Ok(Self(parsed))
    }
}

/// A whole body of JSON, within the limits of the front.
pub(in crate::http_api) async fn read_body(api: &HttpApi, body: Body) -> Result<Bytes, Error> {
    let limit = api.config.body_timeout;
    let read = timeout(limit, read(body, api.config.body_limit)).await;
    let late = || Error::new(Kind::Timeout, format!("the body did not arrive within {limit:?}"));
    read.unwrap_or_else(|_| Err(late()))
}

/// JSON that has been read already, as what it is to be.
pub(in crate::http_api) fn parse_value<T: DeserializeOwned>(value: Value) -> Result<T, Error> {
    serde_path_to_error::deserialize(value).map_err(|err| at_path(&err))
}

fn at_path(err: &serde_path_to_error::Error<serde_json::Error>) -> Error {
    let path = err.path().to_string();
    let path = if matches!(path.as_str(), "." | "?") { "body" } else { &path };
    let path: String = path.chars().take(200).collect();
    let why: String = err.inner().to_string().chars().take(300).collect();
    Error::invalid(path, why)
}

async fn read(body: Body, limit: usize) -> Result<Bytes, Error> {
    let read = Limited::new(body, limit).collect().await;
    read.map(|body| body.to_bytes()).map_err(|err| {
        if err.is::<LengthLimitError>() {
            return too_large(limit);
        }
        Error::new(Kind::Invalid, format!("read the body: {err}"))
    })
}

/// A body of any size, which ends with an error if it stalls for `limit`.
pub(in crate::http_api) fn upload(body: Body, limit: Duration) -> ImageUpload {
    let parts = stream::unfold(Some(body.into_data_stream()), move |parts| async move {
        let mut parts = parts?;
        match timeout(limit, parts.next()).await {
            Ok(part) => part.map(|part| (part.map_err(io::Error::other), Some(parts))),
            Err(_) => {
                let why = format!("no part of the body arrived within {limit:?}");
                Some((Err(io::Error::new(io::ErrorKind::TimedOut, why)), None))
            }
        }
    });
    Box::new(StreamReader::new(parts.boxed()))
}

fn parse<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Error> {
    let bytes = if bytes.trim_ascii().is_empty() { b"{}" } else { bytes };
    let mut json = serde_json::Deserializer::from_slice(bytes);
    let value = serde_path_to_error::deserialize(&mut json).map_err(|err| at_path(&err))?;
    json.end().map_err(|err| Error::invalid("body", err.to_string()))?;
    Ok(value)
}

#[cfg(test)]
mod tests {
    use super::*;
    use wire::machines::LaunchMachine;

    #[test]
    fn an_error_names_the_field() {
        for (body, why) in [
            (
                r#"{"config":{"services":[{"autostart":"true"}]}}"#,
                "config.services[0].autostart: invalid type: string \"true\", expected a boolean",
            ),
            (
                r#"{"config":{"services":[{"autostop":"later"}]}}"#,
                "config.services[0].autostop: autostop must be off, stop, suspend or a boolean, not \"later\"",
            ),
            (
                r#"{"config":{"services":[{"ports":[{"http_options":{"idle_timeout":"60s"}}]}]}}"#,
                "config.services[0].ports[0].http_options.idle_timeout: invalid type: string \"60s\", \
                 expected u64",
            ),
            (
                r#"{"config":{"env":{"A":1}}}"#,
                "config.env.A: invalid type: integer `1`, expected a string",
            ),
            (
                r#"{"config":{"mounts":{"source":"data"}}}"#,
                "config.mounts: invalid type: map, expected a list of mounts",
            ),
            (
                r#"{"config":{"checks":{"c":{"headers":{"A":"1"}}}}}"#,
                "config.checks.c.headers: invalid type: map, expected a list of header fields, each",
            ),
            (
                r#"{"config":{"checks":{"c":{"path":5}}}}"#,
                "config.checks.c.path: invalid type: integer `5`, expected a string",
            ),
            (
                r#"{"config":{"stop_config":{"timeout":{"s":1}}}}"#,
                "config.stop_config.timeout: a duration must be a text such as",
            ),
            ("{", "body: EOF while parsing an object"),
            ("{} x", "body: trailing characters"),
            ("[1]", "invalid"),
        ] {
            let err = parse::<LaunchMachine>(body.as_bytes()).unwrap_err();
            assert!(err.to_string().contains(why), "{body}: {err}");
        }
        assert!(parse::<LaunchMachine>(b" \n").is_ok(), "no body is an empty object");
    }
}
