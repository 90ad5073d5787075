//! `POST …/machines/batch`: several creates, an addition to Fly's API.

use super::warnings;
use crate::http_api::answer::{error_body, status_of};
use crate::http_api::caller::Acting;
use crate::http_api::extract::{JsonBody, parse_value};
use crate::{Error, config, machines};
use axum::Json;
use axum::extract::Path;
use axum::http::StatusCode;
use serde_json::Value;
use wire::machines::{BatchItem, BatchResults, LaunchMachine, Machine};

/// 200 if all machines were created, else 207: the results show which were.
pub(in crate::http_api) async fn create(
    Acting(platform): Acting,
    Path(app): Path<String>,
    JsonBody(body): JsonBody<Value>,
) -> Result<(StatusCode, Json<BatchResults>), Error> {
    let launches: Vec<Result<LaunchMachine, Error>> =
        entries(body)?.into_iter().map(parse_value).collect();
    let of_requests: Vec<Vec<String>> = launches
        .iter()
        .map(|launch| launch.as_ref().map(config::launch_warnings).unwrap_or_default())
        .collect();
    let results = machines::create_batch(&platform, &app, launches).await?;
    let is_whole = results.iter().all(Result::is_ok);
    let results = results.into_iter().zip(of_requests).map(|(result, texts)| item(result, texts));
    let code = if is_whole { StatusCode::OK } else { StatusCode::MULTI_STATUS };
    Ok((code, Json(BatchResults { results: results.collect() })))
}

/// `{"machines": […]}`, or the list itself.
fn entries(body: Value) -> Result<Vec<Value>, Error> {
    let list = match body {
        Value::Object(mut fields) => fields.remove("machines").unwrap_or(Value::Null),
        other => other,
    };
    match list {
        Value::Array(entries) => Ok(entries),
        _ => Err(Error::invalid("machines", "must be a list of bodies of a create")),
    }
}

fn item(result: Result<Machine, Error>, of_request: Vec<String>) -> BatchItem {
    match result {
        Ok(machine) => {
            let headers = warnings(of_request, &machine);
            let texts =
                headers.values().filter_map(|text| std::str::from_utf8(text.as_bytes()).ok());
            let warnings = texts.map(str::to_owned).collect();
            BatchItem { status: 200, machine: Some(machine), error: None, warnings }
        }
        Err(err) => {
            let status = status_of(&err).as_u16();
            let error = Some(error_body(err));
            BatchItem { status, machine: None, error, warnings: of_request }
        }
    }
}
