//! What has to be there before the first request.

use super::{Api, ApiError, auth};
use crate::ports::{Compare, KeyRange, Op, StoreError, Txn};
use crate::records::{self, NetworkRecord, OrgRecord, Stored, TokenRecord, encode};

/// Slug of the org that is made by itself.
pub(super) const DEFAULT_ORG: &str = "personal";
/// Name of an org's network that is made by itself.
pub(super) const DEFAULT_NETWORK: &str = "default";

impl Api {
    /// Makes the default org and its network, and sees to it that
    /// `admin_token` is the one and only admin token. Of the token only a hash
    /// is kept. Doing it again changes nothing.
    ///
    /// # Errors
    /// The store failed.
    pub async fn ensure_defaults(&self, admin_token: &str) -> Result<(), StoreError> {
        let org = OrgRecord { slug: DEFAULT_ORG.into(), name: "Personal".into(), number: 1 };
        let org_key = records::org_key(DEFAULT_ORG);
        let put = |key: String, value| Op::Put(key, value, 0);
        let made = Txn {
            compare: vec![Compare::Absent(org_key.clone())],
            then: vec![
                put(org_key, encode(&org)),
                put(records::counter_key("orgs"), encode(&1)),
                put(
                    records::network_key(DEFAULT_ORG, DEFAULT_NETWORK),
                    encode(&NetworkRecord { number: 1 }),
                ),
                put(records::counter_key("networks"), encode(&1)),
            ],
            otherwise: vec![],
        };
        self.store().txn(made).await?;
        self.admit(admin_token).await
    }

    async fn admit(&self, admin_token: &str) -> Result<(), StoreError> {
        let sha256 = auth::hash(admin_token);
        let key = records::token_key(&sha256);
        let known: Vec<Stored<TokenRecord>> = records::list(self.store(), records::TOKENS).await?;
        let admins = known.iter().filter(|token| token.record.kind == "admin");
        let former = admins.filter(|token| token.key != key);
        let mut then: Vec<Op> = former.map(|token| Op::Delete(KeyRange::key(&token.key))).collect();
        if !known.iter().any(|token| token.key == key) {
            let token = TokenRecord { name: "admin".into(), kind: "admin".into(), sha256 };
            then.push(Op::Put(key, encode(&token), 0));
        }
        if !then.is_empty() {
            self.store().txn(Txn { then, ..Txn::default() }).await?;
        }
        Ok(())
    }

    pub(super) async fn org(&self, slug: &str) -> Result<OrgRecord, ApiError> {
        let no_org = || {
            let slug: String = slug.chars().take(80).collect();
            ApiError::not_found(format!("Could not find Organization \"{slug}\""))
        };
        let slug: model::id::OrgSlug = slug.parse().map_err(|_| no_org())?;
        let found: Option<Stored<OrgRecord>> =
            records::get(self.store(), &records::org_key(slug.as_str())).await?;
        found.map(|org| org.record).ok_or_else(no_org)
    }
}
