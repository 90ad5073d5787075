//! Whether a caveat prohibits an access.

use crate::denial::Denial;
use crate::{Access, Action, Caveat, Command, CommandRule, Roles};

/// Whether none of the caveats prohibits the access.
///
/// # Errors
/// The denial of the first one that does.
pub fn permits(caveats: &[Caveat], access: &Access) -> Result<(), Denial> {
    caveats.iter().try_for_each(|caveat| caveat.check(access))
}

impl Caveat {
    fn check(&self, access: &Access) -> Result<(), Denial> {
        let action = access.action;
        let same = |own: &String, id: &str| own == id;
        match self {
            Self::Organization { id, mask } => check_organization(*id, *mask, access),
            Self::Volumes { volumes: set } => {
                set.check(access.volume.as_deref(), action, "volume", same)
            }
            Self::Apps { apps: set } => {
                set.check(access.app.as_ref(), action, "app", |own, id: &u64| own == id)
            }
            Self::ValidityWindow { not_after, .. } if access.now > *not_after => {
                Err(Denial::Expired)
            }
            Self::ValidityWindow { not_before, .. } if access.now < *not_before => {
                Err(Denial::NotYetValid)
            }
            Self::ValidityWindow { .. } => Ok(()),
            Self::FeatureSet { features: set } => {
                set.check(access.org_feature.as_deref(), action, "organization feature", same)
            }
            Self::Mutations { mutations: names } => {
                check_mutation(names, access.mutation.as_deref())
            }
            Self::Machines { machines: set } => {
                set.check(access.machine.as_deref(), action, "machine", same)
            }
            Self::ThirdParty { location } => Err(Denial::ThirdParty(location.clone())),
            Self::IfPresent { ifs, otherwise } => check_if_present(ifs, *otherwise, access),
            Self::MachineFeatureSet { features: set } => {
                set.check(access.machine_feature.as_deref(), action, "machine feature", same)
            }
            Self::FromMachineSource { id } => {
                from(Some(id), access.source_machine.as_ref(), "machine")
            }
            Self::Clusters { clusters: set } => {
                set.check(access.cluster.as_deref(), action, "cluster", same)
            }
            Self::IsMember {} => check_roles(Roles::MEMBER, access),
            Self::Action(mask) => within(action, *mask),
            Self::Commands(rules) => check_command(rules, &access.command),
            Self::AppFeatureSet { features: set } => {
                set.check(access.app_feature.as_deref(), action, "app feature", same)
            }
            Self::StorageObjects { storage_objects: set } => {
                let prefix = |own: &String, url: &str| url.starts_with(own.as_str());
                set.check(access.storage_object.as_deref(), action, "storage object", prefix)
            }
            Self::AllowedRoles(roles) => check_roles(*roles, access),
            Self::FlySrc { organization, app, instance } => {
                let given = |text| Some(text).filter(|text: &&String| !text.is_empty());
                from(given(instance), access.source_machine.as_ref(), "machine")?;
                from(given(app), access.source_app.as_ref(), "app")?;
                from(given(organization), access.source_org.as_ref(), "organization")
            }
            Self::Unknown(kind) => Err(Denial::Unknown(*kind)),
        }
    }
}

fn within(action: Action, mask: Action) -> Result<(), Denial> {
    let missing = action.without(mask);
    if missing == Action::NONE { Ok(()) } else { Err(Denial::Action { missing }) }
}

fn check_organization(id: u64, mask: Action, access: &Access) -> Result<(), Denial> {
    match access.org {
        None => Err(Denial::Unspecified("organization")),
        Some(org) if id != 0 && id != org => {
            Err(Denial::Resource { kind: "organization", only: id.to_string() })
        }
        Some(_) => within(access.action, mask),
    }
}

fn check_mutation(names: &[String], mutation: Option<&str>) -> Result<(), Denial> {
    match mutation {
        None => Err(Denial::Unspecified("GraphQL mutation")),
        Some(name) if names.iter().any(|own| own == name) => Ok(()),
        Some(_) => Err(Denial::Resource { kind: "GraphQL mutation", only: names.join(", ") }),
    }
}

fn check_command(rules: &[CommandRule], command: &Command) -> Result<(), Denial> {
    let permitted = match command {
        Command::None => return Err(Denial::Unspecified("command")),
        Command::Some => !rules.is_empty(),
        Command::Argv(argv) => rules.iter().any(|rule| rule.permits(argv)),
    };
    let shown = |rule: &CommandRule| {
        let more = if rule.exact { "" } else { " …" };
        format!("{:?}{more}", rule.args.join(" "))
    };
    let only = || rules.iter().take(5).map(shown).collect::<Vec<_>>().join(", ");
    if permitted { Ok(()) } else { Err(Denial::Resource { kind: "command", only: only() }) }
}

fn check_roles(roles: Roles, access: &Access) -> Result<(), Denial> {
    if roles.has(Roles::required(access)) { Ok(()) } else { Err(Denial::Role) }
}

fn from(own: Option<&String>, source: Option<&String>, kind: &'static str) -> Result<(), Denial> {
    if own.is_none() || own == source { Ok(()) } else { Err(Denial::Source(kind)) }
}

/// A caveat applies unless its resource is unspecified. All that apply must permit the access.
fn check_if_present(ifs: &[Caveat], otherwise: Action, access: &Access) -> Result<(), Denial> {
    let mut applied = false;
    for caveat in ifs {
        match caveat.check(access) {
            Err(Denial::Unspecified(_)) => {}
            Err(denial) => return Err(denial),
            Ok(()) => applied = true,
        }
    }
    if applied { Ok(()) } else { within(access.action, otherwise) }
}

#[cfg(test)]
#[path = "prohibit_tests.rs"]
mod tests;
