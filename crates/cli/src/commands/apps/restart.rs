//! `updraft apps restart`

use crate::commands::machine::restart::restart_all;
use crate::complete;
use crate::context::{AppArgs, Context};
use crate::error::{ErrorContext, Result};
use clap::Args;
use client::{ListMachines, RestartMachine};
use std::path::PathBuf;

/// Restart the machines of an app that run, one after the other
///
/// Also machines that no deploy has made. Stopped and suspended ones are left as they are.
#[derive(Clone, Debug, Args)]
pub struct RestartArgs {
    /// Name of the app [env: FLY_APP, UPDRAFT_APP; else `app` in fly.toml]
    #[arg(add = complete::apps())]
    name: Option<String>,
    /// The same as a flag
    #[arg(short, long, value_name = "APP", conflicts_with = "name", add = complete::apps())]
    app: Option<String>,
    /// Path of the app's configuration file, in place of ./fly.toml
    #[arg(short, long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// End with SIGKILL at once
    #[arg(long)]
    force_stop: bool,
    /// Do not wait until all health checks of a machine pass
    #[arg(long)]
    skip_health_checks: bool,
}

pub(super) async fn run(args: RestartArgs, cx: &mut Context<'_>) -> Result<()> {
    let app = cx.app(&AppArgs { app: args.name.or(args.app), config: args.config }).await?;
    let client = cx.client()?;
    let all = client.machines(&app, &ListMachines::default()).await;
    let all = all.context(|| format!("list the machines of app {app}"))?;
    let up = ["started", "starting", "restarting", "replacing"];
    let (up, down): (Vec<_>, Vec<_>) =
        all.into_iter().partition(|machine| up.contains(&machine.state.as_str()));
    let ids: Vec<String> = up.into_iter().map(|machine| machine.id).collect();
    if ids.is_empty() {
        cx.ui().status(&format!("No machine of app {app} runs"));
    }
    let how = RestartMachine { force: args.force_stop, ..RestartMachine::default() };
    restart_all(cx, &client, &app, &ids, &how, args.skip_health_checks).await?;
    match down.len() {
        0 => {}
        1 => cx.ui().status("1 machine does not run and is left as it is"),
        count => cx.ui().status(&format!("{count} machines do not run and are left as they are")),
    }
    Ok(())
}
