//! `updraft checks`

mod list;
mod show;

use crate::context::Context;
use crate::error::Result;
use clap::Subcommand;

/// Commands about health checks.
#[derive(Clone, Debug, Subcommand)]
pub enum Command {
    List(list::ListArgs),
    Show(show::ShowArgs),
}

pub(super) async fn dispatch(command: Command, cx: &mut Context<'_>) -> Result<()> {
    match command {
        Command::List(args) => list::run(args, cx).await,
        Command::Show(args) => show::run(args, cx).await,
    }
}
