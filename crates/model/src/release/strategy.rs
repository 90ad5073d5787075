//! How a release replaces machines. See <https://fly.io/docs/launch/deploy/#deployment-strategy>.

use std::fmt;

/// How the machines of a release take the place of those before.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize,
)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum Strategy {
    /// New ones are made beside the old ones, which are removed when all new ones are healthy.
    Bluegreen,
    /// One new one has to be healthy before the others are replaced.
    Canary,
    /// All at once, without waiting for them.
    Immediate,
    /// A part of them after the other.
    #[default]
    Rolling,
    /// One after the other.
    RollingOne,
    /// All at once.
    Simple,
}

impl Strategy {
    /// All of them.
    pub const ALL: [Self; 6] = [
        Self::Bluegreen,
        Self::Canary,
        Self::Immediate,
        Self::Rolling,
        Self::RollingOne,
        Self::Simple,
    ];

    /// The API's name of it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Bluegreen => "BLUEGREEN",
            Self::Canary => "CANARY",
            Self::Immediate => "IMMEDIATE",
            Self::Rolling => "ROLLING",
            Self::RollingOne => "ROLLING_ONE",
            Self::Simple => "SIMPLE",
        }
    }

    /// The one with that name, in letters of either case, as a `fly.toml` has them.
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|strategy| strategy.as_str().eq_ignore_ascii_case(name))
    }
}

impl fmt::Display for Strategy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_in_either_case_and_stored_as_they_are_answered() {
        for strategy in Strategy::ALL {
            assert_eq!(Strategy::parse(strategy.as_str()), Some(strategy));
            assert_eq!(Strategy::parse(&strategy.as_str().to_ascii_lowercase()), Some(strategy));
            assert_eq!(serde_json::to_value(strategy).unwrap(), strategy.as_str());
        }
        assert_eq!(Strategy::parse("all-at-once"), None);
    }
}
