//! `updraft open`

use super::apps::json::url;
use crate::context::{AppArgs, Context};
use crate::error::{CliError, ErrorContext, Result};
use clap::Args;
use std::process::{Command, Stdio};

/// Show the URL of an app, and open it in a browser if there is one
///
/// The URL goes to stdout. Names below .localhost are resolved by browsers and by
/// curl; for other programs add the name to /etc/hosts, or send the header Host.
#[derive(Clone, Debug, Args)]
pub struct OpenArgs {
    /// Path and query to open, such as /health
    path: Option<String>,
    #[command(flatten)]
    app: AppArgs,
    /// Only show the URL
    #[arg(long)]
    no_browser: bool,
}

pub(super) async fn run(args: OpenArgs, cx: &mut Context<'_>) -> Result<()> {
    let name = cx.app(&args.app).await?;
    let app = cx.client()?.app(&name).await.context(|| format!("show app {name}"))?;
    let base = url(&app).ok_or_else(|| {
        CliError::failed(format!("App {name} has no URL"))
            .because("The platform runs without an edge")
            .hint("Start one with --roles edge and --domain of `updraft up`.")
    })?;
    let path = args.path.unwrap_or_default();
    let url = format!("{base}/{}", path.trim_start_matches('/'));
    cx.ui().data(&url)?;
    let set = |name: &str| cx.env.vars.get(name).is_some_and(|value| !value.is_empty());
    if args.no_browser || !(set("DISPLAY") || set("WAYLAND_DISPLAY")) {
        return Ok(());
    }
    let mut opener = Command::new("xdg-open");
    opener.arg(&url).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    if let Err(err) = opener.status() {
        cx.ui().status(&format!("No browser was opened: run xdg-open: {err}"));
    }
    Ok(())
}
