//! `PATCH …/machines/{id}` by RFC 7396, an addition to Fly's API.

use super::{At, of_config, of_update};
use crate::http_api::caller::Acting;
use crate::http_api::extract::{JsonBody, parse_value};
use crate::http_api::warnings::Warnings;
use crate::{Error, Kind, machines, unknown_fields};
use axum::Json;
use axum::extract::Path;
use axum::http::{HeaderMap, header};
use serde_json::{Map, Value, json};
use wire::machines::{LaunchMachine, Machine};

pub(in crate::http_api) async fn patch(
    Acting(platform): Acting,
    Path((app, machine)): At,
    headers: HeaderMap,
    warnings: Warnings,
    JsonBody(body): JsonBody<Value>,
) -> Result<Json<Machine>, Error> {
    check_type(&headers)?;
    let mut body: Map<String, Value> = parse_value(body)?;
    let Some(Value::Object(patch)) = body.remove("config") else {
        return Err(Error::invalid("config", "is required: a merge patch of the config"));
    };
    // The rest is as in an update.
    let body = Value::Object(body);
    warnings.extend(unknown_fields::warnings::<LaunchMachine>(&body));
    let launch: LaunchMachine = parse_value(body)?;
    let asked = (launch.name.clone(), launch.region.clone());
    let machine = machines::patch(&platform, &app, &machine, &patch, launch).await?;
    // A config that is not of the type has been refused by the operation.
    warnings.extend(unknown_fields::warnings::<LaunchMachine>(&json!({ "config": patch })));
    warnings.extend(of_update(&asked, &machine));
    warnings.extend(of_config(&machine));
    Ok(Json(machine))
}

/// A merge patch means something else than another format of patches would (RFC 5789, 2.2).
fn check_type(headers: &HeaderMap) -> Result<(), Error> {
    const TYPES: [&str; 2] = ["application/merge-patch+json", "application/json"];
    let Some(sent) = headers.get(header::CONTENT_TYPE) else { return Ok(()) };
    let sent = sent.to_str().unwrap_or_default().split(';').next().unwrap_or_default().trim();
    match TYPES.iter().any(|known| sent.eq_ignore_ascii_case(known)) {
        true => Ok(()),
        false => {
            let sent: String = sent.chars().take(80).collect();
            let why = format!("content-type: must be {}, not {sent:?}", TYPES[0]);
            Err(Error::new(Kind::UnsupportedMedia, why))
        }
    }
}
