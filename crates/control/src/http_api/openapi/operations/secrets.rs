//! Secrets and secret keys of an app.

use crate::http_api::openapi::operation::{Content, Operation, delete, get, post, schema_of};
use axum::http::StatusCode;
use wire::secret_keys::{
    Decrypt, Decrypted, Encrypt, Encrypted, KeyTypes, NewSecretKey, SecretKey, SecretKeyChanged,
    SecretKeys, Sign, Signed, Verify,
};
use wire::secrets::{
    AppSecret, AppSecrets, ChangeSecrets, SecretChanged, SetSecret, TypedSecret, TypedSecretSet,
};

pub(super) fn all() -> Vec<Operation> {
    let mut all = secrets();
    all.extend(keys());
    all
}

fn secrets() -> Vec<Operation> {
    let version = "Not older than this version.";
    let changed = (StatusCode::CREATED, Content::Json(schema_of::<SecretChanged>));
    let typed = || (StatusCode::CREATED, Content::Json(schema_of::<TypedSecretSet>));
    let (set, generated) = (typed(), typed());
    vec![
        get("/v1/apps/{app}/secrets", "listSecrets", "List the secrets of an app")
            .flag("show_secrets", "With their values, if the token may change them.")
            .number("min_version", version)
            .number("version", "The same.")
            .answers::<AppSecrets>(),
        post("/v1/apps/{app}/secrets", "changeSecrets", "Set and remove several secrets")
            .takes::<ChangeSecrets>()
            .answers::<AppSecrets>(),
        get("/v1/apps/{app}/secrets/{name}", "getSecret", "Show a secret")
            .flag("show_secrets", "With its value, if the token may change it.")
            .number("min_version", version)
            .number("version", "The same.")
            .text("group", "The one for this process group. (addition)")
            .text("machine", "The one for this machine. (addition)")
            .answers::<AppSecret>(),
        post("/v1/apps/{app}/secrets/{name}", "setSecret", "Set a secret")
            .takes::<SetSecret>()
            .answers_with(changed.0, changed.1),
        delete("/v1/apps/{app}/secrets/{name}", "deleteSecret", "Remove a secret")
            .text("group", "The one for this process group. (addition)")
            .text("machine", "The one for this machine. (addition)")
            .answers::<SecretChanged>(),
        post("/v1/apps/{app}/secrets/{name}/type/{kind}", "setTypedSecret", "An earlier form")
            .takes::<TypedSecret>()
            .answers_with(set.0, set.1),
        post(
            "/v1/apps/{app}/secrets/{name}/type/{kind}/generate",
            "generateTypedSecret",
            "An earlier form",
        )
        .answers_with(generated.0, generated.1),
    ]
}

fn keys() -> Vec<Operation> {
    let changed = || (StatusCode::CREATED, Content::Json(schema_of::<SecretKeyChanged>));
    let (set, generated) = (changed(), changed());
    vec![
        get("/v1/apps/{app}/secretkeys", "listSecretKeys", "List the secret keys of an app")
            .answers::<SecretKeys>(),
        get("/v1/apps/{app}/secretkeys/types", "listKeyTypes", "List the types of secret keys")
            .answers::<KeyTypes>(),
        get("/v1/apps/{app}/secretkeys/{name}", "getSecretKey", "Show a secret key's public part")
            .answers::<SecretKey>(),
        post("/v1/apps/{app}/secretkeys/{name}", "setSecretKey", "Set a secret key")
            .takes::<NewSecretKey>()
            .answers_with(set.0, set.1),
        delete("/v1/apps/{app}/secretkeys/{name}", "deleteSecretKey", "Remove a secret key")
            .answers::<SecretKeyChanged>(),
        post("/v1/apps/{app}/secretkeys/{name}/generate", "generateSecretKey", "Generate a key")
            .takes::<NewSecretKey>()
            .answers_with(generated.0, generated.1),
        post("/v1/apps/{app}/secretkeys/{name}/encrypt", "encrypt", "Encrypt a message")
            .takes::<Encrypt>()
            .answers::<Encrypted>(),
        post("/v1/apps/{app}/secretkeys/{name}/decrypt", "decrypt", "Decrypt a message")
            .takes::<Decrypt>()
            .answers::<Decrypted>(),
        post("/v1/apps/{app}/secretkeys/{name}/sign", "sign", "Sign a message")
            .takes::<Sign>()
            .answers::<Signed>(),
        post("/v1/apps/{app}/secretkeys/{name}/verify", "verify", "Verify a signature")
            .takes::<Verify>()
            .answers_with(StatusCode::NO_CONTENT, Content::Empty),
    ]
}
