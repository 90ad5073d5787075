//! Validation of `config.containers` and `config.volumes`. See
//! <https://fly.io/docs/machines/guides-examples/multi-container-machines/>.

mod healthchecks;
mod order;
#[cfg(test)]
mod tests;

use super::process::{check_env_from, check_restart, check_secrets, check_stop};
use super::validation::{ValidationErrors, quote};
use super::{environment, files, guest::words, image_reference};
use std::collections::BTreeSet;
use wire::machines::{Container, ContainerMount, ContainerVolume, MachineConfig, TempDir};

const MAX_CONTAINERS: usize = 16;
const MAX_VOLUMES: usize = 16;
const MAX_MOUNTS: usize = 16;
const MAX_NAME: usize = 63;
const MAX_VOLUME_MB: u64 = 64 * 1024;

pub(super) fn check(errors: &mut ValidationErrors, config: &MachineConfig) {
    let containers = config.containers.as_deref().unwrap_or_default();
    let volumes = config.volumes.as_deref().unwrap_or_default();
    check_volumes(errors, volumes);
    if containers.is_empty() {
        return;
    }
    if containers.len() > MAX_CONTAINERS {
        let rule = format!("must have at most {MAX_CONTAINERS} entries, not {}", containers.len());
        return errors.add("config.containers", rule);
    }
    if config.processes.as_ref().is_some_and(|processes| !processes.is_empty()) {
        errors.add("config.processes", "cannot be given together with config.containers");
    }
    let mut names = BTreeSet::new();
    for (i, container) in containers.iter().enumerate() {
        let at = format!("config.containers[{i}]");
        name(errors, &format!("{at}.name"), &container.name, "container", &mut names);
        check_container(errors, &at, container, config);
        check_mounts(errors, &at, container.mounts.as_deref().unwrap_or_default(), volumes);
        let checks = container.healthchecks.as_deref().unwrap_or_default();
        healthchecks::check(errors, &format!("{at}.healthchecks"), checks);
    }
    order::check(errors, containers);
}

fn check_container(
    errors: &mut ValidationErrors,
    at: &str,
    container: &Container,
    config: &MachineConfig,
) {
    let field = |name: &str| format!("{at}.{name}");
    match container.image.as_deref().filter(|image| !image.is_empty()) {
        Some(image) => image_reference(errors, &field("image"), image),
        None if config.image.is_empty() => {
            errors.add(field("image"), "is required where there is no config.image");
        }
        None => {}
    }
    words(errors, &field("exec"), container.exec.as_deref());
    words(errors, &field("entrypoint"), container.entrypoint.as_deref());
    words(errors, &field("cmd"), container.cmd.as_deref());
    if container.user.as_deref().is_some_and(|user| user.contains(char::is_control)) {
        errors.add(field("user"), "must be user[:group]");
    }
    environment(errors, &field("env"), container.env.as_ref());
    check_env_from(errors, &field("env_from"), container.env_from.as_deref());
    let secrets = container.secrets.as_deref().unwrap_or_default();
    check_secrets(errors, &field("secrets"), secrets);
    let files = container.files.as_deref().unwrap_or_default();
    files::check(errors, &field("files"), files, &files::images(config));
    check_restart(errors, &field("restart.policy"), container.restart.as_ref());
    check_stop(errors, &field("stop"), container.stop.as_ref());
}

/// A name that may be a part of paths in the guest.
fn name(
    errors: &mut ValidationErrors,
    field: &str,
    name: &str,
    what: &str,
    names: &mut BTreeSet<String>,
) {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    let begins = name.starts_with(|c: char| c.is_ascii_alphanumeric());
    if name.is_empty() {
        errors.add(field, "is required");
    } else if !begins || name.len() > MAX_NAME || !name.chars().all(plain) {
        let rule = format!(
            "must have 1 to {MAX_NAME} letters, digits, hyphens, underscores and dots, and begin \
             with a letter or digit, not {}",
            quote(name)
        );
        errors.add(field, rule);
    } else if !names.insert(name.to_owned()) {
        errors.add(field, format!("is the name of another {what}"));
    }
}

fn check_mounts(
    errors: &mut ValidationErrors,
    at: &str,
    mounts: &[ContainerMount],
    volumes: &[ContainerVolume],
) {
    if mounts.len() > MAX_MOUNTS {
        errors.add(format!("{at}.mounts"), format!("must have at most {MAX_MOUNTS} entries"));
    }
    let mut paths = BTreeSet::new();
    for (i, ContainerMount { name, path, .. }) in mounts.iter().enumerate() {
        let at = format!("{at}.mounts[{i}]");
        if !volumes.iter().any(|volume| volume.name == *name) {
            let rule = format!("must be the name of one of config.volumes, not {}", quote(name));
            errors.add(format!("{at}.name"), rule);
        }
        let plain = path.trim_end_matches('/');
        let leaves = path.split('/').any(|part| part == "..");
        if !path.starts_with('/') || plain.is_empty() || leaves || path.contains('\0') {
            errors.add(format!("{at}.path"), "must be an absolute path other than /, without ..");
        } else if !paths.insert(plain) {
            errors.add(format!("{at}.path"), "is the path of another mount");
        }
    }
}

fn check_volumes(errors: &mut ValidationErrors, volumes: &[ContainerVolume]) {
    if volumes.len() > MAX_VOLUMES {
        return errors.add("config.volumes", format!("must have at most {MAX_VOLUMES} entries"));
    }
    let mut names = BTreeSet::new();
    for (i, volume) in volumes.iter().enumerate() {
        let at = format!("config.volumes[{i}]");
        name(errors, &format!("{at}.name"), &volume.name, "volume", &mut names);
        let image = volume.image.as_ref().is_some_and(|image| !image.is_empty());
        match (&volume.temp_dir, image) {
            (Some(temp_dir), false) => check_temp_dir(errors, &format!("{at}.temp_dir"), temp_dir),
            (None, true) => {
                let why = "volumes with the files of an image are not supported yet";
                errors.unsupported(format!("{at}.image"), why);
            }
            _ => errors.add(at, "needs exactly one of temp_dir and image"),
        }
    }
}

fn check_temp_dir(errors: &mut ValidationErrors, at: &str, temp_dir: &TempDir) {
    let kind = temp_dir.storage_type.as_deref().filter(|kind| !kind.is_empty());
    errors.one_of(&format!("{at}.storage_type"), kind, &["disk", "memory"]);
    let size = temp_dir.size_mb.unwrap_or(0);
    if size > MAX_VOLUME_MB {
        errors.add(format!("{at}.size_mb"), format!("must be at most {MAX_VOLUME_MB}"));
    } else if kind == Some("memory") && size == 0 {
        errors.add(format!("{at}.size_mb"), "is required for memory");
    }
}

/// Warnings about what a config with containers does not use.
pub(super) fn warnings(out: &mut Vec<String>, config: &MachineConfig) {
    for (i, volume) in config.volumes.iter().flatten().enumerate() {
        let disk =
            volume.temp_dir.as_ref().filter(|dir| dir.storage_type.as_deref() != Some("memory"));
        if disk.is_some_and(|dir| dir.size_mb.unwrap_or(0) > 0) {
            out.push(format!(
                "config.volumes[{i}].temp_dir.size_mb: a directory on disk has no limit of its own"
            ));
        }
    }
    if config.containers.as_ref().is_none_or(Vec::is_empty) {
        return;
    }
    let init = config.init.as_ref();
    let set = |argv: Option<&Vec<String>>| argv.is_some_and(|argv| !argv.is_empty());
    for (field, given) in [
        ("init.exec", set(init.and_then(|init| init.exec.as_ref()))),
        ("init.entrypoint", set(init.and_then(|init| init.entrypoint.as_ref()))),
        ("init.cmd", set(init.and_then(|init| init.cmd.as_ref()))),
        ("init.tty", init.and_then(|init| init.tty) == Some(true)),
    ] {
        if given {
            out.push(format!("config.{field}: containers do not use it"));
        }
    }
    if config.files.as_ref().is_some_and(|files| !files.is_empty()) {
        out.push("config.files: written into the machine's own root, not into containers".into());
    }
    for (i, container) in config.containers.iter().flatten().enumerate() {
        let at = format!("config.containers[{i}]");
        super::warnings::platform_variables(out, &format!("{at}.env"), container.env.as_ref());
    }
}
