//! What a machine's config may say (spec section C).
//!
//! All complaints are collected, each with the path of its field. What is not
//! acted on yet is checked and kept, unless leaving it undone would lose data
//! or run something else than was asked for: that is refused.

use super::{checks, files, services};
use model::restart::Policy;
use model::signal;
use model::size::Size;
use serde_json::Value;
use std::time::Duration;
use wire::machines::{Autostop, Guest, Init, MachineConfig, Mount, Span};

/// Longest time a process may take to end (C042).
pub(crate) const LONGEST_STOP: Duration = Duration::from_secs(300);
const LONGEST_IMAGE: usize = 1024;
const MOST_STATICS: usize = 10;
const LARGEST_SWAP_MB: u64 = 64 * 1024;
const LARGEST_ROOT_GB: u32 = 1024;
const LONGEST_METADATA_KEY: usize = 255;
const LONGEST_METADATA_VALUE: usize = 16 * 1024;

/// A rule that a config breaks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Complaint {
    /// Path of the field, such as `config.services[0].ports[1].handlers`.
    pub field: String,
    /// The rule, in words.
    pub why: String,
    /// The config is right, but this version cannot do it.
    pub unsupported: bool,
}

impl std::fmt::Display for Complaint {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}", self.field, self.why)
    }
}

/// Complaints so far.
#[derive(Debug, Default)]
pub(super) struct Complaints(Vec<Complaint>);

impl Complaints {
    pub(super) fn add(&mut self, field: impl Into<String>, why: impl Into<String>) {
        self.0.push(Complaint { field: field.into(), why: why.into(), unsupported: false });
    }

    pub(super) fn unsupported(&mut self, field: impl Into<String>, why: impl Into<String>) {
        self.0.push(Complaint { field: field.into(), why: why.into(), unsupported: true });
    }

    /// Complains unless `word` is absent or one of `allowed`.
    pub(super) fn one_of(&mut self, field: &str, word: Option<&str>, allowed: &[&str]) {
        if let Some(word) = word
            && !allowed.contains(&word)
        {
            self.add(field, format!("must be one of {}, not {}", allowed.join(", "), quote(word)));
        }
    }

    /// The length of time, with a complaint if there is none in it.
    pub(super) fn span(&mut self, field: &str, span: Option<&Span>) -> Option<Duration> {
        let length = span?.get();
        if length.is_none() {
            self.add(field, "must be a duration such as \"10s\", or nanoseconds, and not negative");
        }
        length
    }
}

/// Input quoted in an answer: short, and on one line.
pub(super) fn quote(text: &str) -> String {
    format!("{:?}", text.chars().take(80).collect::<String>())
}

/// Everything that is wrong with a config as the client sent it.
pub fn check(config: &MachineConfig) -> Vec<Complaint> {
    let mut found = Complaints::default();
    check_image(&mut found, &config.image);
    check_env(&mut found, config);
    check_metadata(&mut found, config);
    check_size(&mut found, config);
    check_init(&mut found, config.init.as_ref());
    check_mounts(&mut found, config.mounts.as_deref().unwrap_or_default());
    services::check(&mut found, config.services.as_deref().unwrap_or_default());
    checks::named(&mut found, config.checks.as_ref());
    files::check(&mut found, config.files.as_deref().unwrap_or_default());
    check_life(&mut found, config);
    check_dns(&mut found, config);
    check_rest(&mut found, config);
    found.0
}

/// Expands `size` and fills in the defaults that are shown to clients. Only
/// for configs that [`check`] has nothing against.
pub fn complete(config: &mut MachineConfig) {
    let preset = config.size.take().and_then(|name| Size::preset(&name));
    let guest = config.guest.get_or_insert_default();
    let given = Size::new(guest.cpu_kind.as_deref(), guest.cpus, guest.memory_mb);
    let size = preset.or(given.ok()).unwrap_or(Size::DEFAULT);
    guest.cpu_kind = Some(size.kind.as_str().into());
    guest.cpus = Some(size.cpus);
    guest.memory_mb = Some(size.memory_mb);
    // Clients rely on it being there.
    config.init.get_or_insert_default();
}

/// What is allowed but probably not meant.
pub fn warnings(config: &MachineConfig) -> Vec<String> {
    let mut out = Vec::new();
    for (i, service) in config.services.iter().flatten().enumerate() {
        let stops = service.autostop.is_some_and(|stop| stop != Autostop::Off);
        if stops && service.autostart == Some(false) {
            out.push(format!(
                "config.services[{i}]: autostop stops the machine when it is idle, and with \
                 autostart false nothing starts it again"
            ));
        }
    }
    out
}

fn check_image(found: &mut Complaints, image: &str) {
    if image.is_empty() {
        found.add("config.image", "is required");
    } else if image.len() > LONGEST_IMAGE
        || image.chars().any(|c| c.is_whitespace() || c.is_control())
    {
        found.add("config.image", format!("must be an image reference, not {}", quote(image)));
    }
}

fn check_env(found: &mut Complaints, config: &MachineConfig) {
    for (name, value) in config.env.iter().flatten() {
        let field = format!("config.env.{}", name.chars().take(80).collect::<String>());
        if name.is_empty() || name.contains(['=', '\0']) {
            found.add(field, "is not a name for an environment variable");
        } else if name.starts_with("FLY_") {
            found.add(field, "names that begin with FLY_ are set by the platform");
        } else if value.contains('\0') {
            found.add(field, "must not contain a NUL byte");
        }
    }
}

fn check_metadata(found: &mut Complaints, config: &MachineConfig) {
    for (key, value) in config.metadata.iter().flatten() {
        if let Err(why) = metadata_entry(key, value) {
            let key: String = key.chars().take(80).collect();
            found.add(format!("config.metadata.{key}"), why);
        }
    }
}

/// What is wrong with one entry of the metadata.
pub(crate) fn metadata_entry(key: &str, value: &str) -> Result<(), &'static str> {
    if key.is_empty() || key.len() > LONGEST_METADATA_KEY || key.chars().any(char::is_control) {
        return Err("a key has 1 to 255 bytes and no control characters");
    }
    if value.len() > LONGEST_METADATA_VALUE {
        return Err("a value has at most 16384 bytes");
    }
    Ok(())
}

fn check_size(found: &mut Complaints, config: &MachineConfig) {
    if let Some(size) = &config.size {
        if config.guest.is_some() {
            found.add("config.size", "cannot be given together with config.guest");
        }
        if Size::preset(size).is_none() {
            let known = Size::preset_names().collect::<Vec<_>>().join(", ");
            found.add("config.size", format!("must be one of {known}, not {}", quote(size)));
        }
    }
    let Some(guest) = &config.guest else { return };
    let Guest { cpu_kind, cpus, memory_mb, persist_rootfs, extra, .. } = guest;
    if let Err(bad) = Size::new(cpu_kind.as_deref(), *cpus, *memory_mb) {
        found.add(format!("config.guest.{}", bad.field), bad.why);
    }
    check_persist(found, "config.guest.persist_rootfs", persist_rootfs.as_deref());
    words(found, "config.guest.kernel_args", guest.kernel_args.as_deref());
    let asks =
        |v: &Value| v.as_u64().is_some_and(|n| n > 0) || v.as_str().is_some_and(|s| !s.is_empty());
    for field in ["gpus", "gpu_kind"] {
        if extra.get(field).is_some_and(asks) {
            found.unsupported(format!("config.guest.{field}"), "GPUs are not supported");
        }
    }
}

fn check_persist(found: &mut Complaints, field: &str, word: Option<&str>) {
    found.one_of(field, word.filter(|word| !word.is_empty()), &["never", "restart", "always"]);
}

fn words(found: &mut Complaints, field: &str, words: Option<&[String]>) {
    for (i, word) in words.unwrap_or_default().iter().enumerate() {
        if word.contains('\0') {
            found.add(format!("{field}[{i}]"), "must not contain a NUL byte");
        }
    }
}

fn check_init(found: &mut Complaints, init: Option<&Init>) {
    let Some(init) = init else { return };
    for (field, list) in [
        ("config.init.exec", &init.exec),
        ("config.init.entrypoint", &init.entrypoint),
        ("config.init.cmd", &init.cmd),
        ("config.init.kernel_args", &init.kernel_args),
    ] {
        words(found, field, list.as_deref());
    }
    words(found, "config.init.on_resume", init.on_resume.as_deref());
    if init
        .on_resume
        .as_deref()
        .is_some_and(|argv| argv.is_empty() || argv.contains(&String::new()))
    {
        found.add("config.init.on_resume", "must be a program and its arguments, none empty");
    }
    if init.swap_size_mb.is_some_and(|mb| mb > LARGEST_SWAP_MB) {
        found.add("config.init.swap_size_mb", format!("must be at most {LARGEST_SWAP_MB}"));
    }
}

fn check_mounts(found: &mut Complaints, mounts: &[Mount]) {
    if mounts.len() > 1 {
        found.add("config.mounts", "a machine can have one volume");
    }
    for (i, mount) in mounts.iter().enumerate() {
        let path = mount.path.as_deref().unwrap_or_default();
        if !path.starts_with('/') || path.trim_end_matches('/').is_empty() {
            let field = format!("config.mounts[{i}].path");
            found.add(field, "must be an absolute path other than /");
        }
        let named = |name: &Option<&str>| name.is_some_and(|name| !name.is_empty());
        let name = mount.extra.get("name").and_then(Value::as_str);
        if !named(&mount.volume.as_deref()) && !named(&name) {
            found.add(format!("config.mounts[{i}].volume"), "is required");
        }
    }
    if !mounts.is_empty() {
        // A machine that ran without its volume would write into a root that
        // is thrown away.
        found.unsupported("config.mounts", "volumes are not supported yet");
    }
}

fn check_life(found: &mut Complaints, config: &MachineConfig) {
    if let Some(restart) = &config.restart {
        let policy = restart.policy.as_deref();
        if Policy::parse(policy, restart.max_retries).is_none() {
            let why =
                format!("must be no, on-failure or always, not {}", quote(policy.unwrap_or("")));
            found.add("config.restart.policy", why);
        }
    }
    if let Some(stop) = &config.stop_config {
        if let Some(name) = stop.signal.as_deref()
            && !name.is_empty()
            && signal::number(name).is_none()
        {
            let why = format!("must be the name of a signal, not {}", quote(name));
            found.add("config.stop_config.signal", why);
        }
        let timeout = found.span("config.stop_config.timeout", stop.timeout.as_ref());
        if timeout.is_some_and(|timeout| timeout > LONGEST_STOP) {
            found.add("config.stop_config.timeout", "must be at most 300s");
        }
    }
    let schedule = config.schedule.as_deref().filter(|word| !word.is_empty());
    found.one_of("config.schedule", schedule, &["hourly", "daily", "weekly", "monthly"]);
    if let Some(rootfs) = &config.rootfs {
        check_persist(found, "config.rootfs.persist", rootfs.persist.as_deref());
        if rootfs.size_gb.is_some_and(|gb| gb > LARGEST_ROOT_GB) {
            found.add("config.rootfs.size_gb", format!("must be at most {LARGEST_ROOT_GB}"));
        }
    }
}

fn check_dns(found: &mut Complaints, config: &MachineConfig) {
    let Some(dns) = &config.dns else { return };
    for (i, server) in dns.nameservers.iter().flatten().enumerate() {
        if server.parse::<std::net::IpAddr>().is_err() {
            let why = format!("must be an IP address, not {}", quote(server));
            found.add(format!("config.dns.nameservers[{i}]"), why);
        }
    }
    // Each of these ends up as part of a line in a file of the guest.
    let breaks = |text: &str| text.chars().any(|c| c.is_whitespace() || c.is_control());
    for (field, text) in [("hostname", &dns.hostname), ("hostname_fqdn", &dns.hostname_fqdn)] {
        if text.as_deref().is_some_and(|text| text.len() > 253 || breaks(text)) {
            found.add(format!("config.dns.{field}"), "must be a host name");
        }
    }
    for (i, domain) in dns.searches.iter().flatten().enumerate() {
        if domain.len() > 253 || breaks(domain) {
            found.add(format!("config.dns.searches[{i}]"), "must be a domain");
        }
    }
    for (i, option) in dns.options.iter().flatten().enumerate() {
        if option.name.is_empty()
            || breaks(&option.name)
            || option.value.as_deref().is_some_and(breaks)
        {
            found.add(
                format!("config.dns.options[{i}]"),
                "must be a name and a value of one word each",
            );
        }
    }
}

fn check_rest(found: &mut Complaints, config: &MachineConfig) {
    for (field, what) in [("containers", "several containers"), ("processes", "several processes")]
    {
        let listed = config.extra.get(field).and_then(Value::as_array);
        if listed.is_some_and(|list| !list.is_empty()) {
            let why = format!("{what} in one machine are not supported yet");
            found.unsupported(format!("config.{field}"), why);
        }
    }
    let statics = config.extra.get("statics").and_then(Value::as_array);
    if statics.is_some_and(|list| list.len() > MOST_STATICS) {
        found.add("config.statics", format!("must have at most {MOST_STATICS} entries"));
    }
}

#[cfg(test)]
#[path = "config_tests.rs"]
mod tests;
