//! Every kind of caveat against accesses that it permits and prohibits.

use super::*;
use crate::{Kind, Resources};

fn access(action: Action) -> Access {
    Access { action, org: Some(1), now: 100, ..Access::default() }
}

fn on_app(app: u64, action: Action) -> Access {
    Access { app: Some(app), ..access(action) }
}

fn exec(argv: &[&str]) -> Access {
    let argv = argv.iter().map(ToString::to_string).collect();
    Access {
        machine: Some("m".into()),
        command: Command::Argv(argv),
        ..on_app(7, Action::WRITE.and(Action::CONTROL))
    }
}

fn texts(ids: &[&str], actions: Action) -> Resources<String> {
    Resources::of(ids.iter().map(ToString::to_string), actions)
}

#[track_caller]
fn check(caveat: &Caveat, access: &Access, expected: &str) {
    let result = permits(std::slice::from_ref(caveat), access);
    let shown = result.map_or_else(|denial| denial.to_string(), |()| "permitted".into());
    assert_eq!(shown, expected, "{caveat:?} {access:?}");
}

#[test]
fn an_organization_and_its_actions() {
    let own = Caveat::Organization { id: 1, mask: Action::READ };
    check(&own, &access(Action::READ), "permitted");
    check(&own, &access(Action::ALL), "it lacks the permission to write, create, delete, control");
    let other = Access { org: Some(2), ..access(Action::READ) };
    check(&own, &other, "it permits the organization 1 only");
    let none = Access { org: None, ..access(Action::READ) };
    check(&own, &none, "it permits calls about its organization only");
    check(&Caveat::Organization { id: 0, mask: Action::READ }, &other, "permitted");
}

#[test]
fn resources_by_id() {
    let apps = Caveat::Apps { apps: Resources::of([7, 8], Action::READ) };
    check(&apps, &on_app(7, Action::READ), "permitted");
    check(&apps, &on_app(7, Action::DELETE), "it lacks the permission to delete");
    check(&apps, &on_app(9, Action::READ), "it permits the app 7, 8 only");
    check(&apps, &access(Action::READ), "it permits calls about its app only");
    check(
        &Caveat::Apps { apps: Resources::of([0], Action::READ) },
        &on_app(9, Action::READ),
        "permitted",
    );
    let mixed = Caveat::Apps { apps: Resources::of([0, 7], Action::READ) };
    let why = "a caveat of it is malformed: the zero id beside other ids";
    check(&mixed, &on_app(7, Action::READ), why);
    let none = Caveat::Apps { apps: Resources::default() };
    check(&none, &on_app(7, Action::READ), "it permits no app");

    let machines = Caveat::Machines { machines: texts(&["m"], Action::CONTROL) };
    let m = Access { machine: Some("m".into()), ..on_app(7, Action::CONTROL) };
    check(&machines, &m, "permitted");
    let n = Access { machine: Some("n".into()), ..m.clone() };
    check(&machines, &n, "it permits the machine m only");
    let volumes = Caveat::Volumes { volumes: texts(&["v"], Action::ALL) };
    check(&volumes, &m, "it permits calls about its volume only");

    let objects =
        Caveat::StorageObjects { storage_objects: texts(&["https://s/b/"], Action::READ) };
    let object = |url: &str| Access { storage_object: Some(url.into()), ..access(Action::READ) };
    check(&objects, &object("https://s/b/x"), "permitted");
    check(&objects, &object("https://s/c/x"), "it permits the storage object https://s/b/ only");
}

#[test]
fn a_window_of_time_has_both_ends() {
    let window = Caveat::ValidityWindow { not_before: 100, not_after: 200 };
    let at = |now| Access { now, ..access(Action::READ) };
    check(&window, &at(100), "permitted");
    check(&window, &at(200), "permitted");
    check(&window, &at(99), "it is not valid yet");
    check(&window, &at(201), "it has expired");
}

#[test]
fn commands_by_prefix_or_whole() {
    let rule = |args: &[&str], exact| CommandRule {
        args: args.iter().map(ToString::to_string).collect(),
        exact,
    };
    let commands = Caveat::Commands(vec![rule(&["ls"], false), rule(&["cat", "/a"], true)]);
    check(&commands, &exec(&["ls", "-l"]), "permitted");
    check(&commands, &exec(&["cat", "/a"]), "permitted");
    let only = r#"it permits the command "ls" …, "cat /a" only"#;
    for denied in [&["rm"][..], &["lsof"], &["cat", "/a", "/b"], &["cat"], &[]] {
        check(&commands, &exec(denied), only);
    }
    let some = Access { command: Command::Some, ..exec(&[]) };
    check(&commands, &some, "permitted");
    check(&Caveat::Commands(vec![]), &some, "it permits no command");
    check(&Caveat::Commands(vec![rule(&[], false)]), &exec(&["rm", "-r"]), "permitted");
}

#[test]
fn what_applies_only_if_it_is_present() {
    let ls = CommandRule { args: vec!["ls".into()], exact: false };
    let machine_exec =
        Caveat::IfPresent { ifs: vec![Caveat::Commands(vec![ls])], otherwise: Action::READ };
    check(&machine_exec, &exec(&["ls"]), "permitted");
    check(&machine_exec, &exec(&["rm"]), r#"it permits the command "ls" … only"#);
    check(&machine_exec, &on_app(7, Action::READ), "permitted");
    check(&machine_exec, &on_app(7, Action::CONTROL), "it lacks the permission to control");
    // All that apply have to permit it, and an unknown one never does.
    let both = Caveat::IfPresent {
        ifs: vec![
            Caveat::Apps { apps: Resources::of([7], Action::ALL) },
            Caveat::Unknown(Kind(9999)),
        ],
        otherwise: Action::ALL,
    };
    check(&both, &on_app(7, Action::READ), "its caveat 9999 is not known to this platform");
}

#[test]
fn roles_bound_the_features_of_an_organization() {
    let feature = |name: &str, action| Access { org_feature: Some(name.into()), ..access(action) };
    for caveat in [Caveat::IsMember {}, Caveat::AllowedRoles(Roles::MEMBER)] {
        check(&caveat, &on_app(7, Action::ALL), "permitted");
        check(&caveat, &feature("tokens", Action::CREATE), "permitted");
        check(&caveat, &feature("membership", Action::READ), "permitted");
        for (name, action) in [
            ("membership", Action::WRITE),
            ("tokens", Action::DELETE),
            ("deletion", Action::DELETE),
            ("audit", Action::READ),
        ] {
            check(&caveat, &feature(name, action), "the call needs the role admin");
        }
    }
    let admin = Caveat::AllowedRoles(Roles::ADMIN);
    check(&admin, &feature("deletion", Action::DELETE), "permitted");
}

#[test]
fn what_only_the_source_of_a_request_permits() {
    let from = |machine: Option<&str>| Access {
        source_machine: machine.map(Into::into),
        source_app: Some("web".into()),
        ..access(Action::READ)
    };
    let own = Caveat::FromMachineSource { id: "m".into() };
    check(&own, &from(Some("m")), "permitted");
    check(&own, &from(Some("n")), "it may be used from another machine only");
    check(&own, &from(None), "it may be used from another machine only");
    let src = |app: &str| Caveat::FlySrc {
        organization: String::new(),
        app: app.into(),
        instance: "m".into(),
    };
    check(&src("web"), &from(Some("m")), "permitted");
    check(&src(""), &from(Some("m")), "permitted");
    check(&src("api"), &from(Some("m")), "it may be used from another app only");
}

#[test]
fn what_cannot_be_verified_prohibits_everything() {
    let any = access(Action::NONE);
    let third = Caveat::ThirdParty { location: "https://auth".into() };
    let why = "it needs a discharge of https://auth, which this platform cannot verify";
    check(&third, &any, why);
    check(&Caveat::Unknown(Kind(17)), &any, "its caveat 17 is not known to this platform");
    let mutations = Caveat::Mutations { mutations: vec!["a".into()] };
    check(&mutations, &any, "it permits calls about its GraphQL mutation only");
    let mutation = |name: &str| Access { mutation: Some(name.into()), ..any.clone() };
    check(&mutations, &mutation("a"), "permitted");
    check(&mutations, &mutation("b"), "it permits the GraphQL mutation a only");
    let features = Caveat::FeatureSet { features: texts(&["wg"], Action::ALL) };
    check(&features, &any, "it permits calls about its organization feature only");
}
