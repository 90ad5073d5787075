//! Reading JSON bodies: lenient in form, strict in content.

use super::{Api, ApiError};
use axum::body::{Body, Bytes};
use axum::extract::{FromRequest, Request};
use axum::http::StatusCode;
use http_body_util::{BodyExt, LengthLimitError, Limited};
use serde::de::DeserializeOwned;

/// A JSON body. The content type is not looked at, and no body at all is the
/// same as `{}`, since clients of the platform send such requests.
pub(super) struct JsonBody<T>(pub(super) T);

impl<T: DeserializeOwned> FromRequest<Api> for JsonBody<T> {
    type Rejection = ApiError;

    async fn from_request(request: Request, api: &Api) -> Result<Self, ApiError> {
        let bytes = read(request.into_body(), api.config.body_limit).await?;
        parse(&bytes).map(Self)
    }
}

async fn read(body: Body, limit: usize) -> Result<Bytes, ApiError> {
    let read = Limited::new(body, limit).collect().await;
    read.map(|body| body.to_bytes()).map_err(|err| {
        if err.is::<LengthLimitError>() {
            let why = format!("the body is larger than {limit} bytes");
            return ApiError::new(StatusCode::PAYLOAD_TOO_LARGE, why);
        }
        ApiError::invalid(format!("read the body: {err}"))
    })
}

fn parse<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, ApiError> {
    let bytes = if bytes.trim_ascii().is_empty() { b"{}" } else { bytes };
    let mut json = serde_json::Deserializer::from_slice(bytes);
    let value = serde_path_to_error::deserialize(&mut json).map_err(|err| {
        let path = err.path().to_string();
        let path = if matches!(path.as_str(), "." | "?") { "body" } else { &path };
        let path: String = path.chars().take(200).collect();
        let why: String = err.inner().to_string().chars().take(300).collect();
        ApiError::invalid(format!("{path}: {why}"))
    })?;
    json.end().map_err(|err| ApiError::invalid(format!("body: {err}")))?;
    Ok(value)
}

#[cfg(test)]
mod tests {
    use super::*;
    use wire::machines::LaunchMachine;

    #[test]
    fn a_complaint_names_the_field() {
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
                r#"{"config":{"env":{"A":1}}}"#,
                "config.env.A: invalid type: integer `1`, expected a string",
            ),
            ("{", "body: EOF while parsing an object"),
            ("{} x", "body: trailing characters"),
            ("[1]", "invalid"),
        ] {
            let err = parse::<LaunchMachine>(body.as_bytes()).unwrap_err();
            assert!(err.error.contains(why), "{body}: {}", err.error);
        }
        assert!(parse::<LaunchMachine>(b" \n").is_ok(), "no body is an empty object");
    }
}
