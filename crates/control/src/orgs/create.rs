//! Creating an organization: slug, number and network are claimed in one transaction.

use super::default::DEFAULT_NETWORK;
use super::read::show;
use crate::counters::next_number;
use crate::retry::Tries;
use crate::{Error, Kind, Platform};
use model::id::{NetworkId, OrgId, OrgSlug};
use store::records::{self, NetworkRecord, OrgRecord, encode};
use store::{Compare, KeyRange, Op, Txn};
use wire::orgs::{CreateOrg, Org};

/// Most organizations of a platform.
const MAX_ORGS: usize = 10_000;
const MAX_NAME: usize = 100;

/// Makes an organization.
///
/// # Errors
/// The slug is taken, or the request is not valid.
pub(crate) async fn create(platform: &Platform, ask: CreateOrg) -> Result<Org, Error> {
    let name = ask.name.trim().to_owned();
    if name.is_empty() || name.chars().count() > MAX_NAME || name.chars().any(char::is_control) {
        return Err(Error::invalid("name", "1 to 100 characters, no control characters"));
    }
    let given = ask.slug.filter(|slug| !slug.is_empty());
    let slug = given.unwrap_or_else(|| slug_of(&name));
    let slug: OrgSlug =
        slug.parse().map_err(|err: model::id::BadId| Error::invalid("slug", err.to_string()))?;
    let key = records::org_key(slug.as_str());
    let mut tries = Tries::new();
    while tries.again(platform).await {
        let _counters = platform.lock_counters().await;
        let orgs = KeyRange::prefix(records::ORGS);
        let orgs = platform.store().range(orgs, None, Some(MAX_ORGS)).await?.entries;
        if orgs.iter().any(|entry| entry.key == key) {
            return Err(Error::name_taken(&format!("there is an organization {slug}")));
        }
        if orgs.len() >= MAX_ORGS {
            let why = format!("there are {MAX_ORGS} organizations, which is the most");
            return Err(Error::new(Kind::Conflict, why).hint("delete those that are not used"));
        }
        let mut txn = Txn { compare: vec![Compare::Absent(key.clone())], ..Txn::default() };
        let id = OrgId(next_number(platform, "orgs", &mut txn).await?);
        let number = NetworkId(next_number(platform, "networks", &mut txn).await?);
        let org = OrgRecord { slug: slug.to_string(), name: name.clone(), id, deleting: false };
        let network = records::network_key(slug.as_str(), DEFAULT_NETWORK);
        txn.then.push(Op::put(&key, encode(&org)));
        txn.then.push(Op::put(network, encode(&NetworkRecord { number })));
        if platform.store().txn(txn).await?.succeeded {
            return Ok(show(&org));
        }
    }
    Err(Error::contention("the list of organizations"))
}

/// `My Team!` is `my-team`.
fn slug_of(name: &str) -> String {
    let lower = name.to_lowercase();
    let words = lower.split(|c: char| !c.is_ascii_alphanumeric()).filter(|word| !word.is_empty());
    words.collect::<Vec<_>>().join("-").chars().take(63).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slug_is_made_from_the_name() {
        for (name, slug) in
            [("My Team!", "my-team"), ("acme", "acme"), ("é", ""), (" a  b ", "a-b")]
        {
            assert_eq!(slug_of(name), slug);
        }
    }
}
