//! `updraft orgs invite` and `updraft orgs remove`

use crate::complete;
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
    /// Slug of the organization; chosen from a list if absent
    #[arg(add = complete::orgs())]
    slug: Option<String>,
    /// E-mail address of the member; asked for if absent
    email: Option<String>,
    /// Its role
    #[arg(long, default_value = "member", value_parser = PossibleValuesParser::new(["admin", "member", "readonly"]))]
    role: String,
    /// Print JSON
    #[arg(short, long)]
    json: bool,
}

pub(super) async fn invite(args: InviteArgs, cx: &mut Context<'_>) -> Result<()> {
    let (slug, email) = which(cx, args.slug, args.email).await?;
    let ask = Member { email, role: args.role, joined_at: None };
    let member = cx.client()?.put_member(&slug, &ask).await;
    let member = member.context(|| format!("add a member to {slug}"))?;
    if args.json {
        return cx.ui().json(&member);
    }
    cx.ui().status(&format!("{} is {} of {slug}", member.email, member.role));
    Ok(())
}

/// The organization and the member, as given or asked for.
async fn which(
    cx: &mut Context<'_>,
    slug: Option<String>,
    email: Option<String>,
) -> Result<(String, String)> {
    let slug = cx.org(slug).await?;
    let hint = "Give it after the organization.";
    let email = cx.ui().value(email, "the e-mail address of the member", hint)?;
    Ok((slug, email))
}

/// Remove a member of an organization, and revoke its tokens
#[derive(Clone, Debug, Args)]
pub struct RemoveArgs {
    /// Slug of the organization; chosen from a list if absent
    #[arg(add = complete::orgs())]
    slug: Option<String>,
    /// E-mail address of the member; asked for if absent
    email: Option<String>,
}

pub(super) async fn remove(args: RemoveArgs, cx: &mut Context<'_>) -> Result<()> {
    let (slug, email) = which(cx, args.slug, args.email).await?;
    let gone = cx.client()?.remove_member(&slug, &email).await;
    gone.context(|| format!("remove {email} from {slug}"))?;
    cx.ui().status(&format!("Removed {email} from {slug}"));
    Ok(())
}
