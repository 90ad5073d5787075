//! The command line: one file per command.
//!
//! A command parses nothing itself and knows no URL: `clap` gives it its
//! arguments, `client` makes its calls. Data goes to stdout, everything else to
//! stderr. Environment, streams, clock and randomness come in by [`CliEnv`], so a
//! test is a whole command with captured output.
//!
//! The binary flattens [`Command`] into its own commands:
//!
//! ```text
//! #[derive(clap::Subcommand)]
//! enum Top { Up(UpArgs), Down(DownArgs), #[command(flatten)] Cli(cli::Command) }
//! ```

mod commands;
mod complete;
pub mod config;
mod context;
mod entry;
mod error;
mod flyctl;
mod machines;
mod parse;
mod proxy;
mod reconnect;
mod reference;
mod session;
mod ui;

pub use commands::Command;
pub use context::{CliEnv, GlobalArgs};
pub use entry::{Parsed, Text, parse};
pub use error::{CliError, Exit};
pub use reference::markdown;
pub use ui::{Terminal, Ui};

use clap::{CommandFactory, Parser};

/// The commands of this crate alone, without those of the daemon.
#[derive(Debug, Parser)]
#[command(name = "updraft", version)]
#[command(about = "Launch apps as fast VMs on your own hosts")]
pub struct Cli {
    /// What every command takes.
    #[command(flatten)]
    pub global: GlobalArgs,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// The parser of this crate's commands alone.
pub fn command() -> clap::Command {
    Cli::command()
}

/// Carries out a command and returns the exit code. `root` is the whole parser of
/// the program, for shell completions. Errors have been shown on return.
pub async fn run(
    global: &GlobalArgs,
    command: Command,
    root: clap::Command,
    env: &mut CliEnv,
) -> u8 {
    let mut cx = context::Context { global, env };
    match commands::dispatch(command, root, &mut cx).await {
        Ok(code) => code,
        Err(error) => env.ui.fail(&error),
    }
}
