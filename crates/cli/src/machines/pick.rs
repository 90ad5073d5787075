//! Machines that a command is about: named, or chosen from a list.

use crate::context::Context;
use crate::error::{CliError, ErrorContext, Exit, Result};
use client::{Client, ListMachines};
use wire::machines::Machine;

/// Whether several can be chosen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Choice {
    One,
    Many,
}

/// The machine named, or one chosen.
pub(crate) async fn one(
    cx: &mut Context<'_>,
    client: &Client,
    app: &str,
    id: Option<String>,
) -> Result<String> {
    if let Some(id) = id {
        return Ok(id);
    }
    let mut ids = choose(cx, client, app, Choice::One).await?;
    ids.pop().ok_or_else(|| CliError::usage("No machine was chosen"))
}

/// The machines named, or some chosen.
pub(crate) async fn machines(
    cx: &mut Context<'_>,
    client: &Client,
    app: &str,
    ids: Vec<String>,
) -> Result<Vec<String>> {
    if !ids.is_empty() {
        return Ok(ids);
    }
    choose(cx, client, app, Choice::Many).await
}

/// Has machines chosen from a list of the app's: with the arrow keys on a
/// terminal, by their numbers where only lines can be read.
async fn choose(
    cx: &mut Context<'_>,
    client: &Client,
    app: &str,
    choice: Choice,
) -> Result<Vec<String>> {
    let list_hint = format!("`updraft machine list -a {app}` shows the machines.");
    if !cx.ui().term.stdin {
        let error = CliError::usage("No machine is named");
        return Err(error
            .because("The input is not a terminal, so none can be chosen")
            .hint(list_hint));
    }
    let all = client.machines(app, &ListMachines::default()).await;
    let all = all.context(|| format!("list the machines of app {app}"))?;
    if all.is_empty() {
        let error = CliError::new(Exit::NotFound, format!("App {app} has no machines"));
        return Err(error.hint(format!("`updraft machine run IMAGE -a {app}` makes one.")));
    }
    if cx.ui().is_own_terminal() {
        return by_keys(&all, choice);
    }
    for (at, machine) in all.iter().enumerate() {
        cx.ui().status(&format!("{:>3}) {}", at + 1, line(machine)));
    }
    let question = match choice {
        Choice::One => "Machine (number): ",
        Choice::Many => "Machines (numbers, separated by blanks): ",
    };
    let answer = cx.ui().ask(question)?;
    let chosen = by_numbers(&all, choice, &answer);
    chosen.map_err(|why| CliError::usage("No machine was chosen").because(why))
}

fn by_keys(all: &[Machine], choice: Choice) -> Result<Vec<String>> {
    let lines: Vec<String> = all.iter().map(line).collect();
    let chosen = match choice {
        Choice::One => inquire::Select::new("Machine", lines).raw_prompt().map(|one| vec![one]),
        Choice::Many => inquire::MultiSelect::new("Machines", lines).raw_prompt(),
    };
    let chosen = chosen.map_err(|err| CliError::usage("No machine was chosen").because_of(&err))?;
    if chosen.is_empty() {
        return Err(
            CliError::usage("No machine was chosen").hint("Mark machines with the space bar.")
        );
    }
    Ok(chosen.into_iter().filter_map(|option| Some(all.get(option.index)?.id.clone())).collect())
}

/// `<id> <name> (<state>, region <r>, process group '<g>')`.
fn line(machine: &Machine) -> String {
    let Machine { id, name, state, region, .. } = machine;
    let group = label(machine, GROUP);
    let group = if group.is_empty() { group } else { format!(", process group '{group}'") };
    format!("{id} {name} ({state}, region {region}{group})")
}

/// Label that holds the process group.
pub(crate) const GROUP: &str = "fly_process_group";

/// A label of a machine, or nothing.
pub(crate) fn label(machine: &Machine, key: &str) -> String {
    let config = machine.config.as_ref().or(machine.incomplete_config.as_ref());
    let labels = config.and_then(|config| config.metadata.as_ref());
    labels.and_then(|labels| labels.get(key)).cloned().unwrap_or_default()
}

fn by_numbers(all: &[Machine], choice: Choice, answer: &str) -> Result<Vec<String>, String> {
    let numbers = answer.split([' ', ',']).filter(|word| !word.is_empty());
    let ids: Result<Vec<String>, String> = numbers
        .map(|word| {
            let at = word.parse::<usize>().ok().and_then(|number| number.checked_sub(1));
            let found = at.and_then(|at| all.get(at));
            found.map(|m| m.id.clone()).ok_or_else(|| format!("{word:?} is not in the list"))
        })
        .collect();
    match ids? {
        ids if ids.is_empty() => Err("The answer is empty".to_owned()),
        ids if choice == Choice::One && ids.len() > 1 => Err("Only one can be chosen".to_owned()),
        ids => Ok(ids),
    }
}

/// Failures of a command on many machines: all are tried, all are shown.
#[derive(Debug, Default)]
pub(crate) struct Tally(Option<CliError>);

impl Tally {
    /// Notes how one came out.
    pub(crate) fn note(&mut self, cx: &mut Context<'_>, outcome: Result<()>) {
        if let Err(error) = outcome
            && let Some(earlier) = self.0.replace(error)
        {
            cx.ui().fail(&earlier);
        }
    }

    /// Fails if one has failed.
    pub(crate) fn finish(self) -> Result<()> {
        self.0.map_or(Ok(()), Err)
    }
}
