//! `updraft machine update`

use super::OneArgs;
use super::config_flags::{ConfigArgs, words};
use crate::context::Context;
use crate::error::{ErrorContext, Exit, Result};
use crate::machines::wait::{healthy, until};
use crate::ui::diff;
use clap::Args;
use client::WaitQuery;
use std::time::Duration;
use wire::machines::{Init, LaunchMachine, Machine, MachineConfig};

/// Change a machine's config
///
/// Shows what would change and asks. The machine gets a new version and is
/// started with it, also if it was stopped, unless --skip-start is given.
#[derive(Clone, Debug, Args)]
pub struct UpdateArgs {
    #[command(flatten)]
    which: OneArgs,
    /// Image to run
    #[arg(short, long)]
    image: Option<String>,
    /// Command to run in place of the image's, split as a shell would
    #[arg(short = 'C', long)]
    command: Option<String>,
    #[command(flatten)]
    flags: ConfigArgs,
    /// Do not start the machine
    #[arg(long)]
    skip_start: bool,
    /// Do not wait until the machine runs
    #[arg(long)]
    detach: bool,
    /// Do not wait until all health checks pass
    #[arg(long)]
    skip_health_checks: bool,
    /// Seconds to wait until the machine runs
    #[arg(long, value_name = "SECONDS", default_value_t = 300)]
    wait_timeout: u32,
    /// Answer yes to every question
    #[arg(short, long, alias = "auto-confirm")]
    yes: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

pub(super) async fn run(mut args: UpdateArgs, cx: &mut Context<'_>) -> Result<()> {
    let which = OneArgs { id: args.which.id.take(), app: args.which.app.clone() };
    let (client, app, id) = which.resolve(cx).await?;
    let before = client.machine(&app, &id).await.context(|| format!("show machine {id}"))?;
    let id = before.id.clone();
    let config = changed(&args, cx, &before)?;
    let Some(diff) = diff::json(&before.config, &Some(&config).cloned()) else {
        cx.ui().status(&format!("Nothing to change on machine {id}"));
        return Ok(());
    };
    cx.ui().status(&format!("Configuration changes to be applied to machine {id}:\n\n{diff}"));
    if !cx.ui().confirm("Apply changes?", args.yes)? {
        cx.ui().status("Nothing was changed.");
        return Ok(());
    }
    let ask = LaunchMachine {
        config: Some(config),
        skip_launch: args.skip_start.then_some(true),
        // The version that was shown is updated, not a later one of another caller.
        current_version: Some(before.instance_id.clone()),
        ..LaunchMachine::default()
    };
    cx.ui().status(&format!("Updating machine {id}"));
    let spinner = cx.ui().spinner("Preparing the image");
    let after = client.update_machine(&app, &id, &ask).await;
    drop(spinner);
    let after = after.context(|| format!("update machine {id}")).map_err(|err| match err.kind {
        Exit::Conflict if err.hints.is_empty() => err.hint(format!(
            "`updraft machine status {id} -a {app}` shows it; then repeat the update."
        )),
        _ => err,
    })?;
    if !args.skip_start && !args.detach {
        cx.ui().status(&format!("Waiting for {id} to start..."));
        let states = vec!["started".to_owned(), "failed".to_owned()];
        let timeout = Duration::from_secs(args.wait_timeout.into());
        let version = Some(after.instance_id.clone());
        let query = WaitQuery { states, timeout, version, from_event: None };
        let reached = until(&client, &app, &id, query).await?;
        if reached.state != "started" {
            return Err(super::run::not_started(&app, &id));
        }
        if !args.skip_health_checks {
            healthy(&client, &app, &id, timeout).await?;
        }
    }
    cx.ui().status(&format!("Machine {id} updated successfully!"));
    if args.json { cx.ui().json(&after) } else { Ok(()) }
}

fn changed(args: &UpdateArgs, cx: &Context<'_>, before: &Machine) -> Result<MachineConfig> {
    let base = args.flags.base(&cx.env.cwd)?;
    let mut config = base.or_else(|| before.config.clone()).unwrap_or_default();
    if let Some(image) = &args.image {
        config.image.clone_from(image);
    }
    args.flags.apply(&mut config, &cx.env.cwd)?;
    if let Some(command) = &args.command {
        let init = config.init.get_or_insert_with(Init::default);
        init.cmd = words("--command", command)?;
    }
    Ok(config)
}
