//! `POST …/machines/batch`: several creates, an addition to Fly's API.

use super::of_config;
use crate::http_api::answer::{error_body, status_of};
use crate::http_api::caller::Acting;
use crate::http_api::extract::{JsonBody, parse_value};
use crate::http_api::warnings::Warnings;
use crate::{Error, machines, unknown_fields};
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
    let entries = entries(body)?;
    let of_requests: Vec<Warnings> = entries.iter().map(of_request).collect();
    let launches: Vec<Result<LaunchMachine, Error>> =
        entries.into_iter().map(parse_value).collect();
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

fn of_request(entry: &Value) -> Warnings {
    let warnings = Warnings::default();
    warnings.extend(unknown_fields::warnings::<LaunchMachine>(entry));
    warnings
}

fn item(result: Result<Machine, Error>, warnings: Warnings) -> BatchItem {
    match result {
        Ok(machine) => {
            warnings.extend(of_config(&machine));
            BatchItem {
                status: 200,
                machine: Some(machine),
                error: None,
                warnings: warnings.take(),
            }
        }
        Err(err) => {
            let status = status_of(&err).as_u16();
            let error = Some(error_body(err));
            BatchItem { status, machine: None, error, warnings: warnings.take() }
        }
    }
}
