//! `updraft machine run`, `updraft machine create`

use super::new::{NewArgs, app, config};
use super::standby::{self, is_standby};
use crate::context::Context;
use crate::error::{CliError, ErrorContext, Result};
use crate::machines::wait::{first_start, healthy};
use crate::parse::{duration, human_bytes};
use clap::Args;
use client::Client;
use std::time::Duration;
use wire::machines::{App, LaunchMachine, Machine, Service};

/// Run an image as a new machine
///
/// Words after IMAGE replace the image's command; flags come before them. Waits
/// until the machine runs and its health checks pass. With --shell it is a temporary machine with a shell in
/// this terminal, and gone when the shell ends.
#[derive(Clone, Debug, Args)]
pub struct RunArgs {
    #[command(flatten)]
    pub(super) common: NewArgs,
    /// Do not wait until the machine runs and its health checks pass
    #[arg(long)]
    detach: bool,
    /// Wait for at most this long
    #[arg(long, value_name = "TIME", default_value = "5m0s", value_parser = duration)]
    pub(super) wait_timeout: Duration,
    /// Open a shell in a temporary machine
    #[arg(long, conflicts_with_all = ["detach", "json", "standby_for"])]
    pub(super) shell: bool,
    /// With --shell: the command to run, split as a shell would [default: /bin/bash, or /bin/sh if
    /// the image has no bash]
    #[arg(long)]
    pub(super) command: Option<String>,
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

pub(super) async fn run(args: RunArgs, cx: &mut Context<'_>) -> Result<u8> {
    let (client, app, machine) = launch(&args.common, cx, false).await?;
    let json = args.common.json;
    if !json {
        show_new_machine(cx, &client, &app, &machine, "launched").await?;
    }
    let config = machine.config.clone().unwrap_or_default();
    if is_standby(&config) {
        standby::explain(cx, &machine.id, &config);
    } else if !args.detach {
        cx.ui().status("Waiting for the machine to start...");
        let reached = started(cx, &client, &app.name, &machine, args.wait_timeout).await?;
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

/// Waits until a new machine runs and its health checks pass; the state that it has reached.
pub(super) async fn started(
    cx: &mut Context<'_>,
    client: &Client,
    app: &str,
    machine: &Machine,
    limit: Duration,
) -> Result<String> {
    let spinner = cx.ui().spinner("Starting");
    let mut reached = first_start(client, app, machine, limit).await;
    if reached.as_ref().is_ok_and(|state| state == "started") {
        reached = healthy(client, app, &machine.id, limit).await.and(reached);
    }
    drop(spinner);
    reached
}

pub(super) async fn create(args: CreateArgs, cx: &mut Context<'_>) -> Result<()> {
    let (client, app, machine) = launch(&args.common, cx, true).await?;
    if args.common.json {
        return cx.ui().json(&machine);
    }
    show_new_machine(cx, &client, &app, &machine, "created").await
}

/// Makes the machine, and the app if that was wanted.
async fn launch(
    args: &NewArgs,
    cx: &mut Context<'_>,
    skip_launch: bool,
) -> Result<(Client, App, Machine)> {
    let name =
        cx.app(&args.app).await.map_err(|err| match args.words.iter().find(|w| is_app(w)) {
            Some(word) => err.hint(format!(
                "{word} comes after the command, so it is part of the command. Put it before."
            )),
            None => err,
        })?;
    let mut config = config(args, cx)?;
    let client = cx.client()?;
    let app = app(args, cx, &client, &name).await?;
    args.standby.apply(&mut config, &client, &name, None).await?;
    let skip_launch = skip_launch || is_standby(&config);
    let images = config.containers.iter().flatten().filter_map(|one| one.image.as_deref());
    for image in [config.image.as_str()].into_iter().chain(images).filter(|i| !i.is_empty()) {
        cx.ui().status(&format!("Searching for image '{image}' ..."));
    }
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
    let machine = machine.context(|| format!("create a machine in app {name}"))?;
    Ok((client, app, machine))
}

fn is_app(word: &str) -> bool {
    matches!(word, "-a" | "--app") || word.starts_with("--app=")
}

async fn show_new_machine(
    cx: &mut Context<'_>,
    client: &Client,
    app: &App,
    machine: &Machine,
    done: &str,
) -> Result<()> {
    // Only informative, so a failure is ignored.
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
    let services = machine.config.as_ref().and_then(|config| config.services.as_deref());
    let services = services.unwrap_or_default();
    if let (Some(hostname), true) = (&app.hostname, services.iter().any(serves_http)) {
        text.push_str(&format!("The edge answers for it at\n  http://{hostname}\n"));
    }
    if services.iter().any(|service| !serves_http(service)) {
        text.push_str(
            "Ports without the handler http are not served yet; write for example \
             `-p 80:8080/tcp:http`\n",
        );
    }
    text
}

/// One of its ports has the handler `http`.
fn serves_http(service: &Service) -> bool {
    let handlers = service.ports.iter().flatten().filter_map(|port| port.handlers.as_ref());
    handlers.flatten().any(|handler| handler == "http")
}

/// The error for a machine that was not started.
pub(super) fn not_started(app: &str, id: &str) -> CliError {
    let error = CliError::failed(format!("Machine {id} could not be started"));
    error.hint(format!("`updraft machine status {id} -a {app}` shows why."))
}
