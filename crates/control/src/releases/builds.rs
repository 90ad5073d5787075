//! Builds of images, which clients carry out and report.

use super::permit_deploy;
use crate::error::shortened;
use crate::idempotency::RequestId;
use crate::retry::{OfApp, change_of_app};
use crate::{Error, Kind, Platform, lookup};
use store::records::{self, AppBuildsRecord, AppRecord, BuildRecord};
use wire::uiex::{CreateUiexBuild, FinishUiexBuild, UiexBuild};

/// Builds of one app that are kept; the oldest are removed.
const MAX_KEPT: usize = 20;
/// Bytes of what is reported at the end of a build, as JSON.
const MAX_REPORT: usize = 16 * 1024;
/// Ways of building that a client may name.
const MAX_STRATEGIES: usize = 32;
/// Characters of the name of one, and of the kind of a builder.
const MAX_NAME: usize = 100;
/// Ids are so many random bits: JSON numbers up to there are exact in every client.
const ID_BITS: u32 = 52;

const STARTED: &str = "started";
const ENDS: [&str; 2] = ["completed", "failed"];

const OF_APP: OfApp = OfApp { key: records::app_builds_key, name: "the list of the app's builds" };

/// Records that a client begins a build.
///
/// # Errors
/// The caller may not deploy the app, or a field is not valid.
pub async fn create_build(
    platform: &Platform,
    ask: CreateUiexBuild,
) -> Result<(AppRecord, UiexBuild), Error> {
    let app = permitted(platform, &ask.app_name).await?;
    let strategies = ask.strategies_available.unwrap_or_default();
    let builder_type = ask.builder_type.unwrap_or_default();
    let is_long = |name: &String| name.chars().count() > MAX_NAME;
    if strategies.len() > MAX_STRATEGIES || strategies.iter().any(is_long) {
        let rule = format!("at most {MAX_STRATEGIES} names of at most {MAX_NAME} characters");
        return Err(Error::invalid("strategies_available", rule));
    }
    if is_long(&builder_type) {
        let rule = format!("must have at most {MAX_NAME} characters");
        return Err(Error::invalid("builder_type", rule));
    }
    let random = platform.request().map_or_else(|| platform.rng().bits(), RequestId::build_number);
    // One is the least: clients write 0 for no build.
    let id = i64::try_from((random >> (64 - ID_BITS)).max(1)).unwrap_or(1);
    let build = BuildRecord {
        id,
        status: STARTED.into(),
        builder_type,
        strategies,
        created_ms: platform.clock().now_ms(),
        finished_ms: None,
        report: serde_json::Value::Null,
    };
    let changed =
        change_of_app(platform, &ask.app_name, OF_APP, |_, mut record: AppBuildsRecord| {
            if let Some(made) = record.builds.iter().find(|made| made.id == id) {
                return Ok((shown(made), None));
            }
            let excess = (record.builds.len() + 1).saturating_sub(MAX_KEPT);
            record.builds.drain(..excess);
            record.builds.push(build.clone());
            Ok((shown(&build), Some(record)))
        });
    Ok((app, changed.await?))
}

/// Records the end of a build.
///
/// # Errors
/// There is no such build of the app, it has ended in another way, the caller may not deploy the
/// app, or a field is not valid.
pub async fn finish_build(
    platform: &Platform,
    ask: FinishUiexBuild,
) -> Result<(AppRecord, UiexBuild), Error> {
    let app = permitted(platform, &ask.app_name).await?;
    if !ENDS.contains(&ask.status.as_str()) {
        let (all, given) = (ENDS.join(", "), shortened(&ask.status, 40));
        return Err(Error::invalid("status", format!("must be one of {all}, not {given:?}")));
    }
    let report = serde_json::to_value(&ask.report);
    let report = report.map_err(|err| Error::internal(format!("write the report: {err}")))?;
    let size = report.to_string().len();
    if size > MAX_REPORT {
        let rule = format!("the report must have at most {MAX_REPORT} bytes, not {size}");
        return Err(Error::invalid("body", rule).hint("shorten `logs`"));
    }
    let now_ms = platform.clock().now_ms();
    let changed =
        change_of_app(platform, &ask.app_name, OF_APP, |_, mut record: AppBuildsRecord| {
            let build = record.builds.iter_mut().find(|build| build.id == ask.build_id);
            let build = build.ok_or_else(|| no_build(&ask))?;
            if build.status == ask.status {
                return Ok((shown(build), None));
            }
            if build.status != STARTED {
                let why = format!("build {} has ended: it is {}", build.id, build.status);
                return Err(Error::new(Kind::Conflict, why));
            }
            build.status = ask.status.clone();
            build.finished_ms = Some(now_ms);
            build.report = report.clone();
            Ok((shown(build), Some(record)))
        });
    Ok((app, changed.await?))
}

/// The app, if the caller may deploy it.
async fn permitted(platform: &Platform, app: &str) -> Result<AppRecord, Error> {
    if app.is_empty() {
        return Err(Error::invalid("app_name", "is required"));
    }
    permit_deploy(platform, app).await?;
    Ok(lookup::app(platform, app).await?.record)
}

fn no_build(ask: &FinishUiexBuild) -> Error {
    Error::not_found(format!("app {:?} has no build {}", ask.app_name, ask.build_id))
        .hint(format!("the newest {MAX_KEPT} builds of an app are kept"))
}

fn shown(build: &BuildRecord) -> UiexBuild {
    let time = build.finished_ms.map_or(0, |end| end.saturating_sub(build.created_ms));
    UiexBuild {
        id: build.id,
        status: build.status.clone(),
        wallclock_time_ms: i64::try_from(time).unwrap_or(i64::MAX),
    }
}
