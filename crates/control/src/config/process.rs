//! Validation of the config's main process and life of the machine:
//! `init`, `restart`, `stop_config`, `schedule`, `rootfs`.

use super::environment;
use super::guest::{persist, words};
use super::validation::{ValidationErrors, quote, secret_name};
use model::restart::Policy;
use model::signal;
use std::time::Duration;
use wire::machines::{
    EnvFrom, Init, MachineConfig, MachineProcess, ProcessSecret, Restart, StopConfig,
};

/// Longest time a process may take to end.
pub(crate) const MAX_STOP_TIMEOUT: Duration = Duration::from_secs(300);
const MAX_SWAP_MB: u64 = 64 * 1024;
const MAX_ROOT_GB: u32 = 1024;
const MAX_PROCESS_SECRETS: usize = 500;
const MAX_PROCESSES: usize = 32;
const MAX_PROCESS_NAME: usize = 63;
const MAX_ENV_FROM: usize = 64;
/// Properties of a machine for `env_from[].field_ref`.
const FIELDS: [&str; 7] =
    ["id", "version", "app_name", "private_ip", "region", "image", "metadata.<key>"];

pub(super) fn check(errors: &mut ValidationErrors, config: &MachineConfig) {
    if let Some(init) = &config.init {
        check_init(errors, init);
    }
    check_processes(errors, config.processes.as_deref().unwrap_or_default());
    check_restart(errors, "config.restart.policy", config.restart.as_ref());
    check_stop(errors, "config.stop_config", config.stop_config.as_ref());
    if let Some(rootfs) = &config.rootfs {
        persist(errors, "config.rootfs.persist", rootfs.persist.as_deref());
        if rootfs.size_gb.is_some_and(|gb| gb > MAX_ROOT_GB) {
            errors.add("config.rootfs.size_gb", format!("must be at most {MAX_ROOT_GB}"));
        }
    }
}

fn check_init(errors: &mut ValidationErrors, init: &Init) {
    for (field, list) in [
        ("config.init.exec", &init.exec),
        ("config.init.entrypoint", &init.entrypoint),
        ("config.init.cmd", &init.cmd),
        ("config.init.kernel_args", &init.kernel_args),
        ("config.init.on_resume", &init.on_resume),
    ] {
        words(errors, field, list.as_deref());
    }
    let incomplete = |argv: &[String]| argv.is_empty() || argv.iter().any(String::is_empty);
    if init.on_resume.as_deref().is_some_and(incomplete) {
        let rule = "must be a program and its arguments, none empty";
        errors.add("config.init.on_resume", rule);
    }
    if init.swap_size_mb.is_some_and(|mb| mb > MAX_SWAP_MB) {
        errors.add("config.init.swap_size_mb", format!("must be at most {MAX_SWAP_MB}"));
    }
}

fn check_processes(errors: &mut ValidationErrors, processes: &[MachineProcess]) {
    if processes.len() > MAX_PROCESSES {
        let rule = format!("must have at most {MAX_PROCESSES} entries, not {}", processes.len());
        return errors.add("config.processes", rule);
    }
    for (i, process) in processes.iter().enumerate() {
        let at = |field: &str| format!("config.processes[{i}].{field}");
        let name = process.name.as_deref().unwrap_or_default();
        if name.len() > MAX_PROCESS_NAME || name.contains(char::is_control) {
            let rule =
                format!("must have at most {MAX_PROCESS_NAME} bytes and no control characters");
            errors.add(at("name"), rule);
        }
        check_env_from(errors, &at("env_from"), process.env_from.as_deref());
        words(errors, &at("exec"), process.exec.as_deref());
        words(errors, &at("entrypoint"), process.entrypoint.as_deref());
        words(errors, &at("cmd"), process.cmd.as_deref());
        environment(errors, &at("env"), process.env.as_ref());
        if process.user.as_deref().is_some_and(|user| user.contains(char::is_control)) {
            errors.add(at("user"), "must be user[:group]");
        }
        check_secrets(errors, &at("secrets"), process.secrets.as_deref().unwrap_or_default());
    }
}

/// That the app has such secrets is checked where they are at hand.
pub(super) fn check_secrets(errors: &mut ValidationErrors, at: &str, secrets: &[ProcessSecret]) {
    if secrets.len() > MAX_PROCESS_SECRETS {
        errors.add(at, format!("must have at most {MAX_PROCESS_SECRETS} entries"));
    }
    for (i, ProcessSecret { env_var, name, .. }) in secrets.iter().enumerate() {
        secret_name(errors, &format!("{at}[{i}].env_var"), env_var);
        if let Some(name) = name.as_deref().filter(|name| !name.is_empty()) {
            secret_name(errors, &format!("{at}[{i}].name"), name);
        }
    }
}

pub(super) fn check_env_from(errors: &mut ValidationErrors, at: &str, entries: Option<&[EnvFrom]>) {
    let entries = entries.unwrap_or_default();
    if entries.len() > MAX_ENV_FROM {
        return errors.add(at, format!("must have at most {MAX_ENV_FROM} entries"));
    }
    for (i, EnvFrom { env_var, field_ref, .. }) in entries.iter().enumerate() {
        if env_var.is_empty() || env_var.contains(['=', '\0']) {
            let rule = "is not a name for an environment variable";
            errors.add(format!("{at}[{i}].env_var"), rule);
        }
        let label = field_ref.strip_prefix("metadata.").is_some_and(|key| !key.is_empty());
        if !label {
            let field = format!("{at}[{i}].field_ref");
            errors.one_of(&field, Some(field_ref.as_str()), &FIELDS);
        }
    }
}

pub(super) fn check_restart(errors: &mut ValidationErrors, field: &str, restart: Option<&Restart>) {
    let Some(restart) = restart else { return };
    let policy = restart.policy.as_deref();
    if Policy::parse(policy, restart.max_retries).is_none() {
        let policy = quote(policy.unwrap_or_default());
        errors.add(field, format!("must be no, on-failure or always, not {policy}"));
    }
}

pub(super) fn check_stop(errors: &mut ValidationErrors, at: &str, stop: Option<&StopConfig>) {
    let Some(stop) = stop else { return };
    if let Some(name) = stop.signal.as_deref()
        && signal::number(name).is_none()
    {
        let rule = format!("must be the name of a signal, not {}", quote(name));
        errors.add(format!("{at}.signal"), rule);
    }
    let timeout = errors.duration(&format!("{at}.timeout"), stop.timeout.as_ref());
    if timeout.is_some_and(|timeout| timeout > MAX_STOP_TIMEOUT) {
        errors.add(format!("{at}.timeout"), "must be at most 300s");
    }
}
