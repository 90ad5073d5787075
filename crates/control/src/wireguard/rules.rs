//! What a peer may be.

use crate::error::shortened;
use crate::{Error, Kind};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use std::time::Duration;

/// Most peers of an organization.
pub(super) const MAX_PEERS: usize = 1000;
/// From this age on the oldest peer makes room for another one where there are [`MAX_PEERS`]: an
/// agent whose peer is gone finds out by `validateWireGuardPeers`, and makes another one.
pub(super) const MAY_BE_REPLACED: Duration = Duration::from_secs(30 * 24 * 3600);
/// Longest name: a client's is made from a host name, an e-mail address and an id.
const MAX_NAME: usize = 400;
/// The names of peers that the client's agent makes for itself begin so.
const OF_AGENT: &str = "interactive-";

/// A name that a new peer may have.
pub(super) fn name(text: &str) -> Result<(), Error> {
    let allowed = |b: u8| b.is_ascii_alphanumeric() || b == b'-';
    if text.is_empty() || text.len() > MAX_NAME || !text.bytes().all(allowed) {
        let rule = format!("must be 1 to {MAX_NAME} letters, digits and dashes");
        return Err(Error::invalid("name", rule));
    }
    if text.starts_with(OF_AGENT) {
        return Ok(());
    }
    let shown = shortened(text, 80);
    let why = format!(
        "tunnels that carry data are not supported yet, so peer {shown:?} could reach nothing: only \
         flyctl's own agent gets peers, for commands that make a tunnel and do not use it"
    );
    let hint = "`updraft machine exec` runs commands in machines without a tunnel";
    Err(Error::new(Kind::NotImplemented, why).hint(hint))
}

/// A public key, base64 of 32 bytes. The text that is stored is the canonical one.
pub(super) fn public_key(text: &str) -> Result<String, Error> {
    let rule = "must be a WireGuard public key: 32 bytes in base64";
    let key = STANDARD.decode(text.trim()).map_err(|_| Error::invalid("pubkey", rule))?;
    if key.len() != 32 || key.iter().all(|byte| *byte == 0) {
        return Err(Error::invalid("pubkey", rule));
    }
    Ok(STANDARD.encode(key))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_of_the_agent() {
        assert!(name("interactive-host-ann-example-com-01JDXYZ").is_ok());
        for bad in ["", "a/b", "interactive-a/b", "interactive-ä", "interactive- x"] {
            assert_eq!(name(bad).unwrap_err().kind, Kind::Invalid, "{bad}");
        }
        assert!(name(&format!("interactive-{}", "a".repeat(MAX_NAME))).is_err());
        for other in ["static-host-01JDXYZ", "laptop"] {
            assert_eq!(name(other).unwrap_err().kind, Kind::NotImplemented, "{other}");
        }
    }

    #[test]
    fn keys_are_32_bytes() {
        let key = STANDARD.encode([7; 32]);
        assert_eq!(public_key(&format!(" {key}\n")).unwrap(), key);
        for bad in ["", "x", &STANDARD.encode([7; 31]), &STANDARD.encode([0; 32]), &key[1..]] {
            assert!(public_key(bad).is_err(), "{bad}");
        }
    }
}
