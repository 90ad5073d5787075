//! The kernel's log: the only place for messages before the agent port is open.

/// Writes one line.
pub(crate) fn write(text: &str) {
    let _ = std::fs::write("/dev/kmsg", format!("updraft-init: {}\n", text.trim_end()));
}
