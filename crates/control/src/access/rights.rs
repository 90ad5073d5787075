//! What a caller has.

use macaroon::{Access, Caveat, Denial, permits};
use model::id::MachineId;
use std::sync::Arc;

/// What one token permits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Grant {
    /// Name of the token.
    pub token: String,
    /// All that restricts it.
    pub caveats: Vec<Caveat>,
}

/// What a caller may do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Rights {
    /// Everything: the control plane itself, and admin tokens.
    All,
    /// What at least one of these permits.
    Grants(Arc<[Grant]>),
    /// A machine without a token: what its route permits about the machine itself.
    Machine(MachineId),
}

/// Why an access is refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Refusal {
    /// Name of the token that was closest to it; `None` for a machine.
    pub(crate) token: Option<String>,
    /// What the token lacks; `None` if it is for the admin only.
    pub(crate) denial: Option<Denial>,
}

impl Rights {
    /// Whether the access is permitted.
    ///
    /// # Errors
    /// Why the first token does not permit it, if none does.
    pub(crate) fn check(&self, access: &Access) -> Result<(), Refusal> {
        let grants = match self {
            Self::All => return Ok(()),
            Self::Machine(_) => return Err(Refusal { token: None, denial: None }),
            Self::Grants(grants) => grants,
        };
        let mut first = None;
        for grant in &**grants {
            match permits(&grant.caveats, access) {
                Ok(()) => return Ok(()),
                Err(denial) => {
                    first.get_or_insert((grant.token.clone(), denial));
                }
            }
        }
        let (token, denial) = first.unzip();
        Err(Refusal { token, denial })
    }

    /// The refusal of a call for which only an admin token will do.
    pub(crate) fn admin_only(&self) -> Result<(), Refusal> {
        match self {
            Self::All => Ok(()),
            Self::Machine(_) => Err(Refusal { token: None, denial: None }),
            Self::Grants(grants) => {
                let token = grants.first().map(|grant| grant.token.clone());
                Err(Refusal { token, denial: None })
            }
        }
    }

    /// Whether the app or organization of the access is beyond every token: then it does not
    /// exist for the caller.
    pub(crate) fn is_hidden(&self, access: &Access) -> bool {
        let Self::Grants(grants) = self else { return false };
        let read = Access {
            action: macaroon::Action::READ,
            org: access.org,
            app: access.app,
            now: access.now,
            ..Access::default()
        };
        let of_another = |denial: &Denial| {
            matches!(denial, Denial::Resource { kind: "organization" | "app", .. })
        };
        grants.iter().all(|grant| permits(&grant.caveats, &read).is_err_and(|err| of_another(&err)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use macaroon::{Action, Resources};

    fn grant(token: &str, caveats: Vec<Caveat>) -> Grant {
        Grant { token: token.into(), caveats }
    }

    #[test]
    fn one_of_several_tokens_is_enough() {
        let org = |id, mask| Caveat::Organization { id, mask };
        let rights = Rights::Grants(Arc::from([
            grant("a", vec![org(1, Action::READ)]),
            grant("b", vec![org(2, Action::ALL)]),
        ]));
        let on = |org, action| Access { org: Some(org), action, ..Access::default() };
        assert_eq!(rights.check(&on(1, Action::READ)), Ok(()));
        assert_eq!(rights.check(&on(2, Action::DELETE)), Ok(()));
        let refused = rights.check(&on(1, Action::DELETE)).unwrap_err();
        assert_eq!(refused.token.as_deref(), Some("a"));
        assert!(!rights.is_hidden(&on(1, Action::DELETE)));
        assert!(rights.is_hidden(&on(3, Action::READ)));
        assert!(rights.admin_only().is_err() && Rights::All.admin_only().is_ok());
    }

    #[test]
    fn only_what_is_of_another_is_hidden() {
        let machine = Caveat::Machines { machines: Resources::of(["m".to_owned()], Action::ALL) };
        let apps = Caveat::Apps { apps: Resources::of([7], Action::ALL) };
        let rights = Rights::Grants(Arc::from([grant("a", vec![apps, machine])]));
        let on = |app| Access { org: Some(1), app: Some(app), ..Access::default() };
        assert!(!rights.is_hidden(&on(7)));
        assert!(rights.is_hidden(&on(8)));
        assert!(!Rights::All.is_hidden(&on(8)));
    }
}
