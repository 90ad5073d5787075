//! `updraft machine run --shell`: a temporary machine with a shell in it.
//!
//! Whatever happens after the machine was made, it is destroyed: at the end of
//! the shell, after an error, after Ctrl-C or SIGTERM.

use super::run::{RunArgs, app, config};
use crate::commands::apps::create::make;
use crate::context::Context;
use crate::error::{CliError, Doing, Result};
use crate::machine_flags::words;
use crate::session::{Attach, NOT_RUN, attach};
use crate::terminal;
use crate::wait::until;
use client::{Client, Destroy, WaitQuery};
use tokio::signal::unix::{SignalKind, signal};
use wire::machines::{Init, LaunchMachine, MachineConfig, Restart};
use wire::worker::ExecStart;

/// App of shells that belong to none.
const APP: &str = "updraft-interactive-shells";
/// Image of shells that name none.
const IMAGE: &str = "ubuntu";

pub(super) async fn run(mut args: RunArgs, cx: &mut Context<'_>) -> Result<u8> {
    let argv = words("--command", &args.command)?.unwrap_or_default();
    args.common.image.get_or_insert_with(|| IMAGE.to_owned());
    let config = temporary(&args, cx)?;
    let client = cx.client()?;
    let name = match cx.find_app(&args.common.app)? {
        Some(name) => app(&args.common, cx, &client, &name).await?.name,
        None => own_app(&client, args.common.org.as_deref()).await?,
    };
    let term = cx.ui().term;
    let tty = term.stdin && term.stdout;
    let start = ExecStart {
        argv,
        user: Some(args.user.clone()),
        env: if tty { terminal_env(cx) } else { Vec::new() },
        tty: tty.then(terminal::size),
        timeout_ms: None,
    };
    let ask = LaunchMachine {
        config: Some(config),
        name: args.common.name.clone(),
        region: args.common.region.clone(),
        ..LaunchMachine::default()
    };
    let spinner = cx.ui().spinner("Preparing the image");
    let made = client.create_machine(&name, &ask).await;
    drop(spinner);
    let id = made.doing(|| format!("create a machine in app {name}"))?.id;
    cx.ui().status(&format!("Machine {id} is temporary and gone when the shell ends"));
    let outcome = until_told(converse(&args, cx, (&client, &name, &id), start)).await;
    let gone = client.destroy_machine(&name, &id, Destroy::Force).await;
    match gone {
        Err(err) if !err.is_not_found() => {
            let error = Err(err).doing(|| format!("destroy machine {id}"));
            let hint = format!("Try `updraft machine destroy --force {id} -a {name}`.");
            let error = error.map_err(|err: CliError| err.hint(hint));
            // The shell's own failure is the more telling one.
            outcome.and(error)
        }
        _ => outcome,
    }
}

async fn converse(
    args: &RunArgs,
    cx: &mut Context<'_>,
    (client, app, id): (&Client, &str, &str),
    start: ExecStart,
) -> Result<u8> {
    cx.ui().status("Waiting for the machine to start...");
    let spinner = cx.ui().spinner("Starting");
    let states = ["started", "stopped", "failed", "destroyed"].map(str::to_owned).to_vec();
    let query = WaitQuery { states, timeout: args.wait_timeout, ..WaitQuery::default() };
    let reached = until(client, app, id, query).await;
    drop(spinner);
    let state = reached?.state;
    if state != "started" {
        let error = CliError::failed(format!("Machine {id} does not run: it is {state}"));
        let error =
            error.because("Its main process, /bin/sleep unless a command is given, has ended");
        return Err(
            error.hint("Give a command that the image has, such as `--shell IMAGE sleep 1h`.")
        );
    }
    let stream = client.exec_stream(app, id, &start).await;
    let stream = stream.doing(|| format!("open a shell in machine {id}"))?;
    let how = Attach { tty: start.tty.is_some(), input: true };
    let outcome = attach(cx.ui(), stream, how).await;
    outcome.map_err(|err| match err.message.as_str() {
        NOT_RUN => err.hint("Name a command that the image has, such as --command /bin/sh."),
        _ => err,
    })
}

/// Runs it until SIGINT or SIGTERM, so that the machine can still be destroyed.
async fn until_told(work: impl Future<Output = Result<u8>>) -> Result<u8> {
    let on = |kind| signal(kind).doing(|| "listen for signals".to_owned());
    let (mut int, mut term) = match (on(SignalKind::interrupt()), on(SignalKind::terminate())) {
        (Ok(int), Ok(term)) => (int, term),
        (Err(err), _) | (_, Err(err)) => return Err(err),
    };
    tokio::select! {
        outcome = work => outcome,
        _ = int.recv() => Err(CliError::failed("Interrupted")),
        _ = term.recv() => Err(CliError::failed("Ended by SIGTERM")),
    }
}

/// A machine that does nothing but wait for the shell, and is never restarted.
fn temporary(args: &RunArgs, cx: &Context<'_>) -> Result<MachineConfig> {
    let mut config = config(&args.common, cx)?;
    if args.common.words.is_empty() && args.common.flags.entrypoint.is_none() {
        let init = config.init.get_or_insert_with(Init::default);
        init.exec = Some(vec!["/bin/sleep".to_owned(), "inf".to_owned()]);
    }
    config.auto_destroy = Some(true);
    config.restart = Some(Restart { policy: Some("no".to_owned()), ..Restart::default() });
    // Nothing is to be routed to a shell.
    config.services = None;
    Ok(config)
}

async fn own_app(client: &Client, org: Option<&str>) -> Result<String> {
    match client.app(APP).await {
        Ok(app) => Ok(app.name),
        Err(err) if err.is_not_found() => make(client, APP, org).await.map(|()| APP.to_owned()),
        other => other.map(|app| app.name).doing(|| format!("find app {APP}")),
    }
}

fn terminal_env(cx: &Context<'_>) -> Vec<(String, String)> {
    let term = cx.env.vars.get("TERM").cloned().unwrap_or_else(|| "xterm".to_owned());
    vec![("TERM".to_owned(), term)]
}
