//! Brings the newest secrets of an app to its machines that run: one after the other is
//! restarted and waited for. A failure ends it, so that a bad value does not stop them all.

use crate::context::Context;
use crate::error::{ErrorContext, Result};
use crate::machines::pick::{GROUP, label};
use crate::machines::wait::{DEFAULT, until};
use clap::Args;
use client::{Client, ListMachines, RestartMachine, WaitQuery};
use wire::machines::Machine;
use wire::secrets::SecretScope;

/// Flags of a rollout.
#[derive(Clone, Copy, Debug, Args)]
pub(super) struct RolloutArgs {
    /// Do not wait until each machine runs again
    #[arg(long)]
    detach: bool,
    /// Whether to check DNS records after it; there are none yet
    #[arg(long, value_name = "BOOL", num_args = 0..=1, default_missing_value = "true", hide = true,
          value_parser = no_dns)]
    dns_checks: Option<bool>,
}

/// Not to check is what happens.
fn no_dns(text: &str) -> Result<bool, String> {
    match text {
        "false" => Ok(false),
        _ => Err("there are no .internal names to be checked yet; leave it out".to_owned()),
    }
}

/// Restarts the machines of a scope that run and were started with secrets before `version`.
pub(super) async fn run(
    client: &Client,
    app: &str,
    (version, scope): (u64, Option<&SecretScope>),
    args: RolloutArgs,
    cx: &mut Context<'_>,
) -> Result<()> {
    let all = client.machines(app, &ListMachines::default()).await;
    let mut all = all.context(|| format!("list the machines of app {app}"))?;
    all.retain(|machine| is_in(scope, machine));
    let stale: Vec<&Machine> = all.iter().filter(|m| is_stale(m, version)).collect();
    let away = all.iter().filter(|m| m.state == "unknown").count();
    if away > 0 {
        cx.ui().status(&format!(
            "Warning: the hosts of {away} machines do not answer; those take the secrets at \
             their next start."
        ));
    }
    if stale.is_empty() {
        let why = match all.iter().any(runs) {
            true => "The machines that run have the newest secrets already.",
            false => "No machine runs; machines take the secrets when they are started.",
        };
        cx.ui().status(why);
        return Ok(());
    }
    for machine in &stale {
        let (id, group) = (&machine.id, label(machine, GROUP));
        let group = if group.is_empty() { "app".to_owned() } else { group };
        cx.ui().status(&format!("Updating machine {id} [{group}]"));
        restart(client, app, id, args.detach).await.map_err(|err| {
            let hint = "The other machines keep their secrets; `updraft secrets deploy` continues.";
            err.hint(hint)
        })?;
        if !args.detach {
            cx.ui().status(&format!("Machine {id} [{group}] update finished: success"));
        }
    }
    let end = if args.detach { "Machines are being restarted" } else { "Finished deploying" };
    cx.ui().status(end);
    Ok(())
}

async fn restart(client: &Client, app: &str, id: &str, detach: bool) -> Result<()> {
    // The newest event before it: "started" must be a later one.
    let before =
        client.events(app, id, 1, None).await.context(|| format!("restart machine {id}"))?;
    let asked = client.restart_machine(app, id, &RestartMachine::default()).await;
    asked.context(|| format!("restart machine {id}"))?;
    if detach {
        return Ok(());
    }
    let from_event = before.into_iter().next().map(|event| event.id);
    let (states, timeout) = (vec!["started".to_owned()], DEFAULT);
    let query = WaitQuery { states, from_event, timeout, ..WaitQuery::default() };
    until(client, app, id, query).await.map(drop)
}

/// A secret of this scope is for the machine.
pub(super) fn is_in(scope: Option<&SecretScope>, machine: &Machine) -> bool {
    match scope {
        None => true,
        Some(SecretScope::Machine(name)) => *name == machine.id || *name == machine.name,
        Some(SecretScope::Group(group)) => {
            let own = label(machine, GROUP);
            *group == if own.is_empty() { "app".to_owned() } else { own }
        }
    }
}

/// It runs or is about to, and is given secrets.
pub(super) fn runs(machine: &Machine) -> bool {
    let up = ["started", "starting", "restarting", "replacing"];
    up.contains(&machine.state.as_str()) && !machine.skip_secrets
}

fn is_stale(machine: &Machine, version: u64) -> bool {
    runs(machine) && machine.secrets_version.unwrap_or(0) < version
}
