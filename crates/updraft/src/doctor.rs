//! `updraft doctor`: whether this machine can run the platform.

use crate::daemon::network_config;
use crate::error::DaemonError;
use crate::settings::{SettingArgs, Settings};
use diagnostics::{Check, Finding};
use std::collections::BTreeMap;

/// Prints every check with what was found, and remedies where something is to
/// be done. Exit code 1 if machines cannot run.
pub(crate) async fn doctor(
    args: &SettingArgs,
    vars: &BTreeMap<String, String>,
) -> Result<u8, DaemonError> {
    let settings = Settings::load(args, vars)?;
    let mut checks =
        vmm_qemu::doctor_checks(settings.vm.qemu.as_deref(), &settings.data_dir.join("guest"));
    checks.extend(network_linux::checks::network(&network_config(&settings)).await);
    checks.extend(disk_linux::checks::disks(&settings.data_dir));
    checks.extend(oci::checks());
    print!("{}", render(&checks));
    let broken = checks.iter().filter(|check| check.finding == Finding::Broken).count();
    if broken == 0 {
        println!("\nThis machine can run Updraft.");
        return Ok(0);
    }
    let problems = if broken == 1 { "problem" } else { "problems" };
    println!("\nThis machine cannot run Updraft yet: {broken} {problems} to fix.");
    Ok(1)
}

fn render(checks: &[Check]) -> String {
    let width = checks.iter().map(|check| check.name.len()).max().unwrap_or(0);
    let mut text = String::new();
    for check in checks {
        let mark = match check.finding {
            Finding::Good => "ok  ",
            Finding::Weak => "warn",
            Finding::Broken => "FAIL",
        };
        text.push_str(&format!("{mark}  {:width$}  {}\n", check.name, check.found));
        if !check.remedy.is_empty() {
            text.push_str(&format!("      {:width$}  -> {}\n", "", check.remedy));
        }
    }
    text
}
