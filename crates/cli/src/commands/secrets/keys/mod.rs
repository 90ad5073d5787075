//! `updraft secrets keys`: keys that the platform uses for an app and never shows.

mod manage;
mod messages;

use crate::complete;
use crate::context::{AppArgs, Context};
use crate::error::Result;
use clap::{Args, Subcommand};

/// Commands about secret keys.
#[derive(Clone, Debug, Subcommand)]
pub enum Command {
    List(manage::ListArgs),
    Generate(manage::GenerateArgs),
    Set(manage::SetArgs),
    Delete(manage::DeleteArgs),
    Sign(messages::SignArgs),
    Verify(messages::VerifyArgs),
    Encrypt(messages::EncryptArgs),
    Decrypt(messages::DecryptArgs),
}

/// A key of an app.
#[derive(Clone, Debug, Args)]
struct KeyArgs {
    /// Name of the key
    #[arg(add = complete::secret_keys())]
    name: String,
    #[command(flatten)]
    app: AppArgs,
}

pub(super) async fn dispatch(command: Command, cx: &mut Context<'_>) -> Result<()> {
    match command {
        Command::List(args) => manage::list(args, cx).await,
        Command::Generate(args) => manage::generate(args, cx).await,
        Command::Set(args) => manage::set(args, cx).await,
        Command::Delete(args) => manage::delete(args, cx).await,
        Command::Sign(args) => messages::sign(args, cx).await,
        Command::Verify(args) => messages::verify(args, cx).await,
        Command::Encrypt(args) => messages::encrypt(args, cx).await,
        Command::Decrypt(args) => messages::decrypt(args, cx).await,
    }
}
