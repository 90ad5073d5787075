//! Why an access is prohibited.

use crate::Action;
use serde::Serialize;

/// Number of a kind of caveat.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct Kind(pub u64);

/// Why an access is prohibited.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Denial {
    /// The action is not permitted on the resource.
    Action {
        /// The actions that are missing.
        missing: Action,
    },
    /// The resource is not one of the permitted ones.
    Resource {
        /// Its kind.
        kind: &'static str,
        /// Those that are permitted.
        only: String,
    },
    /// The caveat is about a kind of resource that the access does not name.
    Unspecified(&'static str),
    /// The time is not in the window of validity.
    Expired,
    /// The time is before the window of validity.
    NotYetValid,
    /// The request comes from elsewhere.
    Source(&'static str),
    /// A role that the token may not use is required.
    Role,
    /// A third party has to vouch for the holder.
    ThirdParty(String),
    /// A kind of caveat that this version does not know.
    Unknown(Kind),
    /// The caveat cannot be applied.
    Malformed(&'static str),
}

impl std::fmt::Display for Denial {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Action { missing } => write!(f, "it lacks the permission to {}", missing.words()),
            Self::Resource { kind, only } if only.is_empty() => write!(f, "it permits no {kind}"),
            Self::Resource { kind, only } => write!(f, "it permits the {kind} {only} only"),
            Self::Unspecified(kind) => write!(f, "it permits calls about its {kind} only"),
            Self::Expired => write!(f, "it has expired"),
            Self::NotYetValid => write!(f, "it is not valid yet"),
            Self::Source(source) => write!(f, "it may be used from another {source} only"),
            Self::Role => write!(f, "the call needs the role admin"),
            Self::ThirdParty(location) => {
                write!(f, "it needs a discharge of {location}, which this platform cannot verify")
            }
            Self::Unknown(Kind(kind)) => {
                write!(f, "its caveat {kind} is not known to this platform")
            }
            Self::Malformed(why) => write!(f, "a caveat of it is malformed: {why}"),
        }
    }
}
