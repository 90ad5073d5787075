//! Running `nft`, the kernel's packet filter tool.

use std::io;
use std::process::{Output, Stdio};
use std::time::Duration;
use tokio::io::AsyncWriteExt;
use tokio::process::Command;
use tokio::sync::Mutex;
use worker::ports::PortError;

/// Far above what the largest ruleset takes; a stuck `nft` must not hold a machine's start.
const DEADLINE: Duration = Duration::from_secs(30);
/// Somebody else changing the ruleset at the same moment makes ours fail whole.
const TRIES: usize = 10;

/// `nft` refused a script: what it said.
#[derive(Debug, thiserror::Error)]
#[error("nft: {0}")]
pub(crate) struct Refused(String);

/// Applies scripts one after another.
#[derive(Debug, Default)]
pub(crate) struct Nft {
    /// Changes of ours must not make each other fail.
    turn: Mutex<()>,
}

impl Nft {
    /// Applies a script as one transaction: all of it or nothing.
    pub(crate) async fn apply(&self, attempted: &str, script: &str) -> Result<(), PortError> {
        let _turn = self.turn.lock().await;
        let mut said = String::new();
        for _ in 0..TRIES {
            let output = run(&["-f", "-"], script).await?;
            if output.status.success() {
                return Ok(());
            }
            said = words(&output.stderr);
            if !said.contains("Interrupted system call")
                && !said.contains("temporarily unavailable")
            {
                break;
            }
        }
        Err(PortError::new(attempted, Refused(said)))
    }
}

/// All chains of one family (`inet`), or of all (empty), as `nft -j` tells them.
pub(crate) async fn chains(family: &str) -> Result<Vec<serde_json::Value>, PortError> {
    let mut args = vec!["-j", "list", "chains"];
    args.extend((!family.is_empty()).then_some(family));
    let attempted = "list the chains of nftables";
    let output = run(&args, "").await?;
    if !output.status.success() {
        return Err(PortError::new(attempted, Refused(words(&output.stderr))));
    }
    let mut answer: serde_json::Value =
        serde_json::from_slice(&output.stdout).map_err(|err| PortError::new(attempted, err))?;
    let items = answer["nftables"].as_array_mut().map(std::mem::take).unwrap_or_default();
    Ok(items
        .into_iter()
        .filter_map(|mut item| item.get_mut("chain").map(serde_json::Value::take))
        .collect())
}

async fn run(args: &[&str], input: &str) -> Result<Output, PortError> {
    let failed = |err: io::Error| {
        let remedy = match err.kind() {
            io::ErrorKind::NotFound => " (install the package nftables)",
            _ => "",
        };
        PortError::new(format!("run nft {}{remedy}", args.join(" ")), err)
    };
    let mut child = Command::new("nft")
        .args(args)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .map_err(failed)?;
    let mut stdin = child.stdin.take();
    let talk = async {
        // `nft -f -` reads all of its input before it writes.
        if let Some(mut pipe) = stdin.take() {
            pipe.write_all(input.as_bytes()).await?;
        }
        child.wait_with_output().await
    };
    match tokio::time::timeout(DEADLINE, talk).await {
        Ok(output) => output.map_err(failed),
        Err(_) => Err(PortError::plain(format!(
            "nft {} gave no answer in {} s",
            args.join(" "),
            DEADLINE.as_secs()
        ))
        .transient()),
    }
}

/// The errors alone: `nft` repeats each line of the script that failed.
fn words(stderr: &[u8]) -> String {
    let text = String::from_utf8_lossy(stderr);
    let errors: Vec<&str> = text.lines().filter(|line| line.contains("rror")).take(3).collect();
    match errors.is_empty() {
        true => text.trim().chars().take(400).collect(),
        false => errors.join("; "),
    }
}
