//! `updraft machine run --shell`: a temporary machine with a shell in it.
//!
//! In every case, once the machine was asked for, it is destroyed: at the end
//! of the shell, after an error, after Ctrl-C, SIGTERM or a lost terminal.

use super::MachineRef;
use super::config_flags::words;
use super::new::{app, config};
use super::run::RunArgs;
use crate::commands::apps::create::make;
use crate::context::Context;
use crate::error::{CliError, ErrorContext, Result};
use crate::machines::wait::until;
use crate::session::terminal;
use crate::session::{Attach, NOT_RUN, attach};
use client::{Client, Destroy, WaitQuery};
use tokio::signal::unix::{Signal, SignalKind, signal};
use wire::exec::ExecStart;
use wire::machines::{Init, LaunchMachine, MachineConfig, Restart};

/// App of shells that belong to none.
const APP: &str = "updraft-interactive-shells";
/// The shell if none is named: bash where the image has it.
const DEFAULT_SHELL: [&str; 3] =
    ["/bin/sh", "-c", "if [ -x /bin/bash ]; then exec /bin/bash; fi; exec /bin/sh"];
/// Image of shells that name none.
const IMAGE: &str = "ubuntu";

pub(super) async fn run(mut args: RunArgs, cx: &mut Context<'_>) -> Result<u8> {
    let argv = match &args.command {
        Some(command) => words("--command", command)?.unwrap_or_default(),
        None => DEFAULT_SHELL.map(str::to_owned).to_vec(),
    };
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
        ..ExecStart::default()
    };
    let ask = LaunchMachine {
        config: Some(config),
        name: args.common.name.clone(),
        region: args.common.region.clone(),
        ..LaunchMachine::default()
    };
    // From here on a signal must not end the process: it would leave the machine.
    let mut signals = TerminationSignals::listen()?;
    let spinner = cx.ui().spinner("Preparing the image");
    let (made, end) = finish_despite(client.create_machine(&name, &ask), signals.next()).await;
    drop(spinner);
    let id = made.context(|| format!("create a machine in app {name}"))?.id;
    let outcome = match end {
        Some(end) => Err(end),
        None => {
            let machine = MachineRef { client: &client, app: &name, id: &id };
            cx.ui().status(&format!("Machine {id} is temporary and gone when the shell ends"));
            tokio::select! {
                outcome = run_shell(&args, cx, machine, start) => outcome,
                end = signals.next() => Err(end),
            }
        }
    };
    let gone = client.destroy_machine(&name, &id, Destroy::Force).await;
    match gone {
        Err(err) if !err.is_not_found() => {
            let error = Err(err).context(|| format!("destroy machine {id}"));
            let hint = format!("Try `updraft machine destroy --force {id} -a {name}`.");
            let error = error.map_err(|err: CliError| err.hint(hint));
            // The shell's own failure is the more specific one.
            outcome.and(error)
        }
        _ => outcome,
    }
}

async fn run_shell(
    args: &RunArgs,
    cx: &mut Context<'_>,
    machine: MachineRef<'_>,
    start: ExecStart,
) -> Result<u8> {
    let MachineRef { client, app, id } = machine;
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
    let stream = stream.context(|| format!("open a shell in machine {id}"))?;
    let how = Attach { tty: start.tty.is_some(), input: true };
    let outcome = attach(cx.ui(), stream, how).await;
    outcome.map_err(|err| match err.message.as_str() {
        NOT_RUN => err.hint("Name a command that the image has, such as --command /bin/sh."),
        _ => err,
    })
}

/// Finishes `work` even if `interrupt` comes meanwhile, since half of it cannot be
/// undone; the interrupt is returned beside the result.
async fn finish_despite<T, E>(
    work: impl Future<Output = T>,
    interrupt: impl Future<Output = E>,
) -> (T, Option<E>) {
    let mut work = std::pin::pin!(work);
    tokio::select! {
        biased;
        done = work.as_mut() => (done, None),
        end = interrupt => (work.await, Some(end)),
    }
}

/// Signals that end the shell. While this exists none of them ends the process.
struct TerminationSignals {
    int: Signal,
    term: Signal,
    hangup: Signal,
}

impl TerminationSignals {
    fn listen() -> Result<Self> {
        let on = |kind| signal(kind).context(|| "listen for signals".to_owned());
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
        other => other.map(|app| app.name).context(|| format!("find app {APP}")),
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
    async fn a_create_is_finished_despite_an_interrupt() {
        let gate = Notify::new();
        let create = async {
            gate.notified().await;
            "machine"
        };
        // Were the create dropped now, its machine would stay.
        let interrupt = async { gate.notify_one() };
        assert_eq!(finish_despite(create, interrupt).await, ("machine", Some(())));
        let never = std::future::pending::<()>();
        assert_eq!(finish_despite(async { 1 }, never).await, (1, None));
    }
}
