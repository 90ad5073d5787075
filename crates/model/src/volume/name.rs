//! Names of volumes. Several volumes of one app may have the same name.

use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

/// Most characters of a name.
const MAX: usize = 30;

/// A name: letters, digits and underscores (<https://fly.io/docs/volumes/overview/>).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct VolumeName(String);

/// A text that is no name of a volume.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("must have 1 to 30 characters: letters, digits and underscores")]
pub struct BadName;

impl VolumeName {
    /// As text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for VolumeName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for VolumeName {
    type Err = BadName;

    fn from_str(text: &str) -> Result<Self, BadName> {
        let own = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
        let valid = (1..=MAX).contains(&text.len()) && text.bytes().all(own);
        if valid { Ok(Self(text.to_owned())) } else { Err(BadName) }
    }
}

impl TryFrom<String> for VolumeName {
    type Error = BadName;

    fn try_from(text: String) -> Result<Self, BadName> {
        text.parse()
    }
}

impl From<VolumeName> for String {
    fn from(name: VolumeName) -> Self {
        name.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_have_letters_digits_and_underscores() {
        for (text, valid) in [
            ("data", true),
            ("Pg_Data_1", true),
            (&"x".repeat(30), true),
            (&"x".repeat(31), false),
            ("", false),
            ("a-b", false),
            ("a/b", false),
            ("ä", false),
        ] {
            assert_eq!(text.parse::<VolumeName>().is_ok(), valid, "{text:?}");
        }
    }
}
