//! `updraft auth`

use crate::context::Context;
use crate::error::{ErrorContext, Result};
use clap::{Args, Subcommand};

/// Commands about the token that is used.
#[derive(Clone, Debug, Subcommand)]
pub enum Command {
    Whoami(WhoamiArgs),
    Token(TokenArgs),
}

/// Show the token that is used: its name, type and organization
#[derive(Clone, Debug, Args)]
pub struct WhoamiArgs {
    /// Print JSON
    #[arg(short, long)]
    json: bool,
}

/// Print the token that is used
#[derive(Clone, Debug, Args)]
pub struct TokenArgs {
    /// Print JSON
    #[arg(short, long)]
    json: bool,
}

pub(super) async fn dispatch(command: Command, cx: &mut Context<'_>) -> Result<()> {
    match command {
        Command::Whoami(args) => whoami(args, cx).await,
        Command::Token(args) => token(&args, cx),
    }
}

async fn whoami(args: WhoamiArgs, cx: &mut Context<'_>) -> Result<()> {
    let current = cx.client()?.current_tokens().await.context(|| "ask about the token".into())?;
    if args.json {
        return cx.ui().json(&current);
    }
    let lines = current.tokens.iter().map(|token| {
        let user = token.user.as_deref().unwrap_or(&token.name);
        let apps: Vec<&str> = token.apps.iter().map(|app| app.name.as_str()).collect();
        let apps =
            if apps.is_empty() { String::new() } else { format!(", app {}", apps.join(", ")) };
        format!("{user} ({}, organization {}{apps})", token.kind, token.org_slug)
    });
    let text = lines.collect::<Vec<_>>().join("\n");
    cx.ui().data(&text)
}

fn token(args: &TokenArgs, cx: &mut Context<'_>) -> Result<()> {
    let token = cx.token()?;
    if args.json {
        return cx.ui().json(&serde_json::json!({ "token": token }));
    }
    cx.ui().data(&token)
}
