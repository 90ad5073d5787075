//! Organizations as clients see them.

use super::default::DEFAULT_ORG;
use crate::access::{base, is_permitted};
use crate::{Error, Platform, lookup};
use macaroon::{Access, Action};
use store::records::{self, Listed, OrgRecord};
use wire::orgs::{Org, OrgList};

/// An organization by its slug.
///
/// # Errors
/// There is none.
pub async fn get(platform: &Platform, slug: &str) -> Result<OrgRecord, Error> {
    lookup::org(platform, slug).await
}

/// An organization that is there for the caller.
///
/// # Errors
/// There is none, or it is of others.
pub(crate) async fn visible(platform: &Platform, slug: &str) -> Result<OrgRecord, Error> {
    let org = lookup::org(platform, slug).await?;
    let access = Access { org: Some(u64::from(org.id.0)), ..base(platform, Action::READ) };
    if platform.rights().is_hidden(&access) {
        return Err(lookup::no_org(slug));
    }
    Ok(org)
}

/// The organizations that the caller may read, by slug.
pub(crate) async fn list(platform: &Platform) -> Result<OrgList, Error> {
    let all: Listed<OrgRecord> = lookup::list(platform, records::ORGS).await?;
    let mine = all.records.iter().map(|stored| &stored.record).filter(|org| !org.deleting);
    let mine = mine.filter(|org| {
        let access = Access { org: Some(u64::from(org.id.0)), ..base(platform, Action::READ) };
        is_permitted(platform, &access)
    });
    Ok(OrgList { orgs: mine.map(show).collect() })
}

/// An organization.
pub(crate) fn show(org: &OrgRecord) -> Org {
    Org {
        id: org.slug.clone(),
        slug: org.slug.clone(),
        name: org.name.clone(),
        kind: if org.slug == DEFAULT_ORG { "PERSONAL" } else { "SHARED" }.into(),
        internal_numeric_id: i32::try_from(org.id.0).unwrap_or(i32::MAX),
    }
}
