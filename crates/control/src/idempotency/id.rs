//! The identity of a request, and what follows from it.

use model::id::{MachineId, ReleaseId, VolumeId};
use sha2::{Digest, Sha256};

/// A request of one caller with one idempotency key. Callers do not share keys.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct RequestId(String);

impl RequestId {
    /// Of a caller, by a text that no other caller has, and its key.
    pub(crate) fn new(caller: &str, key: &str) -> Self {
        Self(hash(&["request", caller, key]))
    }

    /// One of the requests that this one is made of.
    pub(crate) fn part(&self, number: usize) -> Self {
        Self(hash(&["part", &self.0, &number.to_string()]))
    }

    /// As keys of records and of calls to hosts have it: 64 hex digits.
    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }

    /// The id of a machine that the request creates; another one for each attempt.
    pub(crate) fn machine_id(&self, attempt: u32) -> MachineId {
        MachineId::from_random(self.number(&format!("machine {attempt}")))
    }

    /// The nonce of a lease that the request acquires.
    pub(crate) fn nonce(&self) -> String {
        format!("{:016x}", self.number("nonce"))
    }

    /// The id of a release that the request creates.
    pub(crate) fn release_id(&self) -> ReleaseId {
        let random = u128::from_str_radix(&hash(&["release", &self.0])[..32], 16);
        ReleaseId::from_random(random.unwrap_or(0))
    }

    /// The id of a volume that the request creates.
    pub(crate) fn volume_id(&self) -> VolumeId {
        let random = u128::from_str_radix(&hash(&["volume", &self.0])[..32], 16);
        VolumeId::from_random(random.unwrap_or(0))
    }

    /// The number that the id of a build follows from that the request creates.
    pub(crate) fn build_number(&self) -> u64 {
        self.number("build")
    }

    fn number(&self, use_: &str) -> u64 {
        u64::from_str_radix(&hash(&[use_, &self.0])[..16], 16).unwrap_or(0)
    }
}

/// What makes two requests the same: method, path with query, and body. The key, which is not
/// stored, is in it, so that no body can be guessed from what is stored.
pub(crate) fn fingerprint(key: &str, method: &str, path: &str, body: &[u8]) -> String {
    let body = hex::encode(Sha256::digest(body));
    hash(&[key, method, path, &body])
}

/// SHA-256 in hex of texts; each is preceded by its length, so that no two lists are one text.
fn hash(texts: &[&str]) -> String {
    let mut sum = Sha256::new();
    for text in texts {
        sum.update((text.len() as u64).to_be_bytes());
        sum.update(text.as_bytes());
    }
    hex::encode(sum.finalize())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_follows_from_caller_and_key() {
        let id = RequestId::new("a", "bc");
        assert_eq!(id, RequestId::new("a", "bc"));
        assert_ne!(id, RequestId::new("ab", "c"));
        assert_ne!(id.part(0), id.part(1));
        assert_ne!(id.machine_id(0), id.machine_id(1));
        assert_ne!(id.release_id(), id.part(0).release_id());
        assert_eq!((id.as_str().len(), id.nonce().len()), (64, 16));
        assert_ne!(fingerprint("k", "POST", "/a", b""), fingerprint("k", "POST", "/", b"a"));
        assert_ne!(fingerprint("k", "POST", "/", b"a"), fingerprint("l", "POST", "/", b"a"));
    }
}
