//! Secret keys of an app, as the API takes and shows them.

use crate::secret::Bytes;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The algorithms of secret keys; an Updraft addition.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct KeyTypes {
    /// Names of types.
    pub types: Vec<String>,
}

/// A secret key, without its secret part.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct SecretKey {
    /// Name.
    pub name: String,
    /// Algorithm, such as `hs256`.
    #[serde(rename = "type")]
    pub kind: String,
    /// Public part, if the algorithm has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub public_key: Option<Bytes>,
}

/// Secret keys of an app.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct SecretKeys {
    /// By name.
    pub secret_keys: Vec<SecretKey>,
}

/// A key to be set, or generated where there is no value.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct NewSecretKey {
    /// Algorithm.
    #[serde(default, rename = "type")]
    pub kind: String,
    /// The key.
    #[serde(default)]
    pub value: Option<Bytes>,
}

/// Answer to a change of a secret key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct SecretKeyChanged {
    /// The key; absent once it is removed.
    #[serde(flatten)]
    pub key: Option<SecretKey>,
    /// Grows with each change of the app's keys.
    pub version: u64,
}

/// A message to be encrypted.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Encrypt {
    /// Message.
    #[serde(default)]
    pub plaintext: Bytes,
    /// What it is bound to.
    #[serde(default)]
    pub associated_data: Bytes,
}

/// An encrypted message.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Encrypted {
    /// The message.
    pub ciphertext: Bytes,
}

/// A message to be decrypted.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Decrypt {
    /// The message.
    #[serde(default)]
    pub ciphertext: Bytes,
    /// What it was bound to.
    #[serde(default)]
    pub associated_data: Bytes,
}

/// A decrypted message.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Decrypted {
    /// The message.
    pub plaintext: Bytes,
}

/// A message to be signed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Sign {
    /// Message.
    #[serde(default)]
    pub plaintext: Bytes,
}

/// A signature.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Signed {
    /// The signature alone.
    pub signature: Bytes,
}

/// A signature to be verified.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Verify {
    /// Message.
    #[serde(default)]
    pub plaintext: Bytes,
    /// Signature.
    #[serde(default)]
    pub signature: Bytes,
}
