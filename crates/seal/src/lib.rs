//! Encryption of secrets at rest, with a key that is kept outside of the databases.
//!
//! - [`SealingKey`]: the key of one data directory, in a file of its own. It seals
//!   values, opens them again, and makes the digests that are shown in place of values.
//! - [`SecretKey`]: the algorithms of secret keys, with which an app signs and encrypts.
//! - [`xaes`]: XAES-256-GCM, the cipher that values are sealed with.
//!
//! A sealed value names the key that it was sealed with and is bound to a context
//! (what it is the value of): one that was moved to another place does not open.

mod key;
mod key_file;
mod secret_key;
pub mod xaes;

pub use key::{KeyId, OpenError, SealingKey};
pub use key_file::KeyFileError;
pub use secret_key::{KeyType, SecretKey, SecretKeyError};
