//! Tokens that expired some days ago: their records are deleted. Until then a list shows them, and
//! their holders get the answer that they have expired.

use super::driver::{Outcome, Reconciler};
use crate::{Error, Platform, lookup, tokens};
use std::time::Duration;
use store::Change;
use store::records::{self, Listed, Stored, TokenRecord};

/// Time for which the record of an expired token is kept.
const KEPT_MS: u64 = 7 * 24 * 3600 * 1000;

pub(super) struct ExpiredTokens;

fn is_due(record: &TokenRecord, now_ms: u64) -> bool {
    record.expires_ms.is_some_and(|end| end.saturating_add(KEPT_MS) <= now_ms)
}

impl Reconciler for ExpiredTokens {
    const NAME: &'static str = "expired tokens";
    const PREFIX: &'static str = records::TOKENS;

    async fn list(&self, platform: &Platform) -> Result<Vec<String>, Error> {
        let all: Listed<TokenRecord> = lookup::list(platform, records::TOKENS).await?;
        let now_ms = platform.clock().now_ms();
        let due = all.records.into_iter().filter(|token| is_due(&token.record, now_ms));
        Ok(due.map(|token| token.record.sha256).collect())
    }

    fn changed(&self, _: &Change) -> Option<(String, Duration)> {
        // It is time that makes them due.
        None
    }

    async fn reconcile(&self, platform: &Platform, item: &str) -> Result<Outcome, Error> {
        let found: Option<Stored<TokenRecord>> =
            records::get(platform.store(), &records::token_key(item)).await?;
        let found = found.map(|found| found.record);
        if let Some(token) = found.filter(|token| is_due(token, platform.clock().now_ms())) {
            tokens::delete(platform, &[token]).await?;
        }
        Ok(Outcome::Done)
    }
}
