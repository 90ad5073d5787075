//! `updraft tokens revoke`

use super::PERSONAL;
use crate::complete;
use crate::context::{AppArgs, Context};
use crate::error::{ErrorContext, Result};
use crate::machines::pick::Tally;
use clap::Args;

/// Revoke tokens
#[derive(Clone, Debug, Args)]
pub struct RevokeArgs {
    /// Ids of the tokens, as `updraft tokens list` shows them
    #[arg(required = true, add = complete::tokens())]
    ids: Vec<String>,
    /// Slug of the organization
    #[arg(short, long, default_value = PERSONAL, conflicts_with = "app", add = complete::orgs())]
    org: String,
    #[command(flatten)]
    app: AppArgs,
}

pub(super) async fn run(args: RevokeArgs, cx: &mut Context<'_>) -> Result<()> {
    let client = cx.client()?;
    let mut tally = Tally::default();
    for id in &args.ids {
        let gone = match &args.app.app {
            Some(app) => client.revoke_app_token(app, id).await,
            None => client.revoke_org_token(&args.org, id).await,
        };
        let gone = gone.context(|| format!("revoke token {id}"));
        if gone.is_ok() {
            cx.ui().status(&format!("Revoked token {id}"));
        }
        tally.note(cx, gone);
    }
    tally.finish()
}
