//! `updraft host`

mod status;

use crate::context::Context;
use crate::error::Result;
use clap::Subcommand;

/// Commands about hosts.
#[derive(Clone, Debug, Subcommand)]
pub enum Command {
    Status(status::StatusArgs),
}

pub(super) async fn dispatch(command: Command, cx: &mut Context<'_>) -> Result<()> {
    match command {
        Command::Status(args) => status::run(args, cx).await,
    }
}
