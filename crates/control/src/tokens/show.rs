//! A token without its text.

use rt::clock::rfc3339;
use store::records::{OrgRecord, TokenRecord, TokenUseRecord};
use wire::tokens::Token;

/// The public id of a token.
pub(super) fn id(sha256: &str) -> String {
    sha256.chars().take(12).collect()
}

/// The public id of a token.
pub(crate) fn public_id(record: &TokenRecord) -> String {
    id(&record.sha256)
}

pub(super) fn show(
    record: &TokenRecord,
    org: &OrgRecord,
    app: Option<String>,
    used: Option<TokenUseRecord>,
) -> Token {
    Token {
        id: id(&record.sha256),
        name: record.name.clone(),
        kind: record.kind.clone(),
        org: org.slug.clone(),
        app,
        commands: record.commands.clone(),
        member: record.member.clone(),
        macaroon: record.macaroon,
        created_at: rfc3339(record.created_ms),
        expires_at: record.expires_ms.map(rfc3339),
        last_used_at: used.map(|used| rfc3339(used.used_ms)),
    }
}
