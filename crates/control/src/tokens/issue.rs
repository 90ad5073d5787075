//! Making a token. It can do no more than the one that makes it, and lives no longer.

use super::find::{Found, end_of, hash};
use super::manage::{delete, of_org};
use super::scope::{Scope, rights_of};
use super::show::show;
use crate::access::{base, permit};
use crate::error::shortened;
use crate::{Error, Kind, Platform, Rights, lookup};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use macaroon::{Access, Action, Caveat, LOCATION, Macaroon, Roles};
use std::time::Duration;
use store::records::{self, AppRecord, MemberRecord, OrgRecord, Stored, TokenRecord, encode};
use store::{Compare, Op, Txn};
use wire::tokens::{CreateToken, CreatedToken};

/// Most tokens of an organization that have not expired, and of one app.
const MAX_TOKENS: usize = 1000;
const MAX_TOKENS_OF_APP: usize = 250;
/// Bytes of chance in a token, and in the id of a macaroon's key.
const BYTES: usize = 32;
const KEY_ID: usize = 16;
/// Life of a token whose request names none, and the longest: 20 years, as clients of the
/// platform request.
const DEFAULT_LIFE: Duration = Duration::from_secs(30 * 24 * 3600);
const MAX_LIFE: Duration = Duration::from_secs(175_200 * 3600);
const MAX_NAME: usize = 100;
const MAX_COMMANDS: usize = 32;
const MAX_COMMAND_BYTES: usize = 4096;

/// Makes a token of an organization. `creator` has the tokens of the request.
///
/// # Errors
/// The request is not valid, or none of the creator's tokens permits all that the new one
/// would.
pub(crate) async fn issue(
    platform: &Platform,
    creator: &[Found],
    org: &OrgRecord,
    ask: CreateToken,
) -> Result<CreatedToken, Error> {
    let scope = Scope::parse(&ask.kind).ok_or_else(|| {
        Error::invalid("type", "must be one of org, deploy, readonly, ssh, machine-exec")
    })?;
    check(scope, &ask)?;
    let app = match &ask.app {
        Some(name) => Some(own_app(platform, org, name).await?),
        None => None,
    };
    let parent = creator_for(platform, creator, scope, org, app.as_ref())?;
    let record = TokenRecord {
        name: if ask.name.is_empty() { ask.kind.clone() } else { ask.name.clone() },
        kind: ask.kind.clone(),
        org: Some(org.id),
        apps: app.iter().map(|app| app.id).collect(),
        commands: ask.commands.clone(),
        created_ms: platform.clock().now_ms(),
        expires_ms: Some(end(platform, parent, ask.expiry.as_deref())?),
        member: member(platform, parent, org, ask.member.as_deref()).await?,
        roles: parent.and_then(roles),
        macaroon: ask.macaroon,
        ..TokenRecord::default()
    };
    let (text, record) = make(platform, record)?;
    put(platform, org, &record).await?;
    let about = show(&record, org, app.map(|app| app.name.to_string()), None);
    Ok(CreatedToken { token: text, about })
}

fn check(scope: Scope, ask: &CreateToken) -> Result<(), Error> {
    if ask.name.chars().count() > MAX_NAME || ask.name.chars().any(char::is_control) {
        return Err(Error::invalid("name", "at most 100 characters, no control characters"));
    }
    let needs_app = matches!(scope, Scope::Deploy | Scope::Ssh | Scope::MachineExec);
    if needs_app && ask.app.is_none() {
        return Err(Error::invalid("app", format!("is required for a token of type {}", ask.kind)));
    }
    if scope == Scope::Org && ask.app.is_some() {
        return Err(Error::invalid("app", "cannot be given for a token of type org")
            .hint("a token of type deploy is for one app"));
    }
    if scope != Scope::MachineExec && !ask.commands.is_empty() {
        return Err(Error::invalid("commands", "are for tokens of type machine-exec only"));
    }
    let bytes: usize =
        ask.commands.iter().flat_map(|rule| &rule.args).map(|arg| arg.len() + 1).sum();
    if ask.commands.len() > MAX_COMMANDS || bytes > MAX_COMMAND_BYTES {
        let rule =
            format!("at most {MAX_COMMANDS} commands with {MAX_COMMAND_BYTES} bytes together");
        return Err(Error::invalid("commands", rule));
    }
    if ask.commands.iter().any(|rule| rule.args.is_empty()) {
        return Err(Error::invalid("commands", "a rule without words permits nothing of its own")
            .hint("leave `commands` out to permit every command"));
    }
    Ok(())
}

async fn own_app(platform: &Platform, org: &OrgRecord, name: &str) -> Result<AppRecord, Error> {
    let app = lookup::app(platform, name).await?.record;
    if app.org == org.slug { Ok(app) } else { Err(Error::no_app(name)) }
}

/// The token of the request that permits everything the new one will, and to make it.
/// `None` is an admin token.
fn creator_for<'a>(
    platform: &Platform,
    creator: &'a [Found],
    scope: Scope,
    org: &OrgRecord,
    app: Option<&AppRecord>,
) -> Result<Option<&'a Found>, Error> {
    let permits = |found: Option<&Found>| {
        let rights = found.map_or(Rights::All, |found| Found::rights(std::slice::from_ref(found)));
        let own = platform.with_rights(rights);
        let (org_id, app_id) = (Some(u64::from(org.id.0)), app.map(|app| u64::from(app.id.0)));
        let at = Access { org: org_id, app: app_id, ..base(platform, Action::CREATE) };
        let feature = Some("tokens".to_owned());
        let make = match app {
            Some(_) => Access { app_feature: feature, ..at },
            None => Access { org_feature: feature, ..at },
        };
        let subject = match app {
            Some(app) => format!("app {:?}", app.name.as_str()),
            None => format!("organization {:?}", org.slug),
        };
        permit(&own, &make, &format!("tokens of {subject}"))?;
        // Not limited to a feature, nor to the machine that the request comes out of.
        let now = make.now;
        let all =
            Access { action: scope.action(), org: org_id, app: app_id, now, ..Access::default() };
        permit(&own, &all, &format!("{subject}, which the new token could"))
    };
    if creator.iter().any(|found| found.grant.is_none()) || *platform.rights() == Rights::All {
        return Ok(None);
    }
    let mut refusal = None;
    for found in creator {
        match refuse_narrowed(found).and_then(|()| permits(Some(found))) {
            Ok(()) => return Ok(Some(found)),
            Err(err) => refusal = refusal.or(Some(err)),
        }
    }
    Err(refusal.unwrap_or_else(|| Error::new(Kind::Forbidden, "forbidden: no token was given")))
}

/// A macaroon that its holder has narrowed makes tokens only if the caveats are of kinds that
/// the new token is compared with or inherits. The access that stands for all that the new token
/// could do names no feature, machine or command: a caveat for one of those may not apply to it.
fn refuse_narrowed(found: &Found) -> Result<(), Error> {
    let is_kept = |caveat: &Caveat| {
        matches!(
            caveat,
            Caveat::Organization { .. }
                | Caveat::Apps { .. }
                | Caveat::Action(_)
                | Caveat::ValidityWindow { .. }
                | Caveat::AllowedRoles(_)
                | Caveat::IsMember {}
        )
    };
    let Some(lost) = found.narrowed.iter().find(|caveat| !is_kept(caveat)) else { return Ok(()) };
    let json = macaroon::caveats_to_json(std::slice::from_ref(lost));
    let kind = json[0]["type"].as_str().unwrap_or("unknown");
    let name = &found.record.name;
    let why = format!(
        "forbidden: token {name:?} may not make tokens: its caveat {kind} would not restrict them"
    );
    Err(Error::new(Kind::Forbidden, why).hint("use a token without this caveat"))
}

/// The end of the new token's life.
fn end(platform: &Platform, parent: Option<&Found>, expiry: Option<&str>) -> Result<u64, Error> {
    let rule = "must be a duration such as \"720h\", from 1s to 175200h";
    let given = expiry.filter(|text| !text.is_empty());
    let life = given
        .map(|text| wire::machines::parse_go(text).ok_or_else(|| Error::invalid("expiry", rule)));
    let life = life.transpose()?;
    if life.is_some_and(|life| life < Duration::from_secs(1) || life > MAX_LIFE) {
        return Err(Error::invalid("expiry", rule));
    }
    let ms = |life: Duration| u64::try_from(life.as_millis()).unwrap_or(u64::MAX);
    let end = platform.clock().now_ms() + ms(life.unwrap_or(DEFAULT_LIFE));
    match parent.and_then(end_of) {
        Some(last) if life.is_none() => Ok(end.min(last)),
        Some(last) if end > last => {
            let last = rt::clock::rfc3339(last);
            let why = format!(
                "forbidden: the new token would live longer than the one that makes it, which ends at {last}"
            );
            Err(Error::new(Kind::Forbidden, why).hint("leave `expiry` out to end at the same time"))
        }
        _ => Ok(end),
    }
}

/// The roles that a token may be used with, if not all.
fn roles(found: &Found) -> Option<u32> {
    let caveats = found.grant.iter().flat_map(|grant| &grant.caveats);
    let masks = caveats.filter_map(|caveat| match caveat {
        Caveat::IsMember {} => Some(Roles::MEMBER.0),
        Caveat::AllowedRoles(Roles(mask)) => Some(*mask),
        _ => None,
    });
    masks.reduce(|a, b| a & b)
}

/// The member whom the new token belongs to: that of the one that makes it, unless that one may
/// manage members.
async fn member(
    platform: &Platform,
    parent: Option<&Found>,
    org: &OrgRecord,
    named: Option<&str>,
) -> Result<Option<String>, Error> {
    let own = parent.and_then(|found| found.record.member.clone());
    let Some(named) = named.map(str::to_lowercase).filter(|named| own.as_ref() != Some(named))
    else {
        return Ok(own);
    };
    let (org_id, feature) = (Some(u64::from(org.id.0)), Some("membership".to_owned()));
    let access = Access { org: org_id, org_feature: feature, ..base(platform, Action::WRITE) };
    permit(platform, &access, &format!("members of organization {:?}", org.slug))?;
    let key = records::member_key(org.id, &named);
    let found: Option<Stored<MemberRecord>> = records::get(platform.store(), &key).await?;
    match found {
        Some(_) => Ok(Some(named)),
        None => {
            let named = shortened(&named, 80);
            Err(Error::invalid(
                "member",
                format!("organization {:?} has no member {named}", org.slug),
            ))
        }
    }
}

/// The text of a new token, and its record with the hash of it.
fn make(platform: &Platform, record: TokenRecord) -> Result<(String, TokenRecord), Error> {
    if !record.macaroon {
        // Not `fm…`: clients take those for macaroons and decode them.
        let text = format!("updraft_{}", URL_SAFE_NO_PAD.encode(platform.rng().bytes(BYTES)));
        let sha256 = hash(text.as_bytes());
        return Ok((text, TokenRecord { sha256, ..record }));
    }
    let key_id = platform.rng().bytes(KEY_ID);
    let Some(key) = platform.config().token_secret.key(&key_id) else {
        let why = "this platform has no secret for macaroons";
        return Err(Error::unsupported("macaroon", why));
    };
    let random = platform.rng().wide_bits().to_be_bytes();
    let mut token = Macaroon::mint(&key, &key_id, random, LOCATION);
    for caveat in rights_of(&record).unwrap_or_default() {
        let added = token.attenuate(caveat);
        added.map_err(|err| Error::internal(format!("make a macaroon: {err}")))?;
    }
    Ok((token.to_text(), TokenRecord { sha256: hash(&key_id), ..record }))
}

async fn put(platform: &Platform, org: &OrgRecord, record: &TokenRecord) -> Result<(), Error> {
    refuse_too_many(platform, org, record).await?;
    let key = records::token_key(&record.sha256);
    let org_key = Compare::Present(records::org_key(&org.slug));
    let mut compare = vec![Compare::Absent(key.clone()), org_key];
    compare.extend(
        record.member.as_deref().map(|email| Compare::Present(records::member_key(org.id, email))),
    );
    let index = records::org_token_key(org.id, &record.sha256);
    let then = vec![Op::put(key, encode(record)), Op::put(index, encode(&()))];
    if platform.store().txn(Txn { compare, then, otherwise: vec![] }).await?.succeeded {
        return Ok(());
    }
    Err(Error::contention("the organization"))
}

/// Expired tokens do not count. An app has a share of the tokens, so that a token for one app does
/// not use up those of all.
async fn refuse_too_many(
    platform: &Platform,
    org: &OrgRecord,
    record: &TokenRecord,
) -> Result<(), Error> {
    let now_ms = platform.clock().now_ms();
    let (live, expired): (Vec<_>, Vec<_>) = of_org(platform, org)
        .await?
        .into_iter()
        .partition(|token| token.expires_ms.is_none_or(|end| end > now_ms));
    if expired.len() >= MAX_TOKENS {
        // Their records are deleted some days later otherwise.
        delete(platform, &expired).await?;
    }
    let refused = |subject: String, most: usize| {
        let why = format!("{subject} has {most} tokens, which is the most");
        Err(Error::new(Kind::Conflict, why).hint(
            "revoke tokens that are not used: `updraft tokens list`, `updraft tokens revoke`",
        ))
    };
    if live.len() >= MAX_TOKENS {
        return refused(format!("organization {:?}", org.slug), MAX_TOKENS);
    }
    let of_app = live.iter().filter(|token| token.apps == record.apps).count();
    if !record.apps.is_empty() && of_app >= MAX_TOKENS_OF_APP {
        return refused("the app".to_owned(), MAX_TOKENS_OF_APP);
    }
    Ok(())
}
