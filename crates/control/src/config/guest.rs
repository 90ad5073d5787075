//! Validation of `config.guest` and `config.size`: the size of the VM.
//! See <https://fly.io/docs/machines/guides-examples/machine-sizing/>.

use super::validation::{ValidationErrors, is_set, quote};
use model::size::Size;
use wire::machines::{Guest, MachineConfig};

pub(super) fn check(errors: &mut ValidationErrors, config: &MachineConfig) {
    if let Some(size) = &config.size {
        if config.guest.is_some() {
            errors.add("config.size", "cannot be given together with config.guest");
        }
        if Size::preset(size).is_none() {
            let known = Size::preset_names().collect::<Vec<_>>().join(", ");
            errors.add("config.size", format!("must be one of {known}, not {}", quote(size)));
        }
    }
    let Some(guest) = &config.guest else { return };
    let Guest { cpu_kind, cpus, memory_mb, persist_rootfs, extra, .. } = guest;
    if let Err(bad) = Size::new(cpu_kind.as_deref(), *cpus, *memory_mb) {
        errors.add(format!("config.guest.{}", bad.field), bad.why);
    }
    persist(errors, "config.guest.persist_rootfs", persist_rootfs.as_deref());
    words(errors, "config.guest.kernel_args", guest.kernel_args.as_deref());
    for (field, what) in [
        ("gpus", "GPUs are not supported"),
        ("gpu_kind", "GPUs are not supported"),
        ("host_dedication_id", "dedicated hosts are not supported yet"),
        ("cache_drive", "cache drives are not supported yet"),
        ("required_host_features", "features of hosts are not supported yet"),
        ("spot", "spot machines are not supported yet"),
    ] {
        if extra.get(field).is_some_and(is_set) {
            errors.unsupported(format!("config.guest.{field}"), what);
        }
    }
}

pub(super) fn persist(errors: &mut ValidationErrors, field: &str, word: Option<&str>) {
    errors.one_of(field, word, &["never", "restart", "always"]);
}

/// Arguments cannot hold a NUL byte.
pub(super) fn words(errors: &mut ValidationErrors, field: &str, words: Option<&[String]>) {
    for (i, word) in words.unwrap_or_default().iter().enumerate() {
        if word.contains('\0') {
            errors.add(format!("{field}[{i}]"), "must not contain a NUL byte");
        }
    }
}
