//! Names that the shell completes: apps, machines, images, secrets and more of the platform.
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

/// Names of secrets of the app that the words of the command line name.
pub(crate) fn secrets() -> ArgValueCandidates {
    ArgValueCandidates::new(|| {
        candidates(async |client, vars| {
            let Some(app) = named_app(std::env::args(), vars) else { return Vec::new() };
            let list = client.secrets(&app).await.map(|list| list.secrets).unwrap_or_default();
            let candidate = |name: String, digest: String| {
                CompletionCandidate::new(name).help(Some(format!("digest {digest}").into()))
            };
            list.into_iter().map(|secret| candidate(secret.name, secret.digest)).collect()
        })
    })
}

/// Names of secret keys of the app that the words of the command line name.
pub(crate) fn secret_keys() -> ArgValueCandidates {
    ArgValueCandidates::new(|| {
        candidates(async |client, vars| {
            let Some(app) = named_app(std::env::args(), vars) else { return Vec::new() };
            let keys = client.secret_keys(&app).await.map(|list| list.secret_keys);
            let keys = keys.unwrap_or_default().into_iter();
            keys.map(|key| CompletionCandidate::new(key.name).help(Some(key.kind.into()))).collect()
        })
    })
}

/// Slugs of organizations.
pub(crate) fn orgs() -> ArgValueCandidates {
    ArgValueCandidates::new(|| {
        candidates(async |client, _| {
            let orgs = client.orgs().await.map(|list| list.orgs).unwrap_or_default();
            let candidate =
                |slug: String, name: String| CompletionCandidate::new(slug).help(Some(name.into()));
            orgs.into_iter().map(|org| candidate(org.slug, org.name)).collect()
        })
    })
}

/// Codes of regions.
pub(crate) fn regions() -> ArgValueCandidates {
    ArgValueCandidates::new(|| {
        candidates(async |client, _| {
            let regions = client.regions().await.map(|list| list.regions).unwrap_or_default();
            regions.into_iter().map(|region| CompletionCandidate::new(region.code)).collect()
        })
    })
}

/// Ids of tokens, with their names as help: of the app that the words of the command line
/// name, else of the organization that every platform has.
pub(crate) fn tokens() -> ArgValueCandidates {
    ArgValueCandidates::new(|| {
        candidates(async |client, vars| {
            let listed = match named_app(std::env::args(), vars) {
                Some(app) => client.app_tokens(&app).await,
                None => client.org_tokens("personal").await,
            };
            let tokens = listed.map(|list| list.tokens).unwrap_or_default();
            let candidate =
                |id: String, name: String| CompletionCandidate::new(id).help(Some(name.into()));
            tokens.into_iter().map(|token| candidate(token.id, token.name)).collect()
        })
    })
}

/// Names of preset sizes, which are the same everywhere.
pub(crate) fn sizes() -> ArgValueCandidates {
    ArgValueCandidates::new(|| {
        crate::parse::presets().map(|(name, _)| CompletionCandidate::new(name)).collect()
    })
}

/// The app that a command line names, or the environment.
fn named_app(
    words: impl Iterator<Item = String>,
    vars: &BTreeMap<String, String>,
) -> Option<String> {
    let set = |name: &str| vars.get(name).filter(|value| !value.is_empty()).cloned();
    flag(words, &["-a", "--app"]).or_else(|| set("FLY_APP")).or_else(|| set("UPDRAFT_APP"))
}

/// The value of a flag on a command line, by any of its names; the last of them is long.
fn flag(mut words: impl Iterator<Item = String>, names: &[&str]) -> Option<String> {
    while let Some(word) = words.next() {
        if names.contains(&word.as_str()) {
            return words.next();
        }
        let (name, value) = word.split_once('=').unwrap_or_default();
        if names.last() == Some(&name) {
            return Some(value.to_owned());
        }
    }
    None
}

fn candidates(
    ask: impl AsyncFnOnce(&Client, &BTreeMap<String, String>) -> Vec<CompletionCandidate>,
) -> Vec<CompletionCandidate> {
    let vars: BTreeMap<String, String> = std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
        .collect();
    let file = config::path(&vars).and_then(|path| config::read(&path).ok().flatten());
    let file = file.unwrap_or_default();
    let api = flag(std::env::args(), &["--api"]);
    let token = flag(std::env::args(), &["-t", "--access-token"]);
    let flags = AccessFlags { api: api.as_deref(), token: token.as_deref() };
    let access = config::access(flags, &vars, &file);
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
            ("updraft m start -a", Some("env")),
        ] {
            let words = line.split(' ').map(str::to_owned);
            assert_eq!(named_app(words, &vars).as_deref(), app, "{line}");
        }
        assert_eq!(named_app(std::iter::empty(), &BTreeMap::new()), None);
        let words = || "updraft --api=http://x:1 m ls -t=y -t z".split(' ').map(str::to_owned);
        assert_eq!(flag(words(), &["--api"]).as_deref(), Some("http://x:1"));
        assert_eq!(flag(words(), &["-t", "--access-token"]).as_deref(), Some("z"));
    }
}
