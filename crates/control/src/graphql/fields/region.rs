//! Regions.

use super::super::session::Session;
use crate::{Error, hosts};
use serde_json::{Value, json};

/// A region by its code.
pub(super) fn region(session: &Session, code: &str) -> Value {
    let city = model::region::city(code);
    json!({
        "code": code,
        "name": city.map_or(code, |city| city.name),
        "latitude": city.map(|city| city.latitude),
        "longitude": city.map(|city| city.longitude),
        "gatewayAvailable": session.platform.config().gateway.is_available(),
        "requiresPaidPlan": false,
        "deprecated": false,
    })
}

/// All regions, and the one that is used where none is named.
///
/// # Errors
/// No host answered.
pub(super) async fn all(session: &Session) -> Result<(Vec<Value>, String), Error> {
    let (regions, nearest) = hosts::regions(&session.platform, 1).await?;
    Ok((regions.iter().map(|known| region(session, &known.code)).collect(), nearest))
}
