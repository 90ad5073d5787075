//! `updraft completions`

use crate::context::Context;
use crate::error::{CliError, ErrorContext, Result};
use clap::Args;
use clap_complete::Shell;
use clap_complete::env::Shells;

/// Print completions for a shell
///
/// For bash: `source <(updraft completions bash)`. Commands, flags, and the names
/// of apps, machines and images are completed; the script asks this program.
#[derive(Clone, Debug, Args)]
pub struct CompletionsArgs {
    /// The shell
    shell: Shell,
}

/// Variable by which the script asks the program for completions.
const VARIABLE: &str = "COMPLETE";

pub(super) fn run(
    args: &CompletionsArgs,
    root: &clap::Command,
    cx: &mut Context<'_>,
) -> Result<()> {
    let name = root.get_name();
    let shells = Shells::builtins();
    let shell = shells.completer(&args.shell.to_string()).ok_or_else(|| {
        CliError::usage(format!("There are no completions for {}", args.shell))
            .hint("Name bash, elvish, fish, powershell or zsh.")
    })?;
    let mut script = Vec::new();
    let written = shell.write_registration(VARIABLE, name, name, name, &mut script);
    written.context(|| "make the script".to_owned())?;
    cx.ui().bytes(&script)
}
