//! The admin tokens: one per node of the control plane, from its token file.

use super::find::hash;
use super::scope::ADMIN;
use crate::Platform;
use model::id::HostId;
use store::records::{self, Stored, TokenRecord, encode};
use store::{Op, StoreError, Txn};

/// Makes `token` the admin token of `node`, in place of the one that the node
/// had before; tokens of other nodes stay valid. Doing it again changes nothing.
///
/// # Errors
/// The store failed.
pub async fn install_admin_token(
    platform: &Platform,
    node: HostId,
    token: &str,
) -> Result<(), StoreError> {
    let sha256 = hash(token.as_bytes());
    let key = records::token_key(&sha256);
    let known: Vec<Stored<TokenRecord>> = records::list(platform.store(), records::TOKENS).await?;
    // A token without a node is of a time when there could be one node only.
    let of_node = |token: &TokenRecord| token.node.is_none_or(|of| of == node);
    let former = known.iter().filter(|t| t.record.kind == ADMIN && of_node(&t.record));
    let mut then: Vec<Op> = former.filter(|t| t.key != key).map(|t| Op::delete(&t.key)).collect();
    let installed = known.iter().find(|t| t.key == key);
    if installed.is_none_or(|token| token.record.node.is_none()) {
        let record = TokenRecord {
            name: ADMIN.into(),
            kind: ADMIN.into(),
            sha256,
            node: Some(node),
            created_ms: platform.clock().now_ms(),
            ..TokenRecord::default()
        };
        then.push(Op::put(key, encode(&record)));
    }
    if !then.is_empty() {
        platform.store().txn(Txn { then, ..Txn::default() }).await?;
    }
    Ok(())
}
