//! `updraft machine run`, `updraft machine create`

use super::shell;
use crate::commands::apps::create::make;
use crate::context::{AppArgs, Context};
use crate::error::{CliError, Doing, Exit, Result};
use crate::machine_flags::ConfigArgs;
use crate::parse::{duration, human_bytes};
use crate::wait::first_start;
use clap::Args;
use client::Client;
use std::time::Duration;
use wire::machines::{App, Init, LaunchMachine, Machine, MachineConfig, Restart};

/// Run an image as a new machine
///
/// Words after IMAGE replace the image's command; flags stand before them. Waits
/// until the machine runs. With --shell it is a temporary machine with a shell in
/// this terminal, and gone when the shell ends.
#[derive(Clone, Debug, Args)]
pub struct RunArgs {
    #[command(flatten)]
    pub(super) common: NewArgs,
    /// Do not wait until the machine runs
    #[arg(long)]
    detach: bool,
    /// Wait for at most this long
    #[arg(long, value_name = "TIME", default_value = "5m0s", value_parser = duration)]
    pub(super) wait_timeout: Duration,
    /// Open a shell in a temporary machine
    #[arg(long, conflicts_with_all = ["detach", "json"])]
    shell: bool,
    /// With --shell: the command to run, split as a shell would
    #[arg(long, default_value = "/bin/bash")]
    pub(super) command: String,
    /// With --shell: the user to run it as
    #[arg(long, default_value = "root")]
    pub(super) user: String,
}

/// Create a machine without starting it
#[derive(Clone, Debug, Args)]
pub struct CreateArgs {
    #[command(flatten)]
    common: NewArgs,
    /// Accepted for `run`'s sake: a created machine is never waited for
    #[arg(long, hide = true)]
    detach: bool,
}

/// What run and create share.
#[derive(Clone, Debug, Args)]
pub(crate) struct NewArgs {
    /// Image to run, by name, tag or digest
    pub(super) image: Option<String>,
    /// Command to run in place of the image's
    #[arg(value_name = "COMMAND", trailing_var_arg = true)]
    pub(super) words: Vec<String>,
    #[command(flatten)]
    pub(super) app: AppArgs,
    /// Name of the machine; made up if absent
    #[arg(short, long)]
    pub(super) name: Option<String>,
    /// Region, or several in order of preference
    #[arg(short, long)]
    pub(super) region: Option<String>,
    /// Organisation of an app that is made for the machine
    #[arg(long)]
    pub(super) org: Option<String>,
    /// Destroy the machine when its main process has ended
    #[arg(long)]
    pub(super) rm: bool,
    #[command(flatten)]
    pub(super) flags: ConfigArgs,
    /// Create the app if there is none of that name
    #[arg(short, long, alias = "auto-confirm")]
    pub(super) yes: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

pub(super) async fn run(args: RunArgs, cx: &mut Context<'_>) -> Result<u8> {
    if args.shell {
        return shell::run(args, cx).await;
    }
    let (client, app, machine) = launch(&args.common, cx, false).await?;
    let json = args.common.json;
    if !json {
        introduce(cx, &client, &app, &machine, "launched").await?;
    }
    if !args.detach {
        cx.ui().status("Waiting for the machine to start...");
        let spinner = cx.ui().spinner("Starting");
        let reached = first_start(&client, &app.name, &machine, args.wait_timeout).await;
        drop(spinner);
        let reached = reached?;
        cx.ui().status(&format!("Machine {} is {reached}", machine.id));
        if !json && reached == "started" {
            cx.ui().data(&reachable(&app, &machine))?;
        }
    }
    if json {
        let now = client.machine(&app.name, &machine.id).await.unwrap_or(machine);
        cx.ui().json(&now)?;
    }
    Ok(0)
}

pub(super) async fn create(args: CreateArgs, cx: &mut Context<'_>) -> Result<()> {
    let (client, app, machine) = launch(&args.common, cx, true).await?;
    if args.common.json {
        return cx.ui().json(&machine);
    }
    introduce(cx, &client, &app, &machine, "created").await
}

/// Makes the machine, and the app if that was wanted.
async fn launch(
    args: &NewArgs,
    cx: &mut Context<'_>,
    skip_launch: bool,
) -> Result<(Client, App, Machine)> {
    let name = cx.app(&args.app).map_err(|err| match args.words.iter().find(|w| is_app(w)) {
        Some(word) => err.hint(format!("{word} stands after the command, so it belongs to it.")),
        None => err,
    })?;
    let config = config(args, cx)?;
    let client = cx.client()?;
    let app = app(args, cx, &client, &name).await?;
    cx.ui().status(&format!("Searching for image '{}' ...", config.image));
    let ask = LaunchMachine {
        config: Some(config),
        name: args.name.clone(),
        region: args.region.clone(),
        skip_launch: skip_launch.then_some(true),
        ..LaunchMachine::default()
    };
    let spinner = cx.ui().spinner("Preparing the image");
    let machine = client.create_machine(&name, &ask).await;
    drop(spinner);
    let machine = machine.doing(|| format!("create a machine in app {name}"))?;
    Ok((client, app, machine))
}

fn is_app(word: &str) -> bool {
    matches!(word, "-a" | "--app") || word.starts_with("--app=")
}

/// The app, made if it is missing and that is wanted.
pub(super) async fn app(
    args: &NewArgs,
    cx: &mut Context<'_>,
    client: &Client,
    name: &str,
) -> Result<App> {
    match client.app(name).await {
        Err(err) if err.is_not_found() => {
            let question = format!("There is no app {name}. Create it?");
            if !args.yes && !cx.ui().term.stdin {
                let missing = Err(err).doing(|| format!("find app {name}"));
                let hint = format!("Create it with `updraft apps create {name}`, or give --yes.");
                return missing.map_err(|err| CliError { hints: vec![hint], ..err });
            }
            if !cx.ui().confirm(&question, args.yes)? {
                return Err(CliError::new(Exit::NotFound, format!("There is no app {name}")));
            }
            make(client, name, args.org.as_deref()).await?;
            cx.ui().status(&format!("New app created: {name}"));
            client.app(name).await
        }
        found => found,
    }
    .doing(|| format!("find app {name}"))
}

/// The config that the flags ask for.
pub(super) fn config(args: &NewArgs, cx: &Context<'_>) -> Result<MachineConfig> {
    let cwd = &cx.env.cwd;
    let mut config = args.flags.base(cwd)?.unwrap_or_default();
    if let Some(image) = &args.image {
        config.image.clone_from(image);
    }
    if config.image.is_empty() {
        let error = CliError::usage("No image is given");
        return Err(error.hint("Give one; `updraft image list` shows those that are here."));
    }
    if !args.words.is_empty() {
        config.init.get_or_insert_with(Init::default).cmd = Some(args.words.clone());
    }
    args.flags.apply(&mut config, cwd)?;
    if args.rm {
        config.auto_destroy = Some(true);
    }
    let restart = config.restart.get_or_insert_with(Restart::default);
    if restart.policy.is_none() {
        // L023: a job ends, a scheduled one is tried again, all else stays up.
        let policy = match (args.rm, &config.schedule) {
            (true, _) => "no",
            (false, Some(_)) => "on-failure",
            (false, None) => "always",
        };
        restart.policy = Some(policy.to_owned());
    }
    for service in config.services.iter_mut().flatten() {
        service.autostart.get_or_insert(true);
    }
    Ok(config)
}

async fn introduce(
    cx: &mut Context<'_>,
    client: &Client,
    app: &App,
    machine: &Machine,
    done: &str,
) -> Result<()> {
    // Nice to know, not needed: a failure to find out is no failure.
    let images = client.images().await.unwrap_or_default();
    if let Some(image) = images.iter().find(|image| image.digest == machine.image_ref.digest) {
        cx.ui().status(&format!("Image size: {}", human_bytes(image.size)));
    }
    let Machine { id, instance_id, state, .. } = machine;
    cx.ui().data(&format!(
        "\nSuccess! A Machine has been successfully {done} in app {}\n \
         Machine ID: {id}\n Instance ID: {instance_id}\n State: {state}\n",
        app.name
    ))
}

fn reachable(app: &App, machine: &Machine) -> String {
    let ip = &machine.private_ip;
    let mut text =
        format!("\nMachine started, you can connect via the following private ip\n  {ip}\n");
    let services = machine.config.as_ref().and_then(|config| config.services.as_ref());
    if let (Some(hostname), Some(_)) = (&app.hostname, services.filter(|all| !all.is_empty())) {
        text.push_str(&format!("The edge answers for it at\n  {hostname}\n"));
    }
    text
}

/// It was to run, and does not.
pub(super) fn not_started(app: &str, id: &str) -> CliError {
    let error = CliError::failed(format!("Machine {id} could not be started"));
    error.hint(format!("`updraft machine status {id} -a {app}` shows why."))
}
