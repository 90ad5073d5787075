//! `updraft secrets unset`

use super::ChangeArgs;
use crate::complete;
use crate::context::Context;
use crate::error::Result;
use clap::Args;

/// Remove secrets of an app and restart its machines without them
#[derive(Clone, Debug, Args)]
pub struct UnsetArgs {
    /// Names of the secrets
    #[arg(required = true, value_name = "NAME", add = complete::secrets())]
    names: Vec<String>,
    #[command(flatten)]
    change: ChangeArgs,
}

pub(super) async fn run(args: UnsetArgs, cx: &mut Context<'_>) -> Result<()> {
    let values = args.names.into_iter().map(|name| (name, None)).collect();
    args.change.apply(values, cx).await
}
