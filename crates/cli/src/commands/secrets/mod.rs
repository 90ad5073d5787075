//! `updraft secrets`: values of an app that its machines are given and no output shows.
//! One file per command; `rollout` brings changes to the machines that run.

mod deploy;
mod import;
mod keys;
mod list;
mod rollout;
mod set;
mod unset;

use crate::context::{AppArgs, Context};
use crate::error::{CliError, ErrorContext, Result};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use clap::{Args, Subcommand};
use std::collections::BTreeMap;
use std::io::Read;
use wire::secret::{Bytes, Secret};
use wire::secrets::{ChangeSecrets, SecretScope};

/// Most bytes that are read from the standard input.
const MAX_INPUT: u64 = 1024 * 1024;

/// Commands about secrets.
#[derive(Clone, Debug, Subcommand)]
pub enum Command {
    Set(set::SetArgs),
    Unset(unset::UnsetArgs),
    Import(import::ImportArgs),
    List(list::ListArgs),
    Deploy(deploy::DeployArgs),
    /// Manage and use secret keys, which the platform never shows
    #[command(subcommand)]
    Keys(keys::Command),
}

pub(super) async fn dispatch(command: Command, cx: &mut Context<'_>) -> Result<()> {
    match command {
        Command::Set(args) => set::run(args, cx).await,
        Command::Unset(args) => unset::run(args, cx).await,
        Command::Import(args) => import::run(args, cx).await,
        Command::List(args) => list::run(args, cx).await,
        Command::Deploy(args) => deploy::run(args, cx).await,
        Command::Keys(command) => keys::dispatch(command, cx).await,
    }
}

/// Flags of commands that change secrets.
#[derive(Clone, Debug, Args)]
struct ChangeArgs {
    #[command(flatten)]
    app: AppArgs,
    /// Record the change only; machines take it at their next start, or with `secrets deploy`
    #[arg(long)]
    stage: bool,
    #[command(flatten)]
    rollout: rollout::RolloutArgs,
    /// Only for machines of this process group
    #[arg(long, value_name = "GROUP", conflicts_with = "machine")]
    group: Option<String>,
    /// Only for this machine, by id or name
    #[arg(long, value_name = "ID", add = crate::complete::machines())]
    machine: Option<String>,
}

impl ChangeArgs {
    /// Records the change, and brings it to the machines unless it is only staged.
    async fn apply(
        self,
        values: BTreeMap<String, Option<Secret>>,
        cx: &mut Context<'_>,
    ) -> Result<()> {
        let app = cx.app(&self.app).await?;
        let client = cx.client()?;
        let scope = match (self.group, self.machine) {
            (Some(group), _) => Some(SecretScope::Group(group)),
            (None, machine) => machine.map(SecretScope::Machine),
        };
        let before = client.secrets(&app).await.context(|| format!("show the secrets of {app}"))?;
        let change = ChangeSecrets { values, scope };
        let after = client.change_secrets(&app, &change).await;
        let after = after.context(|| format!("change the secrets of app {app}"))?;
        let version = after.version.unwrap_or(0);
        if before.version == after.version {
            cx.ui().status("The secrets are as they were: nothing was changed");
        }
        if self.stage {
            cx.ui().status(&format!(
                "Secrets have been staged, but not set on machines. Machines take them when \
                 they are started or updated, or with `updraft secrets deploy -a {app}`."
            ));
            return Ok(());
        }
        rollout::run(&client, &app, (version, change.scope.as_ref()), self.rollout, cx).await
    }
}

/// Everything that the standard input has, as text.
fn input(cx: &mut Context<'_>, what: &str) -> Result<String> {
    let text = String::from_utf8(input_bytes(cx, what)?);
    text.map_err(|_| {
        CliError::usage(format!("Cannot read {what} from the standard input"))
            .because("It is not UTF-8")
    })
}

/// The bytes whose base64 text the standard input has.
fn input_base64(cx: &mut Context<'_>, what: &str) -> Result<Bytes> {
    let mut text = input_bytes(cx, what)?;
    text.retain(|byte| !byte.is_ascii_whitespace());
    let bytes = STANDARD.decode(&text);
    // The reason may quote a part of the value.
    let failed = |_| {
        CliError::usage(format!("Cannot read {what} from the standard input"))
            .because("It is not base64")
            .hint("`base64 -w0 FILE` encodes a file.")
    };
    bytes.map(Bytes::new).map_err(failed)
}

/// Everything that the standard input has.
fn input_bytes(cx: &mut Context<'_>, what: &str) -> Result<Vec<u8>> {
    let failed = || CliError::usage(format!("Cannot read {what} from the standard input"));
    if cx.ui().term.stdin {
        cx.ui().status("Reading the standard input; end it with Ctrl-D.");
    }
    let mut bytes = Vec::new();
    if let Some(input) = cx.ui().take_input() {
        let read = input.take(MAX_INPUT + 1).read_to_end(&mut bytes);
        read.map_err(|err| failed().because_of(&err))?;
    }
    match bytes.len() as u64 > MAX_INPUT {
        true => Err(failed().because(format!("It has more than {MAX_INPUT} bytes"))),
        false => Ok(bytes),
    }
}
