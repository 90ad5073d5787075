//! OpenID Connect tokens for machines
//! (<https://fly.io/docs/security/openid-connect/>): a service outside trusts the platform's
//! issuer and not a secret that is stored in the machine.
//!
//! - `keys`: the keys that sign, with their rotation.
//! - `issue`: the claims of a machine, and its token.
//! - `discovery`: what verifiers fetch without a token.

mod discovery;
mod issue;
mod keys;

pub(crate) use discovery::{configuration, jwks};
pub(crate) use issue::issue;
pub use keys::{KeyError, OidcKeys};

/// Settings of the issuer.
#[derive(Clone, Debug, Default)]
pub struct OidcConfig {
    /// URL of the issuer, without the organization that is added to it. Verifiers fetch the keys
    /// from it.
    pub issuer: String,
    /// The audience of a token whose request names none; that of the issuer if it is empty.
    pub audience: String,
    /// The keys; without them there are no tokens.
    pub keys: Option<OidcKeys>,
}
