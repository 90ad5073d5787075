//! Roles that a token may be used with, and what each feature of an organization requires
//! (`MemberFeatures` of the public Go package).

use crate::{Access, Action};

/// A set of roles, as in the caveat `AllowedRoles`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
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
            None => return Self::MEMBER,
            // `tokens` is an addition: a member makes tokens that can do what the member can.
            Some("wg" | "domain" | "site" | "builder" | "addon" | "checks" | "litefs-cloud") => {
                Action::ALL
            }
            Some("tokens") => Action::ALL,
            Some("membership" | "billing" | "authentication") => Action::READ,
            Some(_) => Action::NONE,
        };
        if access.action.is_within(permitted) { Self::MEMBER } else { Self::ADMIN }
    }
}
