//! `updraft machine exec`

use super::MachineRef;
use super::config_flags::words as split;
use crate::complete;
use crate::context::{AppArgs, Context};
use crate::error::{CliError, ErrorContext, Exit, Result};
use crate::machines::pick;
use crate::session::terminal;
use crate::session::{Attach, attach, exit_code};
use clap::Args;
use std::path::PathBuf;
use std::time::{Duration, Instant};
use wire::exec::ExecStart;
use wire::machines::ExecMachine;

/// Exit code of a command that SIGKILL ended.
const KILLED: u8 = 137;

/// Run a command in a machine
///
/// Ends with the command's exit code; with 127 if the machine has no such command and
/// with 126 if it cannot be executed. A command of one word is split as a shell
/// would: `machine exec ID "ls -l"` is `machine exec ID -- ls -l`. Its output is
/// shown when it has ended, and cut at 1 MiB; with --interactive or --tty it is
/// shown as it comes, without limit.
#[derive(Clone, Debug, Args)]
pub struct ExecArgs {
    /// Id or name of the machine, and the command; the machine is chosen from a list if only the
    /// command is given
    #[arg(required = true, num_args = 1.., value_names = ["ID", "COMMAND"])]
    words: Vec<String>,
    /// Name of the app [env: FLY_APP, UPDRAFT_APP; else `app` in fly.toml]
    #[arg(short, long, value_name = "APP", add = complete::apps())]
    app: Option<String>,
    // No -c here: `exec ID sh -c x` must not be misread without a word.
    /// Path of the app's configuration file, in place of ./fly.toml
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Seconds until the command is killed
    #[arg(long, value_name = "SECONDS")]
    timeout: Option<u64>,
    /// Give it this command's input
    #[arg(short, long)]
    interactive: bool,
    /// Give it this terminal
    #[arg(long)]
    tty: bool,
    /// User to run it as [default: root]
    #[arg(long)]
    user: Option<String>,
    /// Container to run it in [default: the first, if the machine has any]
    #[arg(long, value_name = "NAME")]
    container: Option<String>,
    /// Print JSON
    #[arg(short, long, conflicts_with_all = ["interactive", "tty"])]
    json: bool,
}

pub(super) async fn run(args: ExecArgs, cx: &mut Context<'_>) -> Result<u8> {
    let app = cx.app(&AppArgs { app: args.app.clone(), config: args.config.clone() }).await?;
    let client = cx.client()?;
    let mut words = args.words.clone();
    let id = if words.len() > 1 { Some(words.remove(0)) } else { None };
    if let [line] = words.as_slice() {
        words = split("the command", line)?.unwrap_or_default();
    }
    if words.is_empty() {
        return Err(CliError::usage("No command is given"));
    }
    let id = pick::one(cx, &client, &app, id).await?;
    if args.interactive || args.tty || args.user.is_some() {
        let machine = MachineRef { client: &client, app: &app, id: &id };
        return stream(&args, cx, machine, words).await;
    }
    let begun = Instant::now();
    let (command, timeout) = (Some(words), args.timeout);
    let container = args.container.clone();
    let ask = ExecMachine { command, timeout, container, ..ExecMachine::default() };
    let result = client.exec_machine(&app, &id, &ask).await;
    let result = result.context(|| format!("run the command in machine {id}"))?;
    if args.json {
        cx.ui().json(&result)?;
    } else {
        cx.ui().bytes(result.stdout.as_bytes())?;
        cx.ui().error_bytes(result.stderr.as_bytes());
        if result.truncated {
            cx.ui().status("Output beyond 1 MiB was dropped; with --interactive all is shown.");
        }
    }
    finished(&args, begun, exit_code(result.exit_code, result.exit_signal))
}

/// The command's exit code, unless its time was over: then it was killed, which
/// is not the command's own answer.
fn finished(args: &ExecArgs, begun: Instant, code: u8) -> Result<u8> {
    match args.timeout {
        Some(secs) if code == KILLED && begun.elapsed() >= Duration::from_secs(secs) => {
            let text = format!("The command was killed after {secs} seconds");
            let error = CliError::new(Exit::Timeout, text);
            Err(error.hint("Give it more time with --timeout."))
        }
        _ => Ok(code),
    }
}

async fn stream(
    args: &ExecArgs,
    cx: &mut Context<'_>,
    machine: MachineRef<'_>,
    argv: Vec<String>,
) -> Result<u8> {
    let MachineRef { client, app, id } = machine;
    let term = cx.ui().term;
    if args.tty && !(term.stdin && term.stdout) {
        let error = CliError::usage("Cannot use --tty: this is no terminal");
        return Err(error.hint("Use --interactive to pass input on."));
    }
    let start = ExecStart {
        argv,
        user: args.user.clone(),
        env: Vec::new(),
        tty: args.tty.then(terminal::size),
        timeout_ms: args.timeout.map(|secs| secs.saturating_mul(1000)),
        container: args.container.clone(),
        machine: false,
    };
    let begun = Instant::now();
    let stream = client.exec_stream(app, id, &start).await;
    let stream = stream.context(|| format!("run the command in machine {id}"))?;
    let how = Attach { tty: args.tty, input: args.interactive || args.tty };
    let code = attach(cx.ui(), stream, how).await?;
    finished(args, begun, code)
}
