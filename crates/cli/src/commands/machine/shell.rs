//! `updraft machine run --shell`: a temporary machine with a shell in it.
//!
//! Whatever happens once the machine was asked for, it is destroyed: at the end
//! of the shell, after an error, after Ctrl-C, SIGTERM or a lost terminal.

use super::run::{RunArgs, app, config};
use crate::commands::apps::create::make;
use crate::context::Context;
use crate::error::{CliError, Doing, Result};
use crate::machine_flags::words;
use crate::session::{Attach, NOT_RUN, attach};
use crate::terminal;
use crate::wait::until;
use client::{Client, Destroy, WaitQuery};
use tokio::signal::unix::{Signal, SignalKind, signal};
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
    // From here on a signal must not end the process: it would leave the machine.
    let mut told = Told::listen()?;
    let spinner = cx.ui().spinner("Preparing the image");
    let (made, end) = whole(client.create_machine(&name, &ask), told.next()).await;
    drop(spinner);
    let id = made.doing(|| format!("create a machine in app {name}"))?.id;
    let outcome = match end {
        Some(end) => Err(end),
        None => {
            cx.ui().status(&format!("Machine {id} is temporary and gone when the shell ends"));
            tokio::select! {
                outcome = converse(&args, cx, (&client, &name, &id), start) => outcome,
                end = told.next() => Err(end),
            }
        }
    };
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

/// Waits for `work` whatever happens, since half of it cannot be undone; says
/// also whether `told` came meanwhile.
async fn whole<T, E>(
    work: impl Future<Output = T>,
    told: impl Future<Output = E>,
) -> (T, Option<E>) {
    let mut work = std::pin::pin!(work);
    tokio::select! {
        biased;
        done = work.as_mut() => (done, None),
        end = told => (work.await, Some(end)),
    }
}

/// The signals that end the shell, of which none ends the process any more.
struct Told {
    int: Signal,
    term: Signal,
    hangup: Signal,
}

impl Told {
    fn listen() -> Result<Self> {
        let on = |kind| signal(kind).doing(|| "listen for signals".to_owned());
        Ok(Self {
            int: on(SignalKind::interrupt())?,
            term: on(SignalKind::terminate())?,
            hangup: on(SignalKind::hangup())?,
        })
    }

    /// Ends with the next of them.
    async fn next(&mut self) -> CliError {
        tokio::select! {
            _ = self.int.recv() => CliError::failed("Interrupted"),
            _ = self.term.recv() => CliError::failed("Ended by SIGTERM"),
            _ = self.hangup.recv() => CliError::failed("The terminal has gone"),
        }
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

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::sync::Notify;

    #[tokio::test]
    async fn a_create_is_waited_for_also_when_told_to_end() {
        let gate = Notify::new();
        let create = async {
            gate.notified().await;
            "machine"
        };
        // Were the create dropped now, its machine would stay.
        let told = async { gate.notify_one() };
        assert_eq!(whole(create, told).await, ("machine", Some(())));
        let never = std::future::pending::<()>();
        assert_eq!(whole(async { 1 }, never).await, (1, None));
    }
}
