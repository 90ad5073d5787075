//! `updraft image`

mod import;
mod list;
mod naming;
mod rm;
mod tarball;

use crate::context::Context;
use crate::error::Result;
use clap::Subcommand;

/// Commands about images.
#[derive(Clone, Debug, Subcommand)]
pub enum Command {
    Import(import::ImportArgs),
    List(list::ListArgs),
    Rm(rm::RmArgs),
}

pub(super) async fn dispatch(command: Command, cx: &mut Context<'_>) -> Result<()> {
    match command {
        Command::Import(args) => import::run(args, cx).await,
        Command::List(args) => list::run(args, cx).await,
        Command::Rm(args) => rm::run(args, cx).await,
    }
}
