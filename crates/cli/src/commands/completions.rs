//! `updraft completions`

use crate::context::Context;
use crate::error::Result;
use clap::Args;
use clap_complete::Shell;

/// Print completions for a shell
///
/// For bash: `source <(updraft completions bash)`.
#[derive(Clone, Debug, Args)]
pub struct CompletionsArgs {
    /// The shell
    shell: Shell,
}

pub(super) fn run(
    args: &CompletionsArgs,
    mut root: clap::Command,
    cx: &mut Context<'_>,
) -> Result<()> {
    let name = root.get_name().to_owned();
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut root, name, &mut script);
    cx.ui().bytes(&script)
}
