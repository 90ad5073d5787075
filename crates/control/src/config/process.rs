//! Validation of the config's main process and life of the machine:
//! `init`, `restart`, `stop_config`, `schedule`, `rootfs`.

use super::environment;
use super::guest::{persist, words};
use super::validation::{ValidationErrors, is_set, quote, secret_name};
use model::restart::Policy;
use model::signal;
use std::time::Duration;
use wire::machines::{Init, MachineConfig, MachineProcess, ProcessSecret};

/// Longest time a process may take to end.
pub(crate) const MAX_STOP_TIMEOUT: Duration = Duration::from_secs(300);
const MAX_SWAP_MB: u64 = 64 * 1024;
const MAX_ROOT_GB: u32 = 1024;
const MAX_PROCESS_SECRETS: usize = 500;

pub(super) fn check(errors: &mut ValidationErrors, config: &MachineConfig) {
    if let Some(init) = &config.init {
        check_init(errors, init);
    }
    check_processes(errors, config.processes.as_deref().unwrap_or_default());
    if let Some(restart) = &config.restart {
        let policy = restart.policy.as_deref();
        if Policy::parse(policy, restart.max_retries).is_none() {
            let policy = quote(policy.unwrap_or_default());
            let rule = format!("must be no, on-failure or always, not {policy}");
            errors.add("config.restart.policy", rule);
        }
    }
    check_stop(errors, config);
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

/// One process is the main process; several would be something else than what
/// was asked for, were only one of them run.
fn check_processes(errors: &mut ValidationErrors, processes: &[MachineProcess]) {
    if processes.len() > 1 {
        let why = "several processes in one machine are not supported yet";
        errors.unsupported("config.processes", why);
    }
    for (i, process) in processes.iter().enumerate() {
        let at = |field: &str| format!("config.processes[{i}].{field}");
        words(errors, &at("exec"), process.exec.as_deref());
        words(errors, &at("entrypoint"), process.entrypoint.as_deref());
        words(errors, &at("cmd"), process.cmd.as_deref());
        environment(errors, &at("env"), process.env.as_ref());
        if process.user.as_deref().is_some_and(|user| user.contains(char::is_control)) {
            errors.add(at("user"), "must be user[:group]");
        }
        check_secrets(errors, &at("secrets"), process.secrets.as_deref().unwrap_or_default());
        if process.extra.get("env_from").is_some_and(is_set) {
            errors.unsupported(at("env_from"), "is not supported yet");
        }
    }
}

/// That the app has such secrets is checked where they are at hand.
fn check_secrets(errors: &mut ValidationErrors, at: &str, secrets: &[ProcessSecret]) {
    if secrets.len() > MAX_PROCESS_SECRETS {
        errors.add(at, format!("must have at most {MAX_PROCESS_SECRETS} entries"));
    }
    for (i, ProcessSecret { env_var, name }) in secrets.iter().enumerate() {
        secret_name(errors, &format!("{at}[{i}].env_var"), env_var);
        if let Some(name) = name.as_deref().filter(|name| !name.is_empty()) {
            secret_name(errors, &format!("{at}[{i}].name"), name);
        }
    }
}

fn check_stop(errors: &mut ValidationErrors, config: &MachineConfig) {
    let Some(stop) = &config.stop_config else { return };
    if let Some(name) = stop.signal.as_deref()
        && signal::number(name).is_none()
    {
        let rule = format!("must be the name of a signal, not {}", quote(name));
        errors.add("config.stop_config.signal", rule);
    }
    let timeout = errors.duration("config.stop_config.timeout", stop.timeout.as_ref());
    if timeout.is_some_and(|timeout| timeout > MAX_STOP_TIMEOUT) {
        errors.add("config.stop_config.timeout", "must be at most 300s");
    }
}
