//! Releases, builds and secrets. Present clients use the REST calls that do the same; the operations
//! check what the caller may do.

use super::super::app::App;
use super::super::release::Release;
use crate::access::{Subject, write};
use crate::graphql::answer::Answer;
use crate::graphql::session::Session;
use crate::releases::{self, NewRelease, OfApp, ReleaseChange};
use crate::tokens::Found;
use crate::{Error, secrets};
use serde::Deserialize;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use wire::secret::Secret;
use wire::secrets::ChangeSecrets;
use wire::uiex::{CreateUiexBuild, FinishUiexBuild};

/// `CreateReleaseInput`.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Create {
    app_id: String,
    #[serde(default)]
    build_id: Option<String>,
    definition: Value,
    image: String,
    platform_version: String,
    strategy: String,
}

/// `UpdateReleaseInput`.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Change {
    release_id: String,
    #[serde(default)]
    status: Option<String>,
    #[serde(default)]
    metadata: Value,
}

/// `CreateBuildInput`.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct CreateBuild {
    app_name: String,
    builder_type: String,
    #[serde(default)]
    machine_id: Option<String>,
    strategies_available: Vec<String>,
}

/// `SetSecretsInput`.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct SetSecrets {
    app_id: String,
    secrets: Vec<SetSecret>,
    #[serde(default)]
    replace_all: Option<bool>,
}

#[derive(Deserialize)]
struct SetSecret {
    key: String,
    value: Secret,
}

/// `UnsetSecretsInput`.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct UnsetSecrets {
    app_id: String,
    keys: Vec<String>,
}

pub(super) async fn create(session: &Session, input: Create) -> Result<Answer, Error> {
    if input.platform_version != "machines" {
        let why = "apps of this platform consist of machines: it must be machines";
        return Err(Error::unsupported("platformVersion", why));
    }
    let app = App::read(session, &input.app_id).await?;
    let ask = NewRelease {
        app: app.name().to_owned(),
        definition: input.definition,
        image: input.image,
        build_id: match input.build_id.filter(|id| !id.is_empty()) {
            Some(id) => build_id(&id)?,
            None => 0,
        },
        strategy: input.strategy,
        user: Found::holder(&session.tokens),
    };
    let OfApp { app: record, release } = releases::create(&session.platform, ask).await?;
    session.note_org(&record.org);
    let release = Answer::node(Release::new(release));
    Ok(Answer::object([("app", Answer::node(app)), ("release", release)]))
}

pub(super) async fn change(session: &Session, input: Change) -> Result<Answer, Error> {
    let change = ReleaseChange { status: input.status, metadata: input.metadata };
    let changed = releases::change(&session.platform, &input.release_id, change).await?;
    session.note_org(&changed.app.org);
    Ok(Answer::object([("release", Answer::node(Release::new(changed.release)))]))
}

pub(super) async fn create_build(session: &Session, input: CreateBuild) -> Result<Answer, Error> {
    let ask = CreateUiexBuild {
        app_name: input.app_name,
        builder_type: Some(input.builder_type),
        machine_id: input.machine_id,
        strategies_available: Some(input.strategies_available),
    };
    let (app, build) = releases::create_build(&session.platform, ask).await?;
    session.note_org(&app.org);
    Ok(json!({ "id": build.id.to_string(), "status": build.status }).into())
}

/// `FinishBuildInput` is the body of the REST call in other letters.
pub(super) async fn finish_build(session: &Session, input: Value) -> Result<Answer, Error> {
    let ask: FinishUiexBuild = serde_json::from_value(in_rest_form(input))
        .map_err(|err| Error::invalid("input", err.to_string()))?;
    let (app, build) = releases::finish_build(&session.platform, ask).await?;
    session.note_org(&app.org);
    let time = i32::try_from(build.wallclock_time_ms).unwrap_or(i32::MAX);
    let shown =
        json!({ "id": build.id.to_string(), "status": build.status, "wallclockTimeMs": time });
    Ok(shown.into())
}

/// An input with names as the REST API has them, without what is null, and with its numbers as
/// numbers.
fn in_rest_form(input: Value) -> Value {
    let number = |name: &str, value: Value| match value.as_str().map(str::parse::<i64>) {
        Some(Ok(number)) if name.ends_with("_ms") || NUMBERS.contains(&name) => json!(number),
        _ => in_rest_form(value),
    };
    match input {
        Value::Object(fields) => {
            let fields = fields.into_iter().filter(|(_, value)| !value.is_null());
            let fields = fields.map(|(name, value)| {
                let name = snake_case(&name);
                let value = number(&name, value);
                (name, value)
            });
            Value::Object(fields.collect())
        }
        Value::Array(entries) => entries.into_iter().map(in_rest_form).collect(),
        other => other,
    }
}

/// Fields that are texts of digits here.
const NUMBERS: [&str; 2] = ["build_id", "size_bytes"];

fn snake_case(name: &str) -> String {
    let parts = name.chars().map(|c| match c.is_ascii_uppercase() {
        true => format!("_{}", c.to_ascii_lowercase()),
        false => c.to_string(),
    });
    parts.collect()
}

/// In the API's JSON it is a number, and here a text.
fn build_id(text: &str) -> Result<i64, Error> {
    text.parse().map_err(|_| Error::invalid("buildId", "must be the id of a build"))
}

pub(super) async fn set_secrets(session: &Session, input: SetSecrets) -> Result<Answer, Error> {
    let app = App::read(session, &input.app_id).await?;
    let mut values: BTreeMap<String, Option<Secret>> = BTreeMap::new();
    if input.replace_all == Some(true) {
        let all = secrets::list(&session.platform, app.name(), secrets::Query::default()).await?;
        let of_app = all.secrets.into_iter().filter(|secret| secret.scope.is_none());
        values.extend(of_app.map(|secret| (secret.name, None)));
    }
    values.extend(input.secrets.into_iter().map(|set| (set.key, Some(set.value))));
    change_secrets(session, app, values).await
}

pub(super) async fn unset_secrets(session: &Session, input: UnsetSecrets) -> Result<Answer, Error> {
    let app = App::read(session, &input.app_id).await?;
    let values = input.keys.into_iter().map(|key| (key, None)).collect();
    change_secrets(session, app, values).await
}

/// As the REST call: machines are given the values at their next start, and no release is made. The
/// newest one is answered.
async fn change_secrets(
    session: &Session,
    app: App,
    values: BTreeMap<String, Option<Secret>>,
) -> Result<Answer, Error> {
    session.may_app(write(Subject::App).of("secrets"), app.name()).await?;
    session.note_org(app.org().slug());
    let change = ChangeSecrets { values, scope: None };
    secrets::change(&session.platform, app.name(), change).await?;
    let release = app.newest_release(session).await?;
    Ok(Answer::object([("app", Answer::node(app)), ("release", release)]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_of_a_build_has_the_form_of_the_rest_call() {
        let input = json!({
            "appName": "web", "buildId": "7", "machineId": null, "status": "failed", "logs": "5",
            "finalImage": { "id": "1", "sizeBytes": "5", "tag": "web:1" },
            "timings": { "buildMs": "9", "pushMs": null },
            "strategiesAttempted": [{ "strategy": "x", "result": "y", "error": null }],
        });
        let expected = json!({
            "app_name": "web", "build_id": 7, "status": "failed", "logs": "5",
            "final_image": { "id": "1", "size_bytes": 5, "tag": "web:1" },
            "timings": { "build_ms": 9 },
            "strategies_attempted": [{ "strategy": "x", "result": "y" }],
        });
        let form = in_rest_form(input);
        assert_eq!(form, expected);
        let ask: FinishUiexBuild = serde_json::from_value(form).unwrap();
        assert_eq!((ask.build_id, ask.report.logs.as_deref()), (7, Some("5")));
    }
}
