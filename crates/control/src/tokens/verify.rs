//! Verifying the token of a caller of another service
//! (<https://fly.io/docs/machines/api/tokens-resource/>).

use super::current::current;
use super::find::{Found, Invalid, find};
use crate::error::shortened;
use crate::{Error, Platform, lookup};
use macaroon::{Access, Action, Command};
use wire::tokens::{TokenAccess, TokenVerdict};

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
    let (mut found, mut expired) = (Vec::new(), false);
    for token in candidates(header) {
        match find(platform, token).await? {
            Ok(token) => found.push(token),
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

/// Whether a header has a valid token, and which.
///
/// # Errors
/// The store failed.
pub(crate) async fn verify(platform: &Platform, header: &str) -> Result<TokenVerdict, Error> {
    Ok(match authenticate(platform, header).await? {
        Ok(found) => {
            let tokens = current(platform, &found).await?.tokens;
            TokenVerdict { valid: true, error: None, tokens }
        }
        Err(why) => refused(why.text().into()),
    })
}

/// Whether a header permits an access. What is not there is permitted to no token but an
/// admin's, so that a caller does not learn about the apps of others.
///
/// # Errors
/// The access is not valid; the store failed.
pub(crate) async fn verify_access(
    platform: &Platform,
    header: &str,
    access: &TokenAccess,
) -> Result<TokenVerdict, Error> {
    let access = parse(platform, access).await?;
    let found = match authenticate(platform, header).await? {
        Ok(found) => found,
        Err(why) => return Ok(refused(why.text().into())),
    };
    match Found::rights(&found).check(&access) {
        Ok(()) => Ok(TokenVerdict { valid: true, error: None, tokens: vec![] }),
        Err(refusal) => {
            let why = refusal.denial.map(|denial| denial.to_string());
            Ok(refused(why.unwrap_or_else(|| "it permits nothing".into())))
        }
    }
}

fn refused(error: String) -> TokenVerdict {
    TokenVerdict { valid: false, error: Some(error), tokens: vec![] }
}

async fn parse(platform: &Platform, access: &TokenAccess) -> Result<Access, Error> {
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
    let action = Action::parse(&access.action).filter(|action| *action != Action::NONE);
    let action =
        action.ok_or_else(|| Error::invalid("access.action", "must be letters of rwcdC"))?;
    // Numbers are never 0: it stands for what is not there.
    let app = match &access.app_name {
        Some(name) => Some(lookup::app(platform, name).await.ok().map(|app| app.record)),
        None => None,
    };
    let slug = access.org_slug.clone();
    let slug =
        slug.or_else(|| app.as_ref().and_then(|app| app.as_ref().map(|app| app.org.clone())));
    let org = match &slug {
        Some(slug) => {
            Some(lookup::org(platform, slug).await.map_or(u64::MAX, |org| org.id.0.into()))
        }
        None => None,
    };
    let of_org = |app: &store::records::AppRecord| slug.as_ref() == Some(&app.org);
    let app = app.map(|app| app.filter(of_org).map_or(u64::MAX, |app| app.id.0.into()));
    if app.is_none() && (access.machine_id.is_some() || access.volume_id.is_some()) {
        return Err(Error::invalid("access.app_name", "is required with a machine or a volume"));
    }
    if access.machine_id.is_none() && access.command.is_some() {
        return Err(Error::invalid("access.machine_id", "is required with a command"));
    }
    Ok(Access {
        action,
        org,
        app,
        org_feature: access.org_feature.clone(),
        app_feature: access.app_feature.clone(),
        machine: access.machine_id.clone(),
        machine_feature: access.machine_feature.clone(),
        volume: access.volume_id.clone(),
        command: access.command.clone().map_or(Command::None, Command::Argv),
        mutation: access.mutation.clone(),
        storage_object: access.storage_object.clone(),
        source_machine: access.source_machine.clone().map(|id| shortened(&id, 80)),
        now: platform.clock().now_ns() / 1_000_000_000,
        ..Access::default()
    })
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
