//! `updraft tokens attenuate` and `updraft tokens debug`: without the server

use super::create::print;
use crate::context::Context;
use crate::error::{CliError, Result};
use clap::Args;
use macaroon::{Caveat, Macaroon, caveats_from_json, caveats_to_json};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};

/// Narrow a macaroon: add caveats to it, which need no key
///
/// The token is that of --access-token or UPDRAFT_TOKEN.
#[derive(Clone, Debug, Args)]
pub struct AttenuateArgs {
    /// File with the caveats as JSON: `[{"type": "Action", "body": "r"}]`
    #[arg(short, long, value_name = "FILE")]
    file: PathBuf,
    /// Print JSON
    #[arg(short, long)]
    json: bool,
}

pub(super) fn attenuate(args: &AttenuateArgs, cx: &mut Context<'_>) -> Result<()> {
    let text = read(cx, &args.file)?;
    let caveats = caveats_from_json(&text).map_err(|why| {
        CliError::usage(format!("Cannot read the caveats of {}", args.file.display()))
            .because(why)
            .hint("A file of caveats is a list such as [{\"type\": \"Action\", \"body\": \"r\"}].")
    })?;
    narrow(cx, &caveats, args.json)
}

/// Adds caveats to the macaroons that are used, and prints them.
pub(super) fn narrow(cx: &mut Context<'_>, caveats: &[Caveat], as_json: bool) -> Result<()> {
    let mut narrowed = Vec::new();
    for mut token in macaroons(&cx.token()?)? {
        for caveat in caveats {
            let added = token.attenuate(caveat.clone());
            added.map_err(|err| CliError::usage("Cannot narrow the token").because_of(&err))?;
        }
        narrowed.push(token.to_text());
    }
    let text = narrowed.join(",");
    if as_json {
        return cx.ui().json(&json!({ "token": text }));
    }
    print(cx, &text)
}

/// Show what is in a macaroon
///
/// The token is that of --access-token or UPDRAFT_TOKEN. Whether it is valid is not looked into.
#[derive(Clone, Debug, Args)]
pub struct DebugArgs {
    /// File with the token
    #[arg(short, long, value_name = "FILE")]
    file: Option<PathBuf>,
}

pub(super) fn debug(args: &DebugArgs, cx: &mut Context<'_>) -> Result<()> {
    let text = match &args.file {
        Some(path) => read(cx, path)?,
        None => cx.token()?,
    };
    let shown: Vec<Value> = macaroons(&text)?.iter().map(show).collect();
    cx.ui().json(&shown)
}

/// A token without what makes it one.
fn show(token: &Macaroon) -> Value {
    let key_id: String = token.key_id().iter().map(|byte| format!("{byte:02x}")).collect();
    json!({
        "location": token.location(),
        "key_id": key_id,
        "caveats": caveats_to_json(token.caveats()),
    })
}

/// The macaroons of a text, as it is in a header.
fn macaroons(text: &str) -> Result<Vec<Macaroon>> {
    let mut rest = text.trim();
    for scheme in ["Bearer ", "FlyV1 "] {
        rest = rest.strip_prefix(scheme).unwrap_or(rest).trim();
    }
    let parsed = rest.split(',').map(|part| Macaroon::parse(part.trim()));
    parsed.collect::<std::result::Result<_, _>>().map_err(|err| {
        CliError::usage("The token is no macaroon")
            .because_of(&err)
            .hint("`updraft tokens create … --macaroon` makes one.")
    })
}

fn read(cx: &Context<'_>, path: &Path) -> Result<String> {
    std::fs::read_to_string(cx.env.cwd.join(path))
        .map_err(|err| CliError::usage(format!("Cannot read {}", path.display())).because_of(&err))
}
