//! API tokens. The store keeps their hashes only.

use crate::{Error, Platform, lookup};
use model::id::HostId;
use sha2::{Digest, Sha256};
use store::records::{self, Stored, TokenRecord, encode};
use store::{Op, StoreError, Txn};
use subtle::ConstantTimeEq;

/// Kind of the tokens that may do everything.
const ADMIN: &str = "admin";

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
    let sha256 = hash(token);
    let key = records::token_key(&sha256);
    let known: Vec<Stored<TokenRecord>> = records::list(platform.store(), records::TOKENS).await?;
    // A token without a node is of a time when there could be one node only.
    let of_node = |token: &TokenRecord| token.node.is_none_or(|of| of == node);
    let former = known.iter().filter(|t| t.record.kind == ADMIN && of_node(&t.record));
    let mut then: Vec<Op> = former.filter(|t| t.key != key).map(|t| Op::delete(&t.key)).collect();
    let installed = known.iter().find(|t| t.key == key);
    if installed.is_none_or(|token| token.record.node.is_none()) {
        let record =
            TokenRecord { name: ADMIN.into(), kind: ADMIN.into(), sha256, node: Some(node) };
        then.push(Op::put(key, encode(&record)));
    }
    if !then.is_empty() {
        platform.store().txn(Txn { then, ..Txn::default() }).await?;
    }
    Ok(())
}

/// The record of a valid token.
///
/// # Errors
/// The store failed.
pub async fn find(platform: &Platform, token: &str) -> Result<Option<TokenRecord>, Error> {
    let sha256 = hash(token);
    let key = records::token_key(&sha256);
    let found: Option<Stored<TokenRecord>> = lookup::get(platform, &key).await?;
    let same = |record: &TokenRecord| bool::from(record.sha256.as_bytes().ct_eq(sha256.as_bytes()));
    Ok(found.map(|found| found.record).filter(same))
}

/// What is stored of a token: its SHA-256 in hex.
fn hash(token: &str) -> String {
    Sha256::digest(token.as_bytes()).iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_known_hash() {
        let expected = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(hash("abc"), expected);
    }
}
