//! Machines that a command is about: named, or chosen from a list.

use crate::context::Context;
use crate::error::{CliError, ErrorContext, Exit, Result};
use crate::ui::select::{Choice, select};
use client::{Client, ListMachines};
use wire::machines::Machine;

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

/// Has machines chosen from a list of the app's.
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
    let lines: Vec<String> = all.iter().map(line).collect();
    let chosen = select(cx.ui(), "machine", &lines, choice)?;
    Ok(chosen.into_iter().filter_map(|at| Some(all.get(at)?.id.clone())).collect())
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
