//! `updraft doctor`: whether this machine can run the platform.

use crate::daemon::network_config;
use crate::error::DaemonError;
use crate::settings::{SettingArgs, Settings};
use clap::Args;
use diagnostics::{Check, Finding};
use std::collections::BTreeMap;

/// Check whether this machine can run the platform, and name each remedy
///
/// Exit code 1 if it cannot.
#[derive(Debug, Args)]
pub(crate) struct DoctorArgs {
    #[command(flatten)]
    settings: SettingArgs,
    /// Print JSON: a list of checks, each good, weak or broken
    #[arg(short, long)]
    json: bool,
}

/// Prints every check with what was found, and remedies where something is to
/// be done. Exit code 1 if machines cannot run.
pub(crate) async fn doctor(
    args: &DoctorArgs,
    vars: &BTreeMap<String, String>,
) -> Result<u8, DaemonError> {
    let settings = Settings::load(&args.settings, vars)?;
    let mut checks =
        vmm_qemu::doctor_checks(settings.vm.qemu.as_deref(), &settings.data_dir.join("guest"));
    checks.extend(network_linux::checks::network(&network_config(&settings)).await);
    checks.extend(disk_linux::checks::disks(&settings.data_dir));
    checks.extend(oci::checks());
    let broken = checks.iter().filter(|check| check.finding == Finding::Broken).count();
    if args.json {
        println!("{:#}", as_json(&checks));
        return Ok(u8::from(broken > 0));
    }
    print!("{}", render(&checks));
    if broken == 0 {
        println!("\nThis machine can run Updraft.");
        return Ok(0);
    }
    let problems = if broken == 1 { "problem" } else { "problems" };
    println!("\nThis machine cannot run Updraft yet: {broken} {problems} to fix.");
    Ok(1)
}

fn as_json(checks: &[Check]) -> serde_json::Value {
    let show = |check: &Check| {
        let Check { name, finding, found, remedy } = check;
        let finding = match finding {
            Finding::Good => "good",
            Finding::Weak => "weak",
            Finding::Broken => "broken",
        };
        serde_json::json!({"name": name, "finding": finding, "found": found, "remedy": remedy})
    };
    checks.iter().map(show).collect()
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn checks_are_shown_as_text_and_as_json() {
        let checks =
            [Check::good("disk", "12 GB free"), Check::broken("kvm", "no /dev/kvm", "load kvm")];
        assert_eq!(
            render(&checks),
            "ok    disk  12 GB free\nFAIL  kvm   no /dev/kvm\n            -> load kvm\n"
        );
        let expected = serde_json::json!([
            {"name": "disk", "finding": "good", "found": "12 GB free", "remedy": ""},
            {"name": "kvm", "finding": "broken", "found": "no /dev/kvm", "remedy": "load kvm"},
        ]);
        assert_eq!(as_json(&checks), expected);
    }
}
