//! The key that secrets are sealed with in tests.

use seal::SealingKey;
use std::sync::Arc;
use zeroize::Zeroizing;

/// Always the same key: it outlives a daemon, as its file does.
pub fn secrets_key() -> Arc<SealingKey> {
    Arc::new(SealingKey::new(Zeroizing::new([7; 32])))
}
