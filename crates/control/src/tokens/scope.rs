//! What a token permits, from its record.

use macaroon::{Action, Caveat, CommandRule, Kind, Resources, Roles};
use store::records::TokenRecord;

/// Kind of the tokens that may do everything.
pub(super) const ADMIN: &str = "admin";

/// What a token is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Scope {
    /// Everything in an organization.
    Org,
    /// Everything about one app.
    Deploy,
    /// Reading.
    ReadOnly,
    /// Reading, and any command in the machines of an app.
    Ssh,
    /// Reading, and some commands in the machines of an app.
    MachineExec,
}

impl Scope {
    const WORDS: [(Self, &'static str); 5] = [
        (Self::Org, "org"),
        (Self::Deploy, "deploy"),
        (Self::ReadOnly, "readonly"),
        (Self::Ssh, "ssh"),
        (Self::MachineExec, "machine-exec"),
    ];

    pub(crate) fn parse(kind: &str) -> Option<Self> {
        Self::WORDS.iter().find(|(_, word)| *word == kind).map(|(scope, _)| *scope)
    }

    /// All actions that a token can do.
    pub(super) fn action(self) -> Action {
        match self {
            Self::Org | Self::Deploy => Action::ALL,
            Self::ReadOnly => Action::READ,
            // What a command can do.
            Self::Ssh | Self::MachineExec => Action::READ.and(Action::WRITE).and(Action::CONTROL),
        }
    }
}

/// All that restricts a token; `None` for an admin token.
pub(super) fn rights_of(record: &TokenRecord) -> Option<Vec<Caveat>> {
    if record.kind == ADMIN && record.org.is_none() {
        return None;
    }
    // A record of a newer version, or a broken one, permits nothing.
    let nothing = || Some(vec![Caveat::Unknown(Kind(u64::MAX))]);
    let (Some(scope), Some(org)) = (Scope::parse(&record.kind), record.org) else {
        return nothing();
    };
    let mask = if scope == Scope::ReadOnly { Action::READ } else { Action::ALL };
    let mut caveats = vec![Caveat::Organization { id: u64::from(org.0), mask }];
    if scope != Scope::Org && (!record.apps.is_empty() || scope != Scope::ReadOnly) {
        let apps = record.apps.iter().map(|app| u64::from(app.0));
        caveats.push(Caveat::Apps { apps: Resources::of(apps, mask) });
    }
    let any_command = CommandRule { args: vec![], exact: false };
    let commands = match scope {
        Scope::Ssh => Some(vec![any_command]),
        Scope::MachineExec if record.commands.is_empty() => Some(vec![any_command]),
        Scope::MachineExec => {
            let rules = record.commands.iter().cloned();
            Some(rules.map(|rule| CommandRule { args: rule.args, exact: rule.exact }).collect())
        }
        Scope::Org | Scope::Deploy | Scope::ReadOnly => None,
    };
    caveats.extend(commands.map(|commands| Caveat::IfPresent {
        ifs: vec![Caveat::Commands(commands)],
        otherwise: Action::READ,
    }));
    caveats.extend(record.roles.map(|roles| Caveat::AllowedRoles(Roles(roles))));
    Some(caveats)
}

#[cfg(test)]
mod tests {
    use super::*;
    use macaroon::{Access, Command, permits};
    use model::id::{AppId, OrgId};

    fn record(kind: &str, apps: &[u32], commands: &[&str]) -> TokenRecord {
        let rule =
            |arg: &&str| wire::tokens::CommandRule { args: vec![(*arg).to_owned()], exact: false };
        TokenRecord {
            kind: kind.into(),
            org: Some(OrgId(1)),
            apps: apps.iter().map(|app| AppId(*app)).collect(),
            commands: commands.iter().map(rule).collect(),
            ..TokenRecord::default()
        }
    }

    /// Which of some calls the token permits: in the organization, read, write, control and
    /// exec of `ls` and `rm` in app 7, read in app 8, read in another organization.
    fn permitted(record: &TokenRecord) -> String {
        let Some(caveats) = rights_of(record) else { return "everything".into() };
        let org = |action| Access { action, org: Some(1), ..Access::default() };
        let app = |app, action| Access { app: Some(app), ..org(action) };
        let exec = |argv: &str| Access {
            machine: Some("m".into()),
            command: Command::Argv(vec![argv.into()]),
            ..app(7, Action::WRITE.and(Action::CONTROL))
        };
        let calls = [
            ("org", org(Action::READ)),
            ("create", Access { app: Some(0), ..org(Action::CREATE) }),
            ("read", app(7, Action::READ)),
            ("write", app(7, Action::WRITE)),
            ("control", app(7, Action::CONTROL)),
            ("ls", exec("ls")),
            ("rm", exec("rm")),
            ("other", app(8, Action::READ)),
            ("foreign", Access { org: Some(2), ..app(9, Action::READ) }),
        ];
        let kept = calls.into_iter().filter(|(_, access)| permits(&caveats, access).is_ok());
        kept.map(|(name, _)| name).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn each_kind_permits_what_it_is_for() {
        for (token, expected) in [
            (record("org", &[], &[]), "org create read write control ls rm other"),
            (record("deploy", &[7], &[]), "read write control ls rm"),
            (record("readonly", &[], &[]), "org read other"),
            (record("readonly", &[7], &[]), "read"),
            (record("ssh", &[7], &[]), "read ls rm"),
            (record("machine-exec", &[7], &["ls"]), "read ls"),
            (record("machine-exec", &[7], &[]), "read ls rm"),
            // A token for an app without an app permits nothing.
            (record("deploy", &[], &[]), ""),
            (record("of a newer version", &[7], &[]), ""),
            (TokenRecord { org: None, ..record("org", &[], &[]) }, ""),
            (TokenRecord { kind: ADMIN.into(), ..TokenRecord::default() }, "everything"),
            (record(ADMIN, &[], &[]), ""),
        ] {
            assert_eq!(permitted(&token), expected, "{token:?}");
        }
    }
}
