//! What all kinds of `updraft tokens create` have in common.

use crate::context::Context;
use crate::error::{ErrorContext, Result};
use clap::Args;
use wire::tokens::CreateToken;

/// Flags of all kinds of tokens.
#[derive(Clone, Debug, Args)]
pub(super) struct Common {
    /// Life of the token, such as 720h; at most 175200h [default: 720h]
    #[arg(short = 'x', long, value_name = "DURATION")]
    expiry: Option<String>,
    /// Name of the token
    #[arg(short, long)]
    name: Option<String>,
    /// Make a macaroon, which can be narrowed with `updraft tokens attenuate`
    #[arg(long)]
    macaroon: bool,
    /// E-mail address of the member whom it belongs to: the member's role bounds it
    #[arg(long, value_name = "EMAIL")]
    member: Option<String>,
    /// Print JSON
    #[arg(short, long)]
    json: bool,
}

impl Common {
    pub(super) fn asks_json(&self) -> bool {
        self.json
    }

    pub(super) fn expiry(&self) -> Option<&str> {
        self.expiry.as_deref()
    }
}

/// Makes a token and prints its text: it is not shown again.
pub(super) async fn make(
    cx: &mut Context<'_>,
    org: &str,
    common: Common,
    ask: CreateToken,
) -> Result<()> {
    let ask = CreateToken {
        name: common.name.unwrap_or(ask.name),
        expiry: common.expiry,
        member: common.member,
        macaroon: common.macaroon,
        ..ask
    };
    let made = cx.client()?.create_token(org, &ask).await;
    let made = made.context(|| format!("create a token of type {}", ask.kind))?;
    if common.json {
        return cx.ui().json(&made);
    }
    if let Some(end) = &made.about.expires_at {
        cx.ui().status(&format!("Token {} ends at {end}", made.about.id));
    }
    print(cx, &made.token)
}

/// Prints a token with the scheme that the platform's clients write before a macaroon.
pub(super) fn print(cx: &mut Context<'_>, token: &str) -> Result<()> {
    let scheme = if macaroon::Macaroon::has_prefix(token) { "FlyV1 " } else { "" };
    cx.ui().data(&format!("{scheme}{token}"))
}
