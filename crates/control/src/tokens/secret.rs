//! The secret that the keys of macaroons are derived from.

use std::sync::Arc;

/// The secret. Empty where there is none: then there are no macaroons.
#[derive(Clone, Default)]
pub struct TokenSecret(Arc<[u8]>);

impl TokenSecret {
    /// A secret with at least 128 bits of chance.
    pub fn new(secret: &[u8]) -> Self {
        Self(Arc::from(secret))
    }

    /// The key with this id.
    pub(super) fn key(&self, key_id: &[u8]) -> Option<Vec<u8>> {
        (!self.0.is_empty()).then(|| macaroon::derive_key(&self.0, key_id))
    }
}

impl std::fmt::Debug for TokenSecret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("TokenSecret")
    }
}
