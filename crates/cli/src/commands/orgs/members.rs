//! `updraft orgs invite` and `updraft orgs remove`

use crate::context::Context;
use crate::error::{ErrorContext, Result};
use clap::Args;
use clap::builder::PossibleValuesParser;
use wire::orgs::Member;

/// Add a member to an organization, or change its role
///
/// No mail is sent: make a token for the member with `updraft tokens create org --member EMAIL`.
#[derive(Clone, Debug, Args)]
pub struct InviteArgs {
    /// Slug of the organization
    slug: String,
    /// E-mail address of the member
    email: String,
    /// Its role
    #[arg(long, default_value = "member", value_parser = PossibleValuesParser::new(["admin", "member", "readonly"]))]
    role: String,
    /// Print JSON
    #[arg(short, long)]
    json: bool,
}

pub(super) async fn invite(args: InviteArgs, cx: &mut Context<'_>) -> Result<()> {
    let ask = Member { email: args.email, role: args.role, joined_at: None };
    let member = cx.client()?.put_member(&args.slug, &ask).await;
    let member = member.context(|| format!("add a member to {}", args.slug))?;
    if args.json {
        return cx.ui().json(&member);
    }
    cx.ui().status(&format!("{} is {} of {}", member.email, member.role, args.slug));
    Ok(())
}

/// Remove a member of an organization, and revoke its tokens
#[derive(Clone, Debug, Args)]
pub struct RemoveArgs {
    /// Slug of the organization
    slug: String,
    /// E-mail address of the member
    email: String,
}

pub(super) async fn remove(args: RemoveArgs, cx: &mut Context<'_>) -> Result<()> {
    let gone = cx.client()?.remove_member(&args.slug, &args.email).await;
    gone.context(|| format!("remove {} from {}", args.email, args.slug))?;
    cx.ui().status(&format!("Removed {} from {}", args.email, args.slug));
    Ok(())
}
