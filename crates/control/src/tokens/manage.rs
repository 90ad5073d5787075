//! Listing and revoking tokens.

use super::find::Found;
use super::show::{id, show};
use crate::access::{base, permit};
use crate::error::shortened;
use crate::{Error, Platform, lookup};
use macaroon::{Access, Action};
use model::id::AppId;
use std::collections::HashMap;
use store::records::{self, AppRecord, Listed, OrgRecord, Stored, TokenRecord, TokenUseRecord};
use store::{KeyRange, Op, Txn};
use wire::tokens::{Token, TokenList};

/// Steps of one transaction; a store need not take more than 128.
const STEPS: usize = 90;

/// The tokens of an organization, or those of one app, oldest first.
///
/// # Errors
/// The store failed.
pub(crate) async fn list(
    platform: &Platform,
    org: &OrgRecord,
    app: Option<&AppRecord>,
) -> Result<TokenList, Error> {
    let apps: Listed<AppRecord> = lookup::list(platform, records::APPS).await?;
    let names: HashMap<AppId, String> =
        apps.records.into_iter().map(|app| (app.record.id, app.record.name.to_string())).collect();
    let mut found = of_org(platform, org).await?;
    found.retain(|token| app.is_none_or(|app| token.apps.contains(&app.id)));
    found.sort_by(|a, b| (a.created_ms, &a.sha256).cmp(&(b.created_ms, &b.sha256)));
    let mut tokens: Vec<Token> = Vec::new();
    for record in found {
        let key = records::token_use_key(&record.sha256);
        let used: Option<Stored<TokenUseRecord>> = records::get(platform.store(), &key).await?;
        let app = record.apps.first().and_then(|app| names.get(app).cloned());
        tokens.push(show(&record, org, app, used.map(|used| used.record)));
    }
    Ok(TokenList { tokens })
}

/// Revokes a token of an organization, or of one app, by its id. `caller` has the tokens of
/// the request: a member may revoke its own, and every token itself.
///
/// # Errors
/// There is none; the caller may not.
pub(crate) async fn revoke(
    platform: &Platform,
    caller: &[Found],
    org: &OrgRecord,
    app: Option<&AppRecord>,
    token: &str,
) -> Result<(), Error> {
    let all = of_org(platform, org).await?;
    let mut of_app = all.into_iter().filter(|record| app.is_none_or(|app| record.apps == [app.id]));
    let found = of_app.find(|record| id(&record.sha256) == token).ok_or_else(|| {
        let token = shortened(token, 40);
        Error::not_found(format!("there is no token {token:?} in organization {:?}", org.slug))
            .hint("`updraft tokens list` shows the ids")
    })?;
    let is_own = caller.iter().map(|own| &own.record).any(|own| {
        let same_member = found.member.is_some() && own.member == found.member;
        own.org == found.org && (same_member || own.sha256 == found.sha256)
    });
    let (org_id, feature) = (Some(u64::from(org.id.0)), Some("tokens".to_owned()));
    let action = if is_own { Action::CREATE } else { Action::DELETE };
    let access = Access { org: org_id, ..base(platform, action) };
    let access = match app {
        Some(app) => Access { app: Some(u64::from(app.id.0)), app_feature: feature, ..access },
        None => Access { org_feature: feature, ..access },
    };
    permit(platform, &access, &format!("token {token:?} of organization {:?}", org.slug))?;
    delete(platform, std::slice::from_ref(&found)).await
}

/// The tokens of an organization.
pub(crate) async fn of_org(
    platform: &Platform,
    org: &OrgRecord,
) -> Result<Vec<TokenRecord>, Error> {
    let prefix = records::tokens_of(org.id);
    let index = platform.store().range(KeyRange::prefix(&prefix), None, None).await?.entries;
    let mut tokens = Vec::new();
    for entry in index {
        let sha256 = entry.key.strip_prefix(&prefix).unwrap_or_default();
        let found: Option<Stored<TokenRecord>> =
            lookup::get(platform, &records::token_key(sha256)).await?;
        tokens.extend(found.map(|found| found.record));
    }
    Ok(tokens)
}

/// Deletes tokens: from then on they are invalid.
pub(crate) async fn delete(platform: &Platform, tokens: &[TokenRecord]) -> Result<(), Error> {
    let ops = tokens.iter().flat_map(|token| {
        let index = token.org.map(|org| records::org_token_key(org, &token.sha256));
        let keys = [records::token_key(&token.sha256), records::token_use_key(&token.sha256)];
        keys.into_iter().chain(index).map(Op::delete)
    });
    let ops: Vec<Op> = ops.collect();
    for then in ops.chunks(STEPS) {
        platform.store().txn(Txn { then: then.to_vec(), ..Txn::default() }).await?;
    }
    Ok(())
}

/// Deletes the tokens that are for this app only, as its deletion does.
pub(crate) async fn delete_of_app(platform: &Platform, app: &AppRecord) -> Result<(), Error> {
    let org = lookup::org(platform, &app.org).await?;
    let mut tokens = of_org(platform, &org).await?;
    tokens.retain(|token| token.apps == [app.id]);
    delete(platform, &tokens).await
}
