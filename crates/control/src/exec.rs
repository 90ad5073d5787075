//! Commands in a guest: to their end with one answer, or as a session.

use crate::access::{app_access, is_permitted, permit};
use crate::lookup::{self, Machine};
use crate::{Error, Kind, Platform};
use host_api::{ExecError, ExecInput, ExecOutput, ExecSession, ExecStart};
use macaroon::{Access, Action, Command};
use std::convert::Infallible;
use std::time::Duration;
use tokio::sync::mpsc;
use wire::machines::{CommandLine, ExecMachine, ExecResult};

/// Output of each kind that an answer holds.
const MAX_OUTPUT: usize = 1024 * 1024;
/// Time a command may take whose request names none, and the most it may name.
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(300);
const MAX_TIMEOUT: Duration = Duration::from_secs(3600);
/// Time beyond its own that a command has to be started and to end.
const EXTRA_TIME: Duration = Duration::from_secs(10);
const CHUNK: usize = 32 * 1024;
/// Bytes of arguments and environment: they go to the guest in one message.
const MAX_ARGUMENTS: usize = 128 * 1024;

/// Runs a command to its end.
///
/// # Errors
/// It could not be started, or did not end in time.
pub async fn run(
    platform: &Platform,
    app: &str,
    machine: &str,
    ask: ExecMachine,
) -> Result<ExecResult, Error> {
    let argv = argv(&ask)?;
    let limit = ask.timeout.filter(|secs| *secs > 0).map_or(DEFAULT_TIMEOUT, Duration::from_secs);
    let limit = limit.min(MAX_TIMEOUT);
    let start = ExecStart {
        argv,
        timeout_ms: u64::try_from(limit.as_millis()).ok(),
        container: ask.container.clone().filter(|name| !name.is_empty()),
        machine: ask.machine == Some(true),
        ..ExecStart::default()
    };
    let work = async {
        let session = open_for(platform, app, machine, start, limit).await?;
        let stdin = ask.stdin.unwrap_or_default().into_bytes();
        // Both at once: a command may wait for room to write before it reads on.
        tokio::select! {
            result = collect(session.output) => result,
            never = feed(session.input, stdin) => match never {},
        }
    };
    tokio::time::timeout(limit + EXTRA_TIME, work).await.unwrap_or_else(|_| {
        let why = format!("exec: the guest did not report the end of the command within {limit:?}");
        Err(Error::new(Kind::Timeout, why))
    })
}

/// Starts a command. Dropping the session kills it.
///
/// # Errors
/// There is no such machine, or it could not be started.
pub async fn open(
    platform: &Platform,
    app: &str,
    machine: &str,
    start: ExecStart,
) -> Result<ExecSession, Error> {
    open_for(platform, app, machine, start, DEFAULT_TIMEOUT).await
}

async fn open_for(
    platform: &Platform,
    app: &str,
    machine: &str,
    start: ExecStart,
    time: Duration,
) -> Result<ExecSession, Error> {
    check(&start)?;
    let found = lookup::machine(platform, app, machine).await?;
    permit_command(platform, app, &found, &start).await?;
    found
        .call_unrepeated(platform, time, |host, context, id| {
            let start = start.clone();
            async move { host.exec(context, id, start).await }
        })
        .await
}

/// The caller may run this command: a token may be limited to some. Such a token sets no
/// variables, since those decide what a command does (`PATH`, `LD_PRELOAD`, `BASH_ENV`).
async fn permit_command(
    platform: &Platform,
    app: &str,
    machine: &Machine,
    start: &ExecStart,
) -> Result<(), Error> {
    let app = lookup::app(platform, app).await?.record;
    let access = app_access(platform, &app, Action::WRITE.and(Action::CONTROL)).await?;
    let (id, command) = (Some(machine.id.to_string()), Command::Argv(start.argv.clone()));
    let access = Access { machine: id, command, ..access };
    let subject =
        format!("machine {:?} of app {:?} by a command", machine.id.to_string(), app.name.as_str());
    permit(platform, &access, &subject)?;
    // No command has a NUL byte: only a rule for all commands permits this one.
    let every = Access { command: Command::Argv(vec!["\0".to_owned()]), ..access };
    if start.env.is_empty() || is_permitted(platform, &every) {
        return Ok(());
    }
    let why = "cannot be set with a token that is limited to some commands";
    let refused = Error { field: Some("env".into()), ..Error::new(Kind::Forbidden, why) };
    Err(refused.hint("leave `env` out, or use a token for every command, such as one of type ssh"))
}

/// The command of a request, in whichever form it is given.
fn argv(ask: &ExecMachine) -> Result<Vec<String>, Error> {
    let line = ask.cmd.as_ref().filter(|line| !line.is_empty());
    match (&ask.command, line) {
        (Some(_), Some(_)) => Err(Error::invalid("cmd", "cannot be given together with command")),
        (Some(argv), None) | (None, Some(CommandLine::Words(argv))) => Ok(argv.clone()),
        (None, Some(CommandLine::Text(line))) => {
            shell_words::split(line).map_err(|err| Error::invalid("cmd", err.to_string()))
        }
        (None, None) => Ok(vec![]),
    }
}

/// Refuses a command that no guest could run.
///
/// # Errors
/// It is empty, too large, or has NUL bytes.
pub fn check(start: &ExecStart) -> Result<(), Error> {
    if start.argv.first().is_none_or(String::is_empty) {
        return Err(Error::invalid("command", "is required"));
    }
    if start.container.as_ref().is_some_and(|name| !name.is_empty()) && start.machine {
        return Err(Error::invalid("container", "cannot be given together with machine"));
    }
    if start.argv.iter().any(|word| word.contains('\0')) {
        return Err(Error::invalid("command", "must not contain a NUL byte"));
    }
    let env = start.env.iter().map(|(name, value)| name.len() + value.len() + 2);
    let size = start.argv.iter().map(|word| word.len() + 1).chain(env).sum::<usize>();
    if size > MAX_ARGUMENTS {
        let rule = format!(
            "arguments and environment have {size} bytes, at most {MAX_ARGUMENTS} are allowed"
        );
        return Err(Error::invalid("command", rule).hint("send large data as input"));
    }
    Ok(())
}

/// Sends all input and its end, then holds the session until it is dropped. A
/// command that does not read its input is no failure.
async fn feed(input: mpsc::Sender<ExecInput>, data: Vec<u8>) -> Infallible {
    let end = std::iter::once(Vec::new());
    for chunk in data.chunks(CHUNK).map(<[u8]>::to_vec).chain(end) {
        if input.send(ExecInput::Data(chunk)).await.is_err() {
            break;
        }
    }
    std::future::pending().await
}

/// The host ended the session without an end of the command.
pub(crate) fn broken_off() -> Error {
    ExecError::Lost("the session broke off".into()).into()
}

async fn collect(mut output: mpsc::Receiver<ExecOutput>) -> Result<ExecResult, Error> {
    let (mut stdout, mut stderr, mut truncated) = (Vec::new(), Vec::new(), false);
    let mut keep = |to: &mut Vec<u8>, data: &[u8]| {
        let room = (MAX_OUTPUT - to.len()).min(data.len());
        to.extend_from_slice(&data[..room]);
        truncated |= room < data.len();
    };
    let (exit_code, exit_signal) = loop {
        match output.recv().await {
            Some(ExecOutput::Stdout(data)) => keep(&mut stdout, &data),
            Some(ExecOutput::Stderr(data)) => keep(&mut stderr, &data),
            Some(ExecOutput::Exited { code, signal }) => break (code, signal),
            Some(ExecOutput::Failed(err)) => return Err(err.into()),
            None => return Err(broken_off()),
        }
    };
    let text = |data: Vec<u8>| String::from_utf8_lossy(&data).into_owned();
    let (stdout, stderr) = (text(stdout), text(stderr));
    Ok(ExecResult { exit_code, exit_signal, stdout, stderr, truncated })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_machine_that_goes_away_is_not_an_unsupported_command() {
        for (end, kind) in [
            (Some(ExecError::NotFound("none".into())), Kind::CommandNotFound),
            (Some(ExecError::Refused("no such user".into())), Kind::Unsupported),
            (Some(ExecError::Lost("the machine is being suspended".into())), Kind::InDoubt),
            (None, Kind::InDoubt),
        ] {
            let (outputs, output) = mpsc::channel(2);
            outputs.send(ExecOutput::Stdout(b"begun".to_vec())).await.unwrap();
            if let Some(end) = end {
                outputs.send(ExecOutput::Failed(end)).await.unwrap();
            }
            drop(outputs);
            assert_eq!(collect(output).await.unwrap_err().kind, kind);
        }
    }

    #[test]
    fn a_command_that_no_guest_could_run_is_refused() {
        let start = |argv: &[&str], env: &[(&str, usize)]| ExecStart {
            argv: argv.iter().map(ToString::to_string).collect(),
            env: env.iter().map(|(name, len)| (name.to_string(), "x".repeat(*len))).collect(),
            ..ExecStart::default()
        };
        assert!(check(&start(&["true"], &[("A", 1000)])).is_ok());
        for (start, rule) in [
            (start(&[], &[]), "command: is required"),
            (start(&[""], &[]), "command: is required"),
            (start(&["a", "\0"], &[]), "command: must not contain a NUL byte"),
            (
                start(&["a"], &[("A", MAX_ARGUMENTS)]),
                "command: arguments and environment have 131077 bytes, at most 131072 are allowed",
            ),
        ] {
            assert_eq!(check(&start).unwrap_err().to_string(), rule);
        }
    }
}
