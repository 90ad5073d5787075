//! Names that the shell completes: apps, machines and images of the platform.
//!
//! Runs while the user waits after Tab, so with a short deadline, and silent: a
//! platform that does not answer has nothing to complete.

use crate::config::{self, AccessFlags};
use clap_complete::engine::{ArgValueCandidates, CompletionCandidate};
use client::{Client, ListMachines};
use std::collections::BTreeMap;
use std::time::Duration;

/// Longest wait for the platform.
const PATIENCE: Duration = Duration::from_secs(2);

/// Names of apps.
pub(crate) fn apps() -> ArgValueCandidates {
    ArgValueCandidates::new(|| {
        candidates(async |client, _| {
            let apps = client.apps(None).await.map(|list| list.apps).unwrap_or_default();
            apps.into_iter().map(|app| CompletionCandidate::new(app.name)).collect()
        })
    })
}

/// Ids of machines, with their names as help: of the app that the words of the
/// command line name, else of all.
pub(crate) fn machines() -> ArgValueCandidates {
    ArgValueCandidates::new(|| {
        candidates(async |client, vars| {
            let named = named_app(std::env::args(), vars);
            let apps = match named {
                Some(app) => vec![app],
                None => {
                    let all = client.apps(None).await.map(|list| list.apps).unwrap_or_default();
                    all.into_iter().map(|app| app.name).collect()
                }
            };
            let mut found = Vec::new();
            for app in apps {
                let machines = client.machines(&app, &ListMachines::default()).await;
                found.extend(machines.unwrap_or_default().into_iter().map(|machine| {
                    let help = format!("{} in {app}, {}", machine.name, machine.state);
                    CompletionCandidate::new(machine.id).help(Some(help.into()))
                }));
            }
            found
        })
    })
}

/// Names of images.
pub(crate) fn images() -> ArgValueCandidates {
    ArgValueCandidates::new(|| {
        candidates(async |client, _| {
            let images = client.images().await.unwrap_or_default();
            images.into_iter().flat_map(|i| i.references).map(CompletionCandidate::new).collect()
        })
    })
}

/// The app that a command line names, or the environment.
fn named_app(
    mut words: impl Iterator<Item = String>,
    vars: &BTreeMap<String, String>,
) -> Option<String> {
    while let Some(word) = words.next() {
        match word.as_str() {
            "-a" | "--app" => return words.next(),
            word => {
                if let Some(app) = word.strip_prefix("--app=") {
                    return Some(app.to_owned());
                }
            }
        }
    }
    let set = |name: &str| vars.get(name).filter(|value| !value.is_empty()).cloned();
    set("FLY_APP").or_else(|| set("UPDRAFT_APP"))
}

fn candidates(
    ask: impl AsyncFnOnce(&Client, &BTreeMap<String, String>) -> Vec<CompletionCandidate>,
) -> Vec<CompletionCandidate> {
    let vars: BTreeMap<String, String> = std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
        .collect();
    let file = config::path(&vars).and_then(|path| config::read(&path).ok().flatten());
    let file = file.unwrap_or_default();
    let access = config::access(AccessFlags::default(), &vars, &file);
    let Ok(client) = Client::new(&access.api, access.token.as_deref()) else { return Vec::new() };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let Ok(runtime) = runtime else { return Vec::new() };
    let asked = async { tokio::time::timeout(PATIENCE, ask(&client, &vars)).await };
    runtime.block_on(asked).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_app_of_a_command_line() {
        let vars = BTreeMap::from([("FLY_APP".to_owned(), "env".to_owned())]);
        for (line, app) in [
            ("updraft m start -a web", Some("web")),
            ("updraft m start --app web x", Some("web")),
            ("updraft m start --app=web", Some("web")),
            ("updraft m start", Some("env")),
            ("updraft m start -a", None),
        ] {
            let words = line.split(' ').map(str::to_owned);
            assert_eq!(named_app(words, &vars).as_deref(), app, "{line}");
        }
        assert_eq!(named_app(std::iter::empty(), &BTreeMap::new()), None);
    }
}
