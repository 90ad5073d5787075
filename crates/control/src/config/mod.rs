//! The config of a machine: zero values removed, rules checked, defaults filled
//! in, and warnings about what this version does not act on.
//!
//! All violations are collected, each with the path of its field. What is not
//! acted on yet is checked, kept and warned of, unless leaving it undone would lose
//! data or run something other than what was asked for: that is refused.

mod checks;
mod containers;
mod dns;
mod files;
mod guest;
mod normalize;
mod platform_env;
mod process;
mod schedule;
mod services;
mod validation;
mod warnings;

use crate::Error;
use model::size::Size;
use model::volume::MAX_MOUNTS;
use std::collections::{BTreeMap, BTreeSet};
use validation::{ValidationErrors, quote};
use wire::machines::{Guest, MachineConfig};

pub use normalize::{complete, normalize};
pub(crate) use platform_env::PLATFORM_ENV;
pub(crate) use process::MAX_STOP_TIMEOUT;
pub use validation::ValidationError;
pub(crate) use validation::is_set;

/// Size of a question about capacity that names none, as that of `fly machine place`
/// (<https://fly.io/docs/flyctl/machine-place/>).
const DEFAULT_SIZE: &str = "performance-1x";
const MAX_IMAGE: usize = 1024;
/// Bytes of the path of a volume, with its NUL: the limit of the guest's kernel.
const MAX_MOUNT_PATH: usize = 4096;
const MAX_METADATA_KEY: usize = 255;
const MAX_METADATA_VALUE: usize = 16 * 1024;

/// Checks a config after [`normalize`].
///
/// # Errors
/// A rule is violated; all violations are in the message. They are
/// [`crate::Kind::Unsupported`] only if the config is otherwise valid.
pub fn check(config: &MachineConfig) -> Result<(), Error> {
    validation::into_result(violations(config))
}

/// Warnings about a config, each with the path of its field.
pub fn warnings(config: &MachineConfig) -> Vec<String> {
    let mut out = warnings::of_machine(config);
    containers::warnings(&mut out, config);
    out
}

/// Every rule that a config violates.
pub fn violations(config: &MachineConfig) -> Vec<ValidationError> {
    let mut errors = ValidationErrors::default();
    image(&mut errors, config);
    environment(&mut errors, "config.env", config.env.as_ref());
    metadata(&mut errors, config);
    guest::check(&mut errors, config);
    process::check(&mut errors, config);
    mounts(&mut errors, config);
    let services = config.services.as_deref().unwrap_or_default();
    services::check(&mut errors, services);
    checks::check(&mut errors, config);
    schedule::check(&mut errors, config);
    metrics(&mut errors, config);
    let files = config.files.as_deref().unwrap_or_default();
    files::check(&mut errors, "config.files", files, &files::images(config));
    files::check_statics(&mut errors, config);
    containers::check(&mut errors, config);
    dns::check(&mut errors, config);
    unbuilt(&mut errors, config);
    errors.into_vec()
}

/// The size of a preset or of a guest, `performance-1x` if neither is given. `below` is put
/// before the names of fields in errors.
///
/// # Errors
/// As [`check`].
pub fn size(below: &str, size: Option<String>, guest: Option<Guest>) -> Result<Size, Error> {
    let is_default = size.is_none() && guest.is_none();
    let size = if is_default { Some(DEFAULT_SIZE.to_owned()) } else { size };
    let mut config = MachineConfig { size, guest, ..MachineConfig::default() };
    normalize(&mut config);
    let mut errors = ValidationErrors::default();
    guest::check(&mut errors, &config);
    let errors = errors.into_vec().into_iter().map(|mut error| {
        let field = error.field.trim_start_matches("config.").trim_start_matches("guest.");
        error.field = format!("{below}{field}");
        error
    });
    validation::into_result(errors.collect())?;
    complete(&mut config);
    let guest = config.guest.unwrap_or_default();
    let size = Size::new(guest.cpu_kind.as_deref(), guest.cpus, guest.memory_mb);
    Ok(size.unwrap_or(Size::DEFAULT))
}

fn image(errors: &mut ValidationErrors, config: &MachineConfig) {
    let containers = config.containers.as_ref().is_some_and(|list| !list.is_empty());
    match config.image.as_str() {
        // Each container has an image of its own.
        "" if containers => {}
        "" => errors.add("config.image", "is required"),
        image => image_reference(errors, "config.image", image),
    }
}

fn image_reference(errors: &mut ValidationErrors, field: &str, image: &str) {
    let bad = |c: char| c.is_whitespace() || c.is_control();
    if image.len() > MAX_IMAGE || image.chars().any(bad) {
        errors.add(field, format!("must be an image reference, not {}", quote(image)));
    }
}

fn metrics(errors: &mut ValidationErrors, config: &MachineConfig) {
    let Some(endpoint) = &config.metrics else { return };
    if endpoint.port.is_none() {
        errors.add("config.metrics.port", "is required, from 1 to 65535");
    }
    let path = endpoint.path.as_deref().unwrap_or("/");
    if !path.starts_with('/') || path.len() > 2048 || !path.bytes().all(|b| b.is_ascii_graphic()) {
        let rule = "must begin with /, have at most 2048 bytes, and be percent-encoded";
        errors.add("config.metrics.path", rule);
    }
}

fn environment(
    errors: &mut ValidationErrors,
    at: &str,
    variables: Option<&BTreeMap<String, String>>,
) {
    for (name, value) in variables.into_iter().flatten() {
        let field = format!("{at}.{}", name.chars().take(80).collect::<String>());
        if name.is_empty() || name.contains(['=', '\0']) {
            errors.add(field, "is not a name for an environment variable");
        } else if value.contains('\0') {
            errors.add(field, "must not contain a NUL byte");
        }
    }
}

fn metadata(errors: &mut ValidationErrors, config: &MachineConfig) {
    for (key, value) in config.metadata.iter().flatten() {
        if let Err(rule) = metadata_entry(key, value) {
            let key: String = key.chars().take(80).collect();
            errors.add(format!("config.metadata.{key}"), rule);
        }
    }
    if let Some(Err(rule)) = config.metadata.as_ref().map(host_api::check_labels) {
        errors.add("config.metadata", rule);
    }
}

/// The rule that one entry of the metadata violates.
pub(crate) fn metadata_entry(key: &str, value: &str) -> Result<(), &'static str> {
    if key.is_empty() || key.len() > MAX_METADATA_KEY || key.chars().any(char::is_control) {
        return Err("a key has 1 to 255 bytes and no control characters");
    }
    if value.len() > MAX_METADATA_VALUE {
        return Err("a value has at most 16384 bytes");
    }
    Ok(())
}

/// Trees of the kernel and of init, which no volume replaces.
const RESERVED: [&str; 4] = ["/proc", "/sys", "/dev", "/.fly"];

fn mounts(errors: &mut ValidationErrors, config: &MachineConfig) {
    let mounts = config.mounts.as_deref().unwrap_or_default();
    if mounts.len() > MAX_MOUNTS {
        errors.add("config.mounts", format!("a machine can have {MAX_MOUNTS} volumes"));
    }
    let mut paths = BTreeSet::new();
    let mut volumes = BTreeSet::new();
    for (i, mount) in mounts.iter().enumerate() {
        let at = |field: &str| format!("config.mounts[{i}].{field}");
        match mount_path(mount.path.as_deref().unwrap_or_default()) {
            Err(rule) => errors.add(at("path"), rule),
            Ok(path) => {
                if !paths.insert(path) {
                    errors.add(at("path"), "another volume has this path");
                }
            }
        }
        let named = |name: &Option<String>| name.as_ref().is_some_and(|name| !name.is_empty());
        if !named(&mount.volume) && !named(&mount.name) {
            errors.add(at("volume"), "is required");
        } else if named(&mount.volume) && !volumes.insert(&mount.volume) {
            errors.add(at("volume"), "the machine has this volume already");
        }
        let grows = [mount.extend_threshold_percent, mount.add_size_gb, mount.size_gb_limit];
        let more = ["add_size_percent", "min_add_size_gb"];
        let more = more.iter().any(|field| mount.extra.get(*field).is_some_and(is_set));
        if more || grows.into_iter().flatten().any(|value| value > 0) {
            let why = "volumes that grow by themselves are not supported yet";
            errors.unsupported(at("extend_threshold_percent"), why);
        }
    }
    if !mounts.is_empty() && config.containers.as_ref().is_some_and(|list| !list.is_empty()) {
        let why = "volumes of machines with containers are not supported yet";
        errors.unsupported("config.mounts", why);
    }
}

/// The parts of a path that a volume can have.
fn mount_path(path: &str) -> Result<Vec<&str>, &'static str> {
    let parts: Vec<&str> = path.split('/').filter(|part| !matches!(*part, "" | ".")).collect();
    let plain = !parts.contains(&"..") && !path.contains('\0') && path.len() < MAX_MOUNT_PATH;
    if !path.starts_with('/') || parts.is_empty() || !plain {
        return Err("must be an absolute path other than /, without ..");
    }
    let reserved = parts.first().is_some_and(|first| RESERVED.contains(&&*format!("/{first}")));
    if reserved { Err("must not be in /proc, /sys, /dev or /.fly") } else { Ok(parts) }
}

/// Parts without which the machine would be something other than what was asked for.
fn unbuilt(errors: &mut ValidationErrors, config: &MachineConfig) {
    for (field, what) in [
        ("cache_drive", "cache drives are"),
        ("required_host_features", "features of hosts are"),
        ("spot", "spot machines are"),
    ] {
        if config.extra.get(field).is_some_and(is_set) {
            errors.unsupported(format!("config.{field}"), format!("{what} not supported yet"));
        }
    }
}

#[cfg(test)]
#[path = "config_tests.rs"]
mod tests;
