//! `updraft apps create`

use super::json::AppJson;
use super::names;
use crate::complete;
use crate::context::Context;
use crate::error::{CliError, ErrorContext, Result};
use clap::Args;
use client::Client;
use wire::machines::{App, CreateApp};

/// Create an app
#[derive(Clone, Debug, Args)]
pub struct CreateArgs {
    /// Name of the app: lower-case letters, digits and dashes
    name: Option<String>,
    /// Name of the app, as a flag
    #[arg(long = "name", value_name = "NAME", conflicts_with = "name")]
    name_flag: Option<String>,
    /// Generate a name
    #[arg(long, conflicts_with_all = ["name", "name_flag"])]
    generate_name: bool,
    /// Organisation that owns it
    #[arg(short, long, add = complete::orgs())]
    org: Option<String>,
    /// Private network for it; made if there is none of that name
    #[arg(long)]
    network: Option<String>,
    /// Write the name into a new ./fly.toml
    #[arg(long)]
    save: bool,
    /// Print JSON
    #[arg(short, long)]
    json: bool,
    /// Ask nothing: the default organisation, if none is named
    #[arg(short, long, alias = "auto-confirm")]
    yes: bool,
}

pub(super) async fn run(args: CreateArgs, cx: &mut Context<'_>) -> Result<()> {
    let name = match args.name.or(args.name_flag) {
        Some(name) => name,
        None if args.generate_name => names::generate(&cx.env.rng),
        None if cx.ui().term.stdin => {
            match cx.ui().ask("Name of the app (empty: a generated one): ")? {
                name if name.is_empty() => names::generate(&cx.env.rng),
                name => name,
            }
        }
        None => {
            let error = CliError::usage("No name is given");
            return Err(error.hint("Give one, or --generate-name."));
        }
    };
    let org = if args.yes { args.org } else { cx.find_org(args.org).await? };
    let file = cx.env.cwd.join("fly.toml");
    if args.save && file.exists() {
        let error = CliError::usage(format!("Cannot save: {} exists", file.display()));
        return Err(error.hint("Leave --save out, and set `app` in that file."));
    }
    let client = cx.client()?;
    let (org_slug, network) = (org, args.network);
    let ask = CreateApp { app_name: name.clone(), org_slug, network, ..CreateApp::default() };
    let made = client.create_app(&ask).await.context(|| format!("create app {name}"))?;
    if args.save {
        // A name the server took has no character that TOML would need escaped.
        let saved = std::fs::write(&file, format!("app = \"{name}\"\n"));
        saved.context(|| format!("write {}", file.display()))?;
    }
    if args.json {
        // The answer to a create need not hold the whole app, and if it does, the
        // id is the answer's own.
        let app = match made.app {
            Some(app) => App { id: made.id, ..app },
            None => client.app(&name).await.context(|| format!("show app {name}"))?,
        };
        return cx.ui().json(&AppJson::from(&app));
    }
    cx.ui().data(&format!("New app created: {name}"))
}

/// Creates an app for a command that needs one.
pub(in crate::commands) async fn make(
    client: &Client,
    name: &str,
    org: Option<&str>,
) -> Result<()> {
    let (app_name, org_slug) = (name.to_owned(), org.map(str::to_owned));
    let ask = CreateApp { app_name, org_slug, ..CreateApp::default() };
    client.create_app(&ask).await.map(drop).context(|| format!("create app {name}"))
}
