//! What every platform has.

use crate::Platform;
use model::id::{NetworkId, OrgId};
use store::records::{self, NetworkRecord, OrgRecord, encode};
use store::{Compare, Op, StoreError, Txn};

/// Slug of the organization that every platform has.
pub const DEFAULT_ORG: &str = "personal";
/// Name of the network that every organization has.
pub const DEFAULT_NETWORK: &str = "default";

/// Makes the default organization and its network, unless they exist.
///
/// # Errors
/// The store failed.
pub async fn ensure_default(platform: &Platform) -> Result<(), StoreError> {
    let (slug, name) = (DEFAULT_ORG.to_owned(), "Personal".to_owned());
    let org = OrgRecord { slug, name, id: OrgId(1), deleting: false };
    let org_key = records::org_key(DEFAULT_ORG);
    let network = NetworkRecord { number: NetworkId(1) };
    let create = Txn {
        compare: vec![Compare::Absent(org_key.clone())],
        then: vec![
            Op::put(org_key, encode(&org)),
            Op::put(records::counter_key("orgs"), encode(&1)),
            Op::put(records::network_key(DEFAULT_ORG, DEFAULT_NETWORK), encode(&network)),
            Op::put(records::counter_key("networks"), encode(&1)),
        ],
        otherwise: vec![],
    };
    platform.store().txn(create).await.map(drop)
}
