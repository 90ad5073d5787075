//! `updraft secrets import`

use super::{ChangeArgs, input};
use crate::context::Context;
use crate::error::{CliError, Result};
use crate::parse::secret_lines;
use clap::Args;

/// Set secrets from lines NAME=VALUE of the standard input
///
/// Empty lines and lines that begin with # are ignored. A value may be in double quotes;
/// one of several lines begins and ends with three of them ("""). Machines are restarted
/// as by `secrets set`.
#[derive(Clone, Debug, Args)]
pub struct ImportArgs {
    #[command(flatten)]
    change: ChangeArgs,
}

pub(super) async fn run(args: ImportArgs, cx: &mut Context<'_>) -> Result<()> {
    let text = input(cx, "secrets")?;
    let failed = || CliError::usage("Cannot import secrets");
    let secrets = secret_lines(&text).map_err(|why| failed().because(why))?;
    if secrets.is_empty() {
        let hint = "Pipe lines in: `updraft secrets import < .env`.";
        return Err(failed().because("The standard input has none").hint(hint));
    }
    let values = secrets.into_iter().map(|(name, value)| (name, Some(value))).collect();
    args.change.apply(values, cx).await
}
