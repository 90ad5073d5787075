//! `updraft orgs create` and `updraft orgs delete`

use crate::complete;
use crate::context::Context;
use crate::error::{ErrorContext, Result};
use clap::Args;
use wire::orgs::CreateOrg;

/// Create an organization
#[derive(Clone, Debug, Args)]
pub struct CreateArgs {
    /// Name of the organization; asked for if absent
    name: Option<String>,
    /// Its name in paths, in place of one made from the name
    #[arg(long)]
    slug: Option<String>,
    /// Print JSON
    #[arg(short, long)]
    json: bool,
}

pub(super) async fn create(args: CreateArgs, cx: &mut Context<'_>) -> Result<()> {
    let hint = "Give it as argument.";
    let name = cx.ui().value(args.name, "the name of the organization", hint)?;
    let ask = CreateOrg { name: name.clone(), slug: args.slug };
    let made = cx.client()?.create_org(&ask).await;
    let org = made.context(|| format!("create organization {name}"))?;
    if args.json {
        return cx.ui().json(&org);
    }
    cx.ui().status(&format!("Created organization {} ({})", org.name, org.slug));
    Ok(())
}

/// Delete an organization that has no apps
#[derive(Clone, Debug, Args)]
pub struct DeleteArgs {
    /// Slug of the organization; chosen from a list if absent
    #[arg(add = complete::orgs())]
    slug: Option<String>,
    /// Answer yes to every question
    #[arg(short, long, alias = "auto-confirm")]
    yes: bool,
}

pub(super) async fn delete(args: DeleteArgs, cx: &mut Context<'_>) -> Result<()> {
    let slug = &cx.org(args.slug).await?;
    let question = format!("Delete organization {slug} with its members and tokens?");
    if !cx.ui().confirm(&question, args.yes)? {
        cx.ui().status(&format!("Organization {slug} stays."));
        return Ok(());
    }
    let gone = cx.client()?.delete_org(slug).await;
    gone.context(|| format!("delete organization {slug}"))?;
    cx.ui().status(&format!("Deleted organization {slug}"));
    Ok(())
}
