//! Tokens that are for an organization or an app.

use super::super::session::Session;
use super::user::user;
use crate::error::shortened;
use crate::{Error, Kind, lookup, orgs, tokens};
use serde::Deserialize;
use serde_json::{Value, json};
use store::records::{self, AppRecord, Listed, OrgRecord, TokenRecord};
use wire::tokens::{CreateToken, Token};

/// End of a token that has none: the field is never null.
const NO_END: &str = "9999-12-31T23:59:59Z";

/// `CreateLimitedAccessTokenInput`.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Create {
    name: String,
    organization_id: String,
    profile: String,
    #[serde(default)]
    profile_params: Value,
    #[serde(default)]
    expiry: Option<String>,
}

/// `DeleteLimitedAccessTokenInput`.
#[derive(Deserialize)]
pub(super) struct Delete {
    #[serde(default)]
    id: Option<String>,
    #[serde(default)]
    token: Option<String>,
}

/// The tokens of an organization, or of one app.
///
/// # Errors
/// The store failed.
pub(super) async fn list(session: &Session, org: &str, app: Option<&str>) -> Result<Value, Error> {
    let platform = &session.platform;
    let org = lookup::org(platform, org).await?;
    let app = match app {
        Some(name) => Some(lookup::app(platform, name).await?.record),
        None => None,
    };
    let listed = tokens::list(platform, &org, app.as_ref()).await?;
    let nodes: Vec<Value> = listed.tokens.iter().map(|token| show(token, "")).collect();
    Ok(json!({ "nodes": nodes }))
}

fn show(token: &Token, text: &str) -> Value {
    json!({
        "id": token.id,
        "name": token.name,
        "token": text,
        "tokenHeader": (!text.is_empty()).then(|| format!("FlyV1 {text}")),
        "expiresAt": token.expires_at.as_deref().unwrap_or(NO_END),
        "revokedAt": null,
        "user": user(token.member.as_deref().unwrap_or_default()),
    })
}

/// Makes a macaroon of an organization or of an app.
///
/// # Errors
/// The profile is not one of those that are supported, or as [`tokens::issue`].
pub(super) async fn create(session: &Session, ask: Create) -> Result<Value, Error> {
    let platform = &session.platform;
    let org = orgs::visible(platform, &ask.organization_id).await?;
    let (kind, app) = match ask.profile.as_str() {
        "deploy" => {
            let app = ask.profile_params["app_id"].as_str().filter(|app| !app.is_empty());
            let missing = || Error::invalid("profileParams.app_id", "is required for this profile");
            ("deploy", Some(app.ok_or_else(missing)?.to_owned()))
        }
        "deploy_organization" => ("org", None),
        other => {
            let why =
                format!("{:?} is not one of deploy, deploy_organization", shortened(other, 40));
            return Err(Error::unsupported("profile", why));
        }
    };
    let ask = CreateToken {
        kind: kind.into(),
        name: ask.name,
        expiry: ask.expiry,
        app,
        macaroon: true,
        ..CreateToken::default()
    };
    let made = tokens::issue(platform, &session.tokens, &org, ask).await?;
    session.note_org(&org.slug);
    Ok(json!({ "limitedAccessToken": show(&made.about, &made.token) }))
}

/// Revokes a token by its id, or by its text.
///
/// # Errors
/// There is none in an organization that is there for the caller, or it may not.
pub(super) async fn revoke(session: &Session, ask: Delete) -> Result<Value, Error> {
    let platform = &session.platform;
    let given = |text: Option<String>| text.filter(|text| !text.is_empty());
    let id = match (given(ask.id), given(ask.token)) {
        (Some(id), _) => id,
        (None, Some(text)) => match tokens::authenticate(platform, &text).await? {
            Ok(found) => found.first().map(|found| tokens::public_id(&found.record)),
            Err(_) => None,
        }
        .ok_or_else(|| no_token("of this text"))?,
        (None, None) => return Err(Error::invalid("id", "is required")),
    };
    let shown = format!("{:?}", shortened(&id, 40));
    let (org, record) = find(session, &id).await?.ok_or_else(|| no_token(&shown))?;
    // A token for one app is that app's: its deployers may revoke it.
    let app: Option<AppRecord> = match record.apps.as_slice() {
        [app] => lookup::app_by_id(platform, *app).await?,
        _ => None,
    };
    let revoked = tokens::revoke(platform, &session.tokens, &org, app.as_ref(), &id).await;
    revoked.map_err(|err| if err.kind == Kind::NotFound { no_token(&shown) } else { err })?;
    session.note_org(&org.slug);
    Ok(json!({ "token": id }))
}

fn no_token(which: &str) -> Error {
    Error::not_found(format!("there is no token {which}"))
        .hint("`updraft tokens list` shows the ids")
}

/// The token of an id, in the organizations that are there for the caller.
async fn find(session: &Session, id: &str) -> Result<Option<(OrgRecord, TokenRecord)>, Error> {
    let platform = &session.platform;
    let all: Listed<OrgRecord> = lookup::list(platform, records::ORGS).await?;
    for org in all.records.into_iter().map(|stored| stored.record) {
        if orgs::visible(platform, &org.slug).await.is_err() {
            continue;
        }
        let own = tokens::of_org(platform, &org).await?;
        if let Some(token) = own.into_iter().find(|token| tokens::public_id(token) == id) {
            return Ok(Some((org, token)));
        }
    }
    Ok(None)
}
