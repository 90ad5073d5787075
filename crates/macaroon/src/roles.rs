//! Roles that a token may be used with, and what each feature of an organization requires
//! (`MemberFeatures` of the public Go package).

use crate::{Access, Action};
use serde::{Deserialize, Serialize};

/// A set of roles, as in the caveat `AllowedRoles`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Roles(pub u32);

impl Roles {
    /// May use an organization.
    pub const MEMBER: Self = Self(1);
    /// May do everything.
    pub const ADMIN: Self = Self(u32::MAX);

    /// Whether all of `other` are in this set.
    pub const fn has(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// The roles that an access requires.
    pub(crate) fn required(access: &Access) -> Self {
        let permitted = match access.org_feature.as_deref() {
            // An addition: a member does not revoke the tokens of others.
            None if access.app_feature.as_deref() == Some("tokens") => {
                Action::ALL.without(Action::DELETE)
            }
            None => return Self::MEMBER,
            Some("wg" | "domain" | "site" | "builder" | "addon" | "checks" | "litefs-cloud") => {
                Action::ALL
            }
            // An addition: a member makes tokens that can do what the member can, and revokes
            // its own.
            Some("tokens") => Action::ALL.without(Action::DELETE),
            Some("membership" | "billing" | "authentication") => Action::READ,
            Some(_) => Action::NONE,
        };
        if access.action.is_within(permitted) { Self::MEMBER } else { Self::ADMIN }
    }
}
