//! `updraft machine update`

use super::OneArgs;
use super::config_flags::{ConfigArgs, words};
use super::new::refuse_build;
use super::standby::{self, StandbyArgs, is_standby};
use crate::context::Context;
use crate::error::{ErrorContext, Exit, Result};
use crate::machines::wait::{healthy, until};
use crate::parse::duration;
use crate::ui::diff;
use clap::Args;
use client::WaitQuery;
use std::time::Duration;
use wire::machines::{LaunchMachine, Machine, MachineConfig};

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
    #[command(flatten)]
    standby: StandbyArgs,
    /// Wait for at most this long: seconds, or a time such as 5m
    #[arg(long, value_name = "TIME", default_value = "300", value_parser = duration)]
    wait_timeout: Duration,
    /// Answer yes to every question
    #[arg(short, long, alias = "auto-confirm")]
    yes: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

pub(super) async fn run(mut args: UpdateArgs, cx: &mut Context<'_>) -> Result<()> {
    let (client, app, id) = args.which.take().resolve(cx).await?;
    let before = client.machine(&app, &id).await.context(|| format!("show machine {id}"))?;
    let id = before.id.clone();
    let mut config = changed(&args, cx, &before)?;
    args.standby.apply(&mut config, &client, &app, None).await?;
    let standby = is_standby(&config).then(|| config.clone());
    let Some(diff) = diff::json(&before.config.as_deref(), &Some(&config)) else {
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
    if let Some(config) = &standby {
        standby::explain(cx, &id, config);
    } else if !args.skip_start && !args.detach {
        cx.ui().status(&format!("Waiting for {id} to start..."));
        let states = vec!["started".to_owned(), "failed".to_owned()];
        let timeout = args.wait_timeout;
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
    let mut config = base.or_else(|| before.config.as_deref().cloned()).unwrap_or_default();
    if let Some(image) = &args.image {
        refuse_build(image)?;
        args.flags.target(&mut config)?.set_image(image);
    }
    args.flags.apply(&mut config, &cx.env.cwd)?;
    if let Some(command) = &args.command {
        let command = words("--command", command)?;
        args.flags.target(&mut config)?.set_command(command);
    }
    Ok(config)
}
