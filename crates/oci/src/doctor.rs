//! Checks of what images need on the host, for `updraft doctor`.

use diagnostics::Check;
use std::process::{Command, Stdio};

/// Checks that root images can be written.
pub fn checks() -> Vec<Check> {
    let asked = Command::new("sqfstar").arg("-version").stderr(Stdio::null()).output();
    let found = asked.map(|output| {
        let text = String::from_utf8_lossy(&output.stdout);
        text.lines().next().unwrap_or("sqfstar").trim().to_owned()
    });
    vec![match found {
        Ok(version) => Check::good("root images", version),
        Err(err) => Check::broken(
            "root images",
            format!("sqfstar cannot be started: {err}"),
            "apt install squashfs-tools (4.5 or later)",
        ),
    }]
}
