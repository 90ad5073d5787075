//! The endpoint of tunnels.

use crate::{Error, Kind};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use std::net::IpAddr;
use zeroize::Zeroizing;

/// Where tunnels end, as clients are given it.
#[derive(Clone, Debug)]
pub enum Gateway {
    /// Nowhere.
    Off {
        /// Why, as a part of a sentence.
        reason: String,
    },
    /// At an address.
    At {
        /// The address that clients dial.
        address: IpAddr,
        /// The gateway's public key, base64.
        public_key: String,
    },
}

impl Default for Gateway {
    fn default() -> Self {
        Self::Off { reason: "no address is set for them".into() }
    }
}

impl Gateway {
    /// Address and public key.
    ///
    /// # Errors
    /// There is no gateway, and why.
    pub(crate) fn endpoint(&self) -> Result<(IpAddr, &str), Error> {
        match self {
            Self::At { address, public_key } => Ok((*address, public_key)),
            Self::Off { reason } => {
                let why = format!("tunnels of flyctl are not accepted by this platform: {reason}");
                Err(Error::new(Kind::Conflict, why).hint(
                    "an operator sets `listen.tunnel` to a free address of the host and starts \
                     the daemon again; `updraft machine exec` needs no tunnel",
                ))
            }
        }
    }

    /// Whether there is one.
    pub(crate) fn is_available(&self) -> bool {
        matches!(self, Self::At { .. })
    }
}

/// Text that is no private key.
#[derive(Debug, thiserror::Error)]
#[error("it has to be 32 bytes in base64, as `wg genkey` prints them")]
pub struct BadGatewayKey;

/// The private key of the gateway (X25519, RFC 7748).
pub struct GatewayKey(crypto_box::SecretKey);

impl std::fmt::Debug for GatewayKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("GatewayKey")
    }
}

impl GatewayKey {
    /// The text of a new key.
    pub fn generate(rng: &rt::Rng) -> String {
        STANDARD.encode(Zeroizing::new(rng.bytes(32)))
    }

    /// A key from its text.
    ///
    /// # Errors
    /// The text is none.
    pub fn parse(text: &str) -> Result<Self, BadGatewayKey> {
        let bytes = Zeroizing::new(STANDARD.decode(text).map_err(|_| BadGatewayKey)?);
        let key = crypto_box::SecretKey::from_slice(&bytes).map_err(|_| BadGatewayKey)?;
        Ok(Self(key))
    }

    /// The public key, base64.
    pub fn public(&self) -> String {
        STANDARD.encode(self.0.public_key().as_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The pair of Bob in RFC 7748, section 6.1.
    #[test]
    fn a_public_key_follows_from_the_private_one() {
        let base64 = |text: &str| STANDARD.encode(hex::decode(text).unwrap());
        let own = "5dab087e624a8a4b79e17f8b83800ee66f3bb1292618b6fd1c2f8b27ff88e0eb";
        let public = "de9edb7d7b7dc1b4d35b61c2ece435373f8343c85b78674dadfc7e146f882b4f";
        assert_eq!(GatewayKey::parse(&base64(own)).unwrap().public(), base64(public));
        for bad in ["", "AAAA", &base64(&own[2..]), own] {
            assert!(GatewayKey::parse(bad).is_err(), "{bad}");
        }
        let made = GatewayKey::generate(&rt::Rng::seeded(1));
        assert!(GatewayKey::parse(&made).is_ok() && made.len() == 44);
    }
}
