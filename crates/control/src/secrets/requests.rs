//! What a create or an update of a machine asks of the app's secrets.

use super::{open, read, record};
use crate::{Error, Platform};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use model::id::{AppId, MachineId};
use std::collections::BTreeMap;
use store::records::{AppSecretsRecord, SecretRecord};
use wire::machines::{File, LaunchMachine, MachineConfig, ProcessSecret};
use wire::secrets::SecretScope;

/// Checks the version that the request needs, and that the secrets which the config names
/// exist and can be used. `machine` is the one that is updated.
///
/// # Errors
/// The field that asks for something that is not there.
pub(crate) async fn check_launch(
    platform: &Platform,
    app: AppId,
    machine: Option<MachineId>,
    launch: &LaunchMachine,
    config: &MachineConfig,
) -> Result<(), Error> {
    let named = named(config);
    // Clients write 0 for a version that they do not know.
    let version = launch.min_secrets_version.filter(|version| *version > 0);
    if named.is_empty() && version.is_none() {
        return Ok(());
    }
    let stored = record(platform, app).await?.map(|stored| stored.record);
    read::check_version(platform, "min_secrets_version", stored.as_ref(), version)?;
    let skipped = launch.skip_secrets == Some(true);
    let stored = stored.unwrap_or_default();
    let own = own_secrets(&stored, machine, config);
    for Named { field, name, is_file } in named {
        if skipped {
            let rule = "needs a secret, and the request has skip_secrets";
            return Err(Error::invalid(field, rule));
        }
        let Some(secret) = own.get(name) else {
            let rule = format!("the app has no secret {name} for this machine");
            return Err(Error::invalid(field, rule)
                .hint("set it first: `updraft secrets set --stage NAME=VALUE`"));
        };
        if !is_file {
            continue;
        }
        let value = open(platform, app, secret)?;
        if STANDARD.decode(value.expose().trim_ascii_end()).is_err() {
            let rule = format!("the value of the secret {name} must be base64");
            return Err(Error::invalid(field, rule).hint(format!(
                "`base64 -w0 FILE | updraft secrets set --stage {name}=-` sets it"
            )));
        }
    }
    Ok(())
}

/// A place of a config that names a secret.
struct Named<'a> {
    field: String,
    name: &'a str,
    /// The secret is the content of a file.
    is_file: bool,
}

fn named(config: &MachineConfig) -> Vec<Named<'_>> {
    let mut out = Vec::new();
    files(&mut out, "config", config.files.as_deref());
    for (i, process) in config.processes.iter().flatten().enumerate() {
        variables(&mut out, &format!("config.processes[{i}]"), process.secrets.as_deref());
    }
    for (i, container) in config.containers.iter().flatten().enumerate() {
        let at = format!("config.containers[{i}]");
        files(&mut out, &at, container.files.as_deref());
        variables(&mut out, &at, container.secrets.as_deref());
    }
    out
}

fn files<'a>(out: &mut Vec<Named<'a>>, at: &str, files: Option<&'a [File]>) {
    for (i, file) in files.into_iter().flatten().enumerate() {
        if let Some(name) = file.secret_name.as_deref().filter(|name| !name.is_empty()) {
            let field = format!("{at}.files[{i}].secret_name");
            out.push(Named { field, name, is_file: true });
        }
    }
}

fn variables<'a>(out: &mut Vec<Named<'a>>, at: &str, secrets: Option<&'a [ProcessSecret]>) {
    for (i, secret) in secrets.into_iter().flatten().enumerate() {
        let name = secret.name.as_deref().filter(|name| !name.is_empty());
        let field = format!("{at}.secrets[{i}].name");
        out.push(Named { field, name: name.unwrap_or(&secret.env_var), is_file: false });
    }
}

/// The secrets that a machine of this config is given, by name; of several the one with
/// the narrowest scope, as its host decides it.
fn own_secrets<'a>(
    record: &'a AppSecretsRecord,
    machine: Option<MachineId>,
    config: &MachineConfig,
) -> BTreeMap<&'a str, &'a SecretRecord> {
    let id = machine.map(|id| id.to_string());
    let labels = config.metadata.as_ref();
    let group = labels.and_then(|labels| labels.get("fly_process_group"));
    let group = group.map_or("app", String::as_str);
    let rank = |secret: &SecretRecord| match &secret.scope {
        None => Some(0),
        Some(SecretScope::Group(name)) => (name == group).then_some(1),
        Some(SecretScope::Machine(of)) => (Some(of) == id.as_ref()).then_some(2),
    };
    let mut ranked: Vec<(u8, &SecretRecord)> =
        record.secrets.iter().filter_map(|secret| Some((rank(secret)?, secret))).collect();
    ranked.sort_by_key(|(rank, _)| *rank);
    ranked.into_iter().map(|(_, secret)| (secret.name.as_str(), secret)).collect()
}
