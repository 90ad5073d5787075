//! When each token was last used: written at most once per interval, so that a token in use
//! costs the store little.

use super::find::Found;
use crate::Platform;
use store::records::{self, TokenUseRecord, encode};
use store::{Compare, Op, Txn};

/// Notes the use of tokens, in the background.
pub(crate) fn note_use(platform: &Platform, tokens: &[Found]) {
    let now_ms = platform.clock().now_ms();
    for Found { record, .. } in tokens {
        // Admin tokens are in no list.
        if record.org.is_none() || !platform.token_uses().is_due(&record.sha256, now_ms) {
            continue;
        }
        let (own, sha256) = (platform.clone(), record.sha256.clone());
        platform.tasks().spawn_until_stop(async move {
            let value = encode(&TokenUseRecord { used_ms: now_ms });
            let txn = Txn {
                // It may be revoked by now.
                compare: vec![Compare::Present(records::token_key(&sha256))],
                then: vec![Op::put(records::token_use_key(&sha256), value)],
                otherwise: vec![],
            };
            if let Err(err) = own.store().txn(txn).await {
                tracing::warn!(error = %rt::chain(&err), "note the use of a token");
            }
        });
    }
}
