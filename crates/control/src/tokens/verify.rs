//! Verifying the token of a caller of another service
//! (<https://fly.io/docs/machines/api/tokens-resource/>).

use super::current::current;
use super::find::{Found, Invalid, find};
use crate::error::shortened;
use crate::{Error, Kind, Platform, lookup};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use macaroon::{Access, Action, Caveat, Command, Denial, Macaroon, caveats_to_json};
use model::id::MachineId;
use serde_json::Value;
use store::records::{AppRecord, OrgRecord};
use wire::tokens::{AuthorizedAccess, ResolvedAccess, TokenAccess, VerifiedToken};

/// Tokens of one header that are looked up.
const MAX_TOKENS: usize = 8;
/// Longest text of an access.
const MAX_TEXT: usize = 1024;

/// Why a header has no valid token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NoToken {
    /// It is empty.
    Absent,
    /// Its tokens are none.
    Invalid,
    /// One of them was valid until its time ended.
    Expired,
}

impl NoToken {
    pub(crate) fn text(self) -> &'static str {
        match self {
            Self::Absent => "no token was given",
            Self::Invalid => "the token is not valid",
            Self::Expired => "the token has expired",
        }
    }
}

/// All valid tokens of a header, of which there is at least one.
///
/// # Errors
/// The store failed.
pub(crate) async fn authenticate(
    platform: &Platform,
    header: &str,
) -> Result<Result<Vec<Found>, NoToken>, Error> {
    let found = with_texts(platform, header).await?;
    Ok(found.map(|found| found.into_iter().map(|(_, token)| token).collect()))
}

/// The same with the text of each.
async fn with_texts<'a>(
    platform: &Platform,
    header: &'a str,
) -> Result<Result<Vec<(&'a str, Found)>, NoToken>, Error> {
    let (mut found, mut expired) = (Vec::new(), false);
    for text in candidates(header) {
        match find(platform, text).await? {
            Ok(token) => found.push((text, token)),
            Err(Invalid::Expired) => expired = true,
            Err(Invalid::Unknown) => {}
        }
    }
    Ok(match (header.is_empty(), expired) {
        _ if !found.is_empty() => Ok(found),
        (true, _) => Err(NoToken::Absent),
        (_, true) => Err(NoToken::Expired),
        _ => Err(NoToken::Invalid),
    })
}

/// Possible tokens of a header: the whole of it without scheme words, then the
/// parts of a comma-separated list.
fn candidates(header: &str) -> Vec<&str> {
    let mut rest = header.trim();
    while let Some((word, tail)) = rest.split_once(char::is_whitespace) {
        if !word.eq_ignore_ascii_case("bearer") && !word.eq_ignore_ascii_case("flyv1") {
            break;
        }
        rest = tail.trim_start();
    }
    let parts = rest.split(',').map(str::trim).filter(|part| *part != rest);
    std::iter::once(rest).chain(parts).filter(|t| !t.is_empty()).take(MAX_TOKENS).collect()
}

/// The valid tokens of a header, of which there is at least one.
///
/// # Errors
/// There is none; the store failed.
pub(crate) async fn verify(platform: &Platform, header: &str) -> Result<Vec<VerifiedToken>, Error> {
    let found = with_texts(platform, header).await?.map_err(unauthorized)?;
    show(platform, &found).await
}

/// Whether a header permits an access: the access, and the first token that does. An app or a
/// machine that is not there is permitted to no token, with the answer for those of others.
///
/// # Errors
/// The header has no valid token or none that permits it; the access is not valid; the store
/// failed.
pub(crate) async fn verify_access(
    platform: &Platform,
    header: &str,
    access: &TokenAccess,
) -> Result<AuthorizedAccess, Error> {
    let found = with_texts(platform, header).await?.map_err(unauthorized)?;
    let Some(access) = resolve(platform, access).await? else { return Err(forbidden(None)) };
    let mut refusal = None;
    for token in &found {
        match Found::rights(std::slice::from_ref(&token.1)).check(&access) {
            Ok(()) => {
                let shown = show(platform, std::slice::from_ref(token)).await?;
                let verified_token = shown.into_iter().next();
                let verified_token = verified_token.ok_or_else(|| forbidden(None))?;
                return Ok(AuthorizedAccess { access: resolved(access), verified_token });
            }
            Err(err) => refusal = refusal.or(err.denial),
        }
    }
    Err(forbidden(refusal))
}

fn unauthorized(why: NoToken) -> Error {
    Error::new(Kind::Unauthorized, format!("unauthorized: {}", why.text()))
}

/// The error of an access that is not permitted. It does not reveal whether there is an
/// organization, an app or a machine of that name.
fn forbidden(denial: Option<Denial>) -> Error {
    let of_another = |denial: &Denial| {
        matches!(denial, Denial::Resource { kind: "organization" | "app" | "machine", .. })
    };
    let why = denial.filter(|denial| !of_another(denial)).map_or_else(
        || "it permits no such organization, app or machine".to_owned(),
        |denial| denial.to_string(),
    );
    Error::new(Kind::Forbidden, format!("forbidden: the token does not permit the access: {why}"))
}

async fn show(platform: &Platform, found: &[(&str, Found)]) -> Result<Vec<VerifiedToken>, Error> {
    let tokens: Vec<Found> = found.iter().map(|(_, token)| token.clone()).collect();
    let about = current(platform, &tokens).await?.tokens;
    let shown = found.iter().zip(about).map(|((text, token), about)| VerifiedToken {
        caveats: caveats(token),
        permission_token: bytes_of(text),
        about,
    });
    Ok(shown.collect())
}

/// All that restricts a token. Its end is one of the caveats, for services that keep the answer.
fn caveats(found: &Found) -> Vec<Value> {
    let mut caveats: Vec<Caveat> = Vec::new();
    for caveat in found.grant.iter().flat_map(|grant| &grant.caveats) {
        if !caveats.contains(caveat) {
            caveats.push(caveat.clone());
        }
    }
    let seconds = |ms: u64| i64::try_from(ms / 1000).unwrap_or(i64::MAX);
    caveats.extend(found.record.expires_ms.map(|end| Caveat::ValidityWindow {
        not_before: seconds(found.record.created_ms),
        // The last second in which the token is valid.
        not_after: seconds(end.saturating_sub(1)),
    }));
    match caveats_to_json(&caveats) {
        Value::Array(list) => list,
        other => vec![other],
    }
}

/// The bytes of a token in base64. The text of a macaroon has them after its prefix.
fn bytes_of(text: &str) -> String {
    match text.split_once('_') {
        Some((_, body)) if Macaroon::parse(text).is_ok() => body.to_owned(),
        _ => STANDARD.encode(text),
    }
}

fn check(access: &TokenAccess) -> Result<Action, Error> {
    let texts = [
        &access.machine_id,
        &access.volume_id,
        &access.app_feature,
        &access.machine_feature,
        &access.org_feature,
        &access.mutation,
        &access.storage_object,
        &access.source_machine,
    ];
    let long = texts.into_iter().flatten().any(|text| text.len() > MAX_TEXT);
    let command = access.command.as_deref().unwrap_or_default();
    if long || command.iter().map(String::len).sum::<usize>() > 128 * MAX_TEXT {
        return Err(Error::invalid("access", format!("texts may have at most {MAX_TEXT} bytes")));
    }
    let part_of_machine = access.command.is_some() || access.machine_feature.is_some();
    if access.machine_id.is_none() && part_of_machine {
        let rule = "is required with a command or a feature of a machine";
        return Err(Error::invalid("access.machine_id", rule));
    }
    if access.app_name.is_none() && access.volume_id.is_some() {
        return Err(Error::invalid("access.app_name", "is required with a volume"));
    }
    // `*` has bits that no action has a name for.
    let action = Action::parse(&access.action).map(|action| Action(action.0 & Action::ALL.0));
    action
        .filter(|action| *action != Action::NONE)
        .ok_or_else(|| Error::invalid("access.action", "must be letters of rwcdC, or *"))
}

/// `None` if a part of the access is not there, or its parts do not belong together.
async fn resolve(platform: &Platform, access: &TokenAccess) -> Result<Option<Access>, Error> {
    let action = check(access)?;
    let Some((org, app, machine)) = locate(platform, access).await? else { return Ok(None) };
    Ok(Some(Access {
        action,
        org: org.map(|org| u64::from(org.id.0)),
        app: app.map(|app| u64::from(app.id.0)),
        org_feature: access.org_feature.clone(),
        app_feature: access.app_feature.clone(),
        machine: machine.map(|id| id.to_string()),
        machine_feature: access.machine_feature.clone(),
        volume: access.volume_id.clone(),
        command: access.command.clone().map_or(Command::None, Command::Argv),
        mutation: access.mutation.clone(),
        storage_object: access.storage_object.clone(),
        source_machine: access.source_machine.clone().map(|id| shortened(&id, 80)),
        now: platform.clock().now_ns() / 1_000_000_000,
        ..Access::default()
    }))
}

type Located = (Option<OrgRecord>, Option<AppRecord>, Option<MachineId>);

/// The resources of an access. App and organization of a machine are those of its record.
async fn locate(platform: &Platform, access: &TokenAccess) -> Result<Option<Located>, Error> {
    let mut app = None;
    if let Some(name) = &access.app_name {
        let Some(found) = there(lookup::app(platform, name).await)? else { return Ok(None) };
        app = Some(found.record);
    }
    let mut machine = None;
    if let Some(id) = &access.machine_id {
        let Ok(id) = id.parse::<MachineId>() else { return Ok(None) };
        let Some(found) = lookup::by_id(platform, id).await? else { return Ok(None) };
        if app.is_none() {
            app = lookup::app_by_id(platform, found.record.app).await?;
        }
        if app.as_ref().is_none_or(|app| app.id != found.record.app) {
            return Ok(None);
        }
        machine = Some(id);
    }
    let mut org = None;
    let of_app = app.as_ref().map(|app| &app.org);
    if let Some(slug) = access.org_slug.as_ref().or(of_app) {
        if of_app.is_some_and(|of_app| of_app != slug) {
            return Ok(None);
        }
        let Some(found) = there(lookup::org(platform, slug).await)? else { return Ok(None) };
        org = Some(found);
    }
    Ok(Some((org, app, machine)))
}

/// `None` for a record that is not there.
fn there<T>(looked_up: Result<T, Error>) -> Result<Option<T>, Error> {
    match looked_up {
        Err(err) if err.kind == Kind::NotFound => Ok(None),
        other => other.map(Some),
    }
}

fn resolved(access: Access) -> ResolvedAccess {
    ResolvedAccess {
        action: access.action.to_string(),
        orgid: access.org,
        appid: access.app,
        app_feature: access.app_feature,
        feature: access.org_feature,
        volume: access.volume,
        machine: access.machine,
        machine_feature: access.machine_feature,
        mutation: access.mutation,
        source_machine: access.source_machine,
        storage_object: access.storage_object,
        command: match access.command {
            Command::Argv(argv) => Some(argv),
            Command::None | Command::Some => None,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_forms_of_the_header() {
        for (header, tokens) in [
            ("", vec![]),
            ("Bearer", vec!["Bearer"]),
            ("Bearer abc", vec!["abc"]),
            ("abc", vec!["abc"]),
            ("FlyV1 fm2_a", vec!["fm2_a"]),
            ("Bearer FlyV1 fm2_a,fm2_b", vec!["fm2_a,fm2_b", "fm2_a", "fm2_b"]),
            ("bearer  flyv1 fm2_a", vec!["fm2_a"]),
            ("Basic abc", vec!["Basic abc"]),
        ] {
            assert_eq!(candidates(header), tokens, "{header}");
        }
        assert_eq!(candidates(&"a,".repeat(1000)).len(), MAX_TOKENS);
    }
}
