//! `updraft orgs list` and `updraft orgs show`

use super::PERSONAL;
use crate::complete;
use crate::context::Context;
use crate::error::{ErrorContext, Result};
use crate::ui::table::table;
use clap::Args;
use serde::Serialize;
use wire::orgs::{Member, Org};

/// List organizations
#[derive(Clone, Debug, Args)]
#[command(visible_alias = "ls")]
pub struct ListArgs {
    /// Print JSON
    #[arg(short, long)]
    json: bool,
}

pub(super) async fn list(args: ListArgs, cx: &mut Context<'_>) -> Result<()> {
    let list = cx.client()?.orgs().await.context(|| "list organizations".into())?;
    if args.json {
        return cx.ui().json(&list.orgs);
    }
    let rows: Vec<_> =
        list.orgs.into_iter().map(|org| vec![org.name, org.slug, org.kind]).collect();
    let fit = cx.ui().fit(&[]);
    cx.ui().data(&table(&["NAME", "SLUG", "TYPE"], &rows, fit))
}

/// Show an organization with its members
#[derive(Clone, Debug, Args)]
pub struct ShowArgs {
    /// Slug of the organization; chosen from a list if absent [default without a terminal: personal]
    #[arg(add = complete::orgs())]
    slug: Option<String>,
    /// Print JSON
    #[arg(short, long)]
    json: bool,
}

#[derive(Serialize)]
struct Shown {
    #[serde(flatten)]
    org: Org,
    members: Vec<Member>,
}

pub(super) async fn show(args: ShowArgs, cx: &mut Context<'_>) -> Result<()> {
    let client = cx.client()?;
    let slug = cx.find_org(args.slug).await?.unwrap_or_else(|| PERSONAL.into());
    let org = client.org(&slug).await;
    let org = org.context(|| format!("show organization {slug}"))?;
    let members = client.members(&slug).await;
    let members = members.context(|| format!("list the members of {slug}"))?.members;
    if args.json {
        return cx.ui().json(&Shown { org, members });
    }
    let head = format!("Organization {} ({}), {}", org.name, org.slug, org.kind);
    let rows: Vec<_> = members
        .into_iter()
        .map(|member| vec![member.email, member.role, member.joined_at.unwrap_or_default()])
        .collect();
    let fit = cx.ui().fit(&["JOINED AT"]);
    let members = table(&["MEMBER", "ROLE", "JOINED AT"], &rows, fit);
    cx.ui().data(&format!("{head}\n\n{members}"))
}
