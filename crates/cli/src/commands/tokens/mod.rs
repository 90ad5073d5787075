//! `updraft tokens`

mod create;
mod kinds;
mod list;
mod local;
mod revoke;

use crate::context::Context;
use crate::error::Result;
use clap::Subcommand;

/// The organization that every platform has.
const PERSONAL: &str = "personal";

/// Commands about tokens.
#[derive(Clone, Debug, Subcommand)]
pub enum Command {
    /// Make a token
    #[command(subcommand)]
    Create(kinds::Command),
    List(list::ListArgs),
    Revoke(revoke::RevokeArgs),
    Attenuate(local::AttenuateArgs),
    Debug(local::DebugArgs),
}

pub(super) async fn dispatch(command: Command, cx: &mut Context<'_>) -> Result<()> {
    match command {
        Command::Create(command) => kinds::dispatch(command, cx).await,
        Command::List(args) => list::run(args, cx).await,
        Command::Revoke(args) => revoke::run(args, cx).await,
        Command::Attenuate(args) => local::attenuate(&args, cx),
        Command::Debug(args) => local::debug(&args, cx),
    }
}
