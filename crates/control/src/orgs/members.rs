//! Members of an organization.

use crate::error::shortened;
use crate::{Error, Kind, Platform, lookup, tokens};
use rt::clock::rfc3339;
use store::records::{self, Listed, MemberRecord, OrgRecord, Stored, encode};
use store::{Compare, KeyRange, Op, Txn};
use wire::orgs::{Member, MemberList};

/// Most members of an organization.
const MAX_MEMBERS: usize = 1000;
/// Longest address (RFC 5321, 4.5.3.1.3).
const MAX_EMAIL: usize = 254;

/// All members, by address.
///
/// # Errors
/// There is no such organization.
pub(crate) async fn members(platform: &Platform, org: &str) -> Result<MemberList, Error> {
    let org = lookup::org(platform, org).await?;
    let all: Listed<MemberRecord> = lookup::list(platform, &records::members_of(org.id)).await?;
    Ok(MemberList { members: all.records.into_iter().map(|member| show(member.record)).collect() })
}

fn show(member: MemberRecord) -> Member {
    let joined_at = Some(rfc3339(member.joined_ms));
    Member { email: member.email, role: member.role, joined_at }
}

/// Adds a member, or changes its role.
///
/// # Errors
/// The request is not valid; the organization has as many members as it may.
pub(crate) async fn put_member(
    platform: &Platform,
    org: &str,
    member: Member,
) -> Result<Member, Error> {
    let org = lookup::org(platform, org).await?;
    if member.joined_at.is_some() {
        return Err(Error::invalid("joined_at", "is no part of a request"));
    }
    if !["admin", "member", "readonly"].contains(&member.role.as_str()) {
        return Err(Error::invalid("role", "must be one of admin, member, readonly"));
    }
    let email = address(&member.email)?;
    let key = records::member_key(org.id, &email);
    let former: Option<Stored<MemberRecord>> = records::get(platform.store(), &key).await?;
    if former.is_none() {
        let range = KeyRange::prefix(&records::members_of(org.id));
        let count = platform.store().range(range, None, Some(MAX_MEMBERS)).await?.entries.len();
        if count >= MAX_MEMBERS {
            let why =
                format!("organization {:?} has {MAX_MEMBERS} members, which is the most", org.slug);
            return Err(Error::new(Kind::Conflict, why));
        }
    }
    let now_ms = platform.clock().now_ms();
    let joined_ms = former.as_ref().map_or(now_ms, |former| former.record.joined_ms);
    let record = MemberRecord { email, role: member.role, joined_ms };
    // One that is removed meanwhile does not come back with its former time of joining.
    let unchanged = match former {
        Some(former) => Compare::Modified(key.clone(), former.revision),
        None => Compare::Absent(key.clone()),
    };
    let compare = vec![Compare::Present(records::org_key(&org.slug)), unchanged];
    let txn = Txn { compare, then: vec![Op::put(key, encode(&record))], otherwise: vec![] };
    if !platform.store().txn(txn).await?.succeeded {
        return Err(Error::contention("the list of members"));
    }
    Ok(show(record))
}

/// Removes a member, and revokes its tokens. A repetition finishes one that failed half way.
///
/// # Errors
/// There is no such member, and no token of one.
pub(crate) async fn remove_member(
    platform: &Platform,
    org: &str,
    email: &str,
) -> Result<(), Error> {
    let org = lookup::org(platform, org).await?;
    let (own, email) = (platform.clone(), email.to_lowercase());
    platform.run_detached(async move { remove(&own, &org, &email).await }).await
}

async fn remove(platform: &Platform, org: &OrgRecord, email: &str) -> Result<(), Error> {
    let key = records::member_key(org.id, email);
    let compare = vec![Compare::Present(key.clone())];
    let txn = Txn { compare, then: vec![Op::delete(&key)], otherwise: vec![] };
    // From here on its tokens are invalid, and no more are made. They stay so if the address is
    // added again, since they are older than the new membership.
    let was_there = platform.store().txn(txn).await?.succeeded;
    let mut own = tokens::of_org(platform, org).await?;
    own.retain(|token| token.member.as_deref() == Some(email));
    if !was_there && own.is_empty() {
        return Err(no_member(org, email));
    }
    tokens::delete(platform, &own).await
}

fn no_member(org: &OrgRecord, email: &str) -> Error {
    let email = shortened(email, 80);
    Error::not_found(format!("organization {:?} has no member {email}", org.slug))
}

/// An address in lower case. It is not looked into further than a key needs.
fn address(text: &str) -> Result<String, Error> {
    let email = text.trim().to_lowercase();
    let parts = email.split_once('@').filter(|(name, host)| !name.is_empty() && !host.is_empty());
    let strange = |c: char| c.is_control() || c.is_whitespace() || "/,;<>\"".contains(c);
    let is_one = parts.is_some_and(|(_, host)| !host.contains('@'));
    if !is_one || email.len() > MAX_EMAIL || email.contains(strange) {
        return Err(Error::invalid("email", "must be an e-mail address of at most 254 bytes"));
    }
    Ok(email)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses() {
        assert_eq!(address(" Ann@Example.com ").unwrap(), "ann@example.com");
        for bad in ["", "ann", "@a", "a@", "a@b@c", "a b@c", "a/b@c", "a\n@c", &"a@b".repeat(99)] {
            assert!(address(bad).is_err(), "{bad:?}");
        }
    }
}
