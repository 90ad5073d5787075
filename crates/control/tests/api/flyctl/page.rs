//! `docs/flyctl-commands.md`.

use super::script::{Script, State, Step};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::path::Path;

#[test]
fn the_page_is_that_of_the_commands() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/flyctl-commands.md");
    let page = page(&Script::load());
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::write(&path, &page).unwrap();
    }
    let written = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(written == page, "{path:?} is not that of commands.toml: UPDATE_DOCS=1 writes it");
}

#[test]
fn the_first_commands_of_the_guide_are_run() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/flyctl.md");
    let guide = std::fs::read_to_string(&path).unwrap();
    let (_, section) = guide.split_once("## First commands").unwrap();
    let shown = section.lines().filter_map(|line| line.strip_prefix("fly ")).take(5);
    let script = Script::load();
    let group = script.group.iter().find(|group| group.name == "first-commands").unwrap();
    let run = group.step.iter().map(|step| step.run.join(" "));
    assert_eq!(run.collect::<Vec<_>>(), shown.collect::<Vec<_>>(), "commands.toml, {path:?}");
}

/// Flags by state and note.
type Rows<'a> = BTreeMap<(State, &'a str), BTreeSet<&'a str>>;

fn page(script: &Script) -> String {
    let mut page = format!(
        "# flyctl, command by command\n\n\
         Made from the commands that a test of this repository runs with the unmodified client \
         ({}); do not edit it by hand. [flyctl.md](flyctl.md) shows how the client is pointed \
         at a platform.\n\n\
         | word | meaning |\n|---|---|\n\
         | works | as with Fly.io |\n\
         | better | so, and more than that |\n\
         | differs | otherwise than with Fly.io; the note has how |\n\
         | not yet | refused with the name of the part of the platform that it waits for |\n\n\
         | command | flags that were run | | |\n|---|---|---|---|\n",
        script.client
    );
    let mut commands: BTreeMap<&str, Rows<'_>> = BTreeMap::new();
    let steps = script.group.iter().flat_map(|group| &group.step);
    for step in steps.filter(|step| step.state != State::Fails) {
        let rows = commands.entry(&step.run[0]).or_default();
        rows.entry((step.state, &step.note)).or_default().extend(flags(step));
    }
    for (command, rows) in &commands {
        for ((state, note), flags) in rows {
            let flags: Vec<_> = flags.iter().map(|flag| format!("`{flag}`")).collect();
            let (flags, state) = (flags.join(" "), word(*state));
            writeln!(page, "| `{command}` | {flags} | {state} | {note} |").unwrap();
        }
    }
    page.push_str("\n## Commands that were not run\n\n| commands | why |\n|---|---|\n");
    for absent in &script.absent {
        let commands: Vec<_> = absent.commands.iter().map(|name| format!("`{name}`")).collect();
        writeln!(page, "| {} | {} |", commands.join(", "), absent.why).unwrap();
    }
    page
}

/// Flags of a command, without their values.
fn flags(step: &Step) -> impl Iterator<Item = &str> {
    let own = step.run[1..].iter().take_while(|arg| *arg != "--");
    let flags = own.filter(|arg| arg.len() > 1 && arg.starts_with('-'));
    flags.map(|flag| flag.split('=').next().unwrap())
}

fn word(state: State) -> &'static str {
    match state {
        State::Works => "works",
        State::Better => "better",
        State::Differs => "differs",
        State::NotYet | State::Fails => "not yet",
    }
}
