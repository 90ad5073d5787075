//! `updraft secrets set`

use super::{ChangeArgs, input};
use crate::context::Context;
use crate::error::{CliError, Result};
use crate::parse::secret_pair;
use clap::Args;
use std::collections::BTreeMap;
use wire::secret::Secret;

/// Set secrets of an app and restart its machines with them
///
/// Machines that run are restarted one after the other, each waited for; stopped,
/// suspended and standby machines are left as they are. `NAME=-` reads the value from the
/// standard input, so that it is in no shell history.
#[derive(Clone, Debug, Args)]
pub struct SetArgs {
    /// Names and values; a value of `-` is read from the standard input
    #[arg(required = true, value_name = "NAME=VALUE")]
    pairs: Vec<String>,
    #[command(flatten)]
    change: ChangeArgs,
}

pub(super) async fn run(args: SetArgs, cx: &mut Context<'_>) -> Result<()> {
    let mut values: BTreeMap<String, Option<Secret>> = BTreeMap::new();
    let mut from_input = None;
    for (at, pair) in args.pairs.iter().enumerate() {
        let (name, mut value) = secret_pair(pair).map_err(|why| {
            CliError::usage(format!("Cannot use argument {} as a secret", at + 1)).because(why)
        })?;
        if value.expose() == "-" {
            if let Some(earlier) = from_input.replace(name.clone()) {
                let why = format!("{earlier} and {name} both take their value from it");
                return Err(CliError::usage("Cannot read the standard input twice").because(why));
            }
            let text = input(cx, &format!("the value of {name}"))?;
            // A shell's `echo` ends it with a newline, which is not meant.
            value = Secret::new(text.strip_suffix('\n').unwrap_or(&text));
        }
        values.insert(name, Some(value));
    }
    args.change.apply(values, cx).await
}
