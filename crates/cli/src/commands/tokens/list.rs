//! `updraft tokens list`

use super::PERSONAL;
use crate::complete;
use crate::context::{AppArgs, Context};
use crate::error::{CliError, ErrorContext, Result};
use crate::ui::table::table;
use clap::Args;
use clap::builder::PossibleValuesParser;

/// List tokens
#[derive(Clone, Debug, Args)]
#[command(visible_alias = "ls")]
pub struct ListArgs {
    #[command(flatten)]
    app: AppArgs,
    /// Slug of the organization [default: personal]
    #[arg(short, long, add = complete::orgs())]
    org: Option<String>,
    /// Tokens of the app, or of the organization [default: of the app, if one is named]
    #[arg(short, long, value_parser = PossibleValuesParser::new(["app", "org"]))]
    scope: Option<String>,
    /// Print JSON
    #[arg(short, long)]
    json: bool,
}

pub(super) async fn run(args: ListArgs, cx: &mut Context<'_>) -> Result<()> {
    let app = match args.scope.as_deref() {
        Some("org") => None,
        Some(_) => Some(cx.app(&args.app).await?),
        None if args.org.is_some() => None,
        None => cx.find_app(&args.app)?,
    };
    if app.is_some() && args.org.is_some() {
        return Err(CliError::usage("--scope app and --org exclude each other"));
    }
    let client = cx.client()?;
    let listed = match &app {
        Some(app) => client.app_tokens(app).await,
        None => client.org_tokens(args.org.as_deref().unwrap_or(PERSONAL)).await,
    };
    let tokens = listed.context(|| "list tokens".into())?.tokens;
    if args.json {
        return cx.ui().json(&tokens);
    }
    let rows: Vec<_> = tokens
        .into_iter()
        .map(|token| {
            let (member, app) = (token.member.unwrap_or_default(), token.app.unwrap_or_default());
            let (end, used) = (token.expires_at, token.last_used_at);
            let (end, used) = (end.unwrap_or_default(), used.unwrap_or_else(|| "never".into()));
            vec![token.id, token.name, token.kind, app, member, token.created_at, end, used]
        })
        .collect();
    let columns = ["ID", "NAME", "TYPE", "APP", "MEMBER", "CREATED AT", "EXPIRES AT", "LAST USED"];
    let fit = cx.ui().fit(&["CREATED AT", "MEMBER"]);
    cx.ui().data(&table(&columns, &rows, fit))
}
