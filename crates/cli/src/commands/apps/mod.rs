//! `updraft apps`

pub(super) mod create;
mod destroy;
pub(super) mod json;
mod list;
mod names;
mod restart;

use super::open;
use crate::context::Context;
use crate::error::Result;
use clap::Subcommand;

/// Commands about apps.
#[derive(Clone, Debug, Subcommand)]
pub enum Command {
    Create(create::CreateArgs),
    List(list::ListArgs),
    Destroy(destroy::DestroyArgs),
    Restart(restart::RestartArgs),
    Open(open::OpenArgs),
}

pub(super) async fn dispatch(command: Command, cx: &mut Context<'_>) -> Result<()> {
    match command {
        Command::Create(args) => create::run(args, cx).await,
        Command::List(args) => list::run(args, cx).await,
        Command::Destroy(args) => destroy::run(args, cx).await,
        Command::Restart(args) => restart::run(args, cx).await,
        Command::Open(args) => open::run(args, cx).await,
    }
}
