//! What the platform does with a secret key: sign, verify, encrypt, decrypt. Messages come from
//! the standard input; signatures and encrypted messages are base64.

use super::KeyArgs;
use crate::commands::secrets::{input_base64, input_bytes};
use crate::context::Context;
use crate::error::{ErrorContext, Result};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use clap::Args;
use wire::secret::Bytes;
use wire::secret_keys::{Decrypt, Encrypt, Sign, Verify};

/// Sign the standard input with a secret key; the signature is printed in base64
#[derive(Clone, Debug, Args)]
pub struct SignArgs {
    #[command(flatten)]
    key: KeyArgs,
}

pub(super) async fn sign(args: SignArgs, cx: &mut Context<'_>) -> Result<()> {
    let (app, name) = (cx.app(&args.key.app).await?, args.key.name);
    let plaintext = Bytes::new(input_bytes(cx, "the message")?);
    let signed = cx.client()?.sign(&app, &name, &Sign { plaintext }).await;
    let signed = signed.context(|| format!("sign with secret key {name}"))?;
    cx.ui().data(&STANDARD.encode(signed.signature.as_slice()))
}

/// Verify a signature of the standard input; exit code 1 if it is not that of the key
#[derive(Clone, Debug, Args)]
pub struct VerifyArgs {
    #[command(flatten)]
    key: KeyArgs,
    /// The signature
    #[arg(long, value_name = "BASE64", value_parser = base64)]
    signature: Base64,
}

pub(super) async fn verify(args: VerifyArgs, cx: &mut Context<'_>) -> Result<()> {
    let (app, name) = (cx.app(&args.key.app).await?, args.key.name);
    let plaintext = Bytes::new(input_bytes(cx, "the message")?);
    let ask = Verify { plaintext, signature: Bytes::new(args.signature.0) };
    let verified = cx.client()?.verify(&app, &name, &ask).await;
    verified.context(|| format!("verify the signature with secret key {name}"))?;
    cx.ui().status(&format!("The signature is that of secret key {name}"));
    Ok(())
}

/// Encrypt the standard input with a secret key; the result is printed in base64
#[derive(Clone, Debug, Args)]
pub struct EncryptArgs {
    #[command(flatten)]
    key: KeyArgs,
    /// What the message is bound to; the same is needed to decrypt it
    #[arg(long, value_name = "TEXT", default_value = "", hide_default_value = true)]
    associated_data: String,
}

pub(super) async fn encrypt(args: EncryptArgs, cx: &mut Context<'_>) -> Result<()> {
    let (app, name) = (cx.app(&args.key.app).await?, args.key.name);
    let plaintext = Bytes::new(input_bytes(cx, "the message")?);
    let ask = Encrypt { plaintext, associated_data: bytes(args.associated_data) };
    let encrypted = cx.client()?.encrypt(&app, &name, &ask).await;
    let encrypted = encrypted.context(|| format!("encrypt with secret key {name}"))?;
    cx.ui().data(&STANDARD.encode(encrypted.ciphertext.as_slice()))
}

/// Decrypt the base64 text of the standard input with a secret key
#[derive(Clone, Debug, Args)]
pub struct DecryptArgs {
    #[command(flatten)]
    key: KeyArgs,
    /// What the message is bound to
    #[arg(long, value_name = "TEXT", default_value = "", hide_default_value = true)]
    associated_data: String,
}

pub(super) async fn decrypt(args: DecryptArgs, cx: &mut Context<'_>) -> Result<()> {
    let (app, name) = (cx.app(&args.key.app).await?, args.key.name);
    let ciphertext = input_base64(cx, "the encrypted message")?;
    let ask = Decrypt { ciphertext, associated_data: bytes(args.associated_data) };
    let decrypted = cx.client()?.decrypt(&app, &name, &ask).await;
    let decrypted = decrypted.context(|| format!("decrypt with secret key {name}"))?;
    cx.ui().bytes(decrypted.plaintext.as_slice())
}

fn bytes(text: String) -> Bytes {
    Bytes::new(text.into_bytes())
}

/// Bytes of a flag; a list of flags would take a `Vec` for several values.
#[derive(Clone, Debug)]
struct Base64(Vec<u8>);

fn base64(text: &str) -> Result<Base64, String> {
    STANDARD.decode(text).map(Base64).map_err(|err| format!("it is not base64: {err}"))
}
