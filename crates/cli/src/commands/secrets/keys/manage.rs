//! Secret keys: list, generate, set and delete.

use super::KeyArgs;
use crate::commands::secrets::input_base64;
use crate::context::{AppArgs, Context};
use crate::error::{ErrorContext, Result};
use crate::ui::table::table;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use clap::Args;
use wire::secret_keys::{NewSecretKey, SecretKey};

/// List the secret keys of an app: names, types and public parts
#[derive(Clone, Debug, Args)]
#[command(visible_alias = "ls")]
pub struct ListArgs {
    #[command(flatten)]
    app: AppArgs,
    /// Print JSON
    #[arg(short, long)]
    json: bool,
}

pub(super) async fn list(args: ListArgs, cx: &mut Context<'_>) -> Result<()> {
    let app = cx.app(&args.app).await?;
    let keys = cx.client()?.secret_keys(&app).await;
    let keys = keys.context(|| format!("list the secret keys of app {app}"))?.secret_keys;
    if args.json {
        return cx.ui().json(&keys);
    }
    let rows: Vec<_> = keys.into_iter().map(row).collect();
    let fit = cx.ui().fit(&[]);
    cx.ui().data(&table(&["NAME", "TYPE", "PUBLIC KEY"], &rows, fit))
}

fn row(key: SecretKey) -> Vec<String> {
    let public = key.public_key.map(|bytes| STANDARD.encode(bytes.as_slice()));
    vec![key.name, key.kind, public.unwrap_or_default()]
}

/// Generate a secret key; one of that name is replaced
#[derive(Clone, Debug, Args)]
pub struct GenerateArgs {
    /// Type, such as hs256, nacl_sign or xaes256gcm
    #[arg(value_name = "TYPE")]
    kind: String,
    #[command(flatten)]
    key: KeyArgs,
}

pub(super) async fn generate(args: GenerateArgs, cx: &mut Context<'_>) -> Result<()> {
    change(cx, args.key, NewSecretKey { kind: args.kind, value: None }).await
}

/// Set a secret key to the base64 text of the standard input; one of that name is replaced
#[derive(Clone, Debug, Args)]
pub struct SetArgs {
    /// Type, such as hs256, nacl_sign or xaes256gcm
    #[arg(value_name = "TYPE")]
    kind: String,
    #[command(flatten)]
    key: KeyArgs,
}

pub(super) async fn set(args: SetArgs, cx: &mut Context<'_>) -> Result<()> {
    let value = Some(input_base64(cx, "the key")?);
    change(cx, args.key, NewSecretKey { kind: args.kind, value }).await
}

async fn change(cx: &mut Context<'_>, key: KeyArgs, new: NewSecretKey) -> Result<()> {
    let (app, name) = (cx.app(&key.app).await?, key.name);
    let changed = cx.client()?.set_secret_key(&app, &name, &new).await;
    changed.context(|| format!("set secret key {name}"))?;
    cx.ui().status(&format!("Set secret key {name} of app {app}"));
    Ok(())
}

/// Delete a secret key
#[derive(Clone, Debug, Args)]
pub struct DeleteArgs {
    #[command(flatten)]
    key: KeyArgs,
    /// Answer yes to every question
    #[arg(short, long, alias = "auto-confirm")]
    yes: bool,
}

pub(super) async fn delete(args: DeleteArgs, cx: &mut Context<'_>) -> Result<()> {
    let (app, name) = (cx.app(&args.key.app).await?, args.key.name);
    let question =
        format!("Delete secret key {name}? What was encrypted with it cannot be decrypted then.");
    if !cx.ui().confirm(&question, args.yes)? {
        cx.ui().status(&format!("Secret key {name} stays."));
        return Ok(());
    }
    let gone = cx.client()?.remove_secret_key(&app, &name).await;
    gone.context(|| format!("delete secret key {name}"))?;
    cx.ui().status(&format!("Deleted secret key {name} of app {app}"));
    Ok(())
}
