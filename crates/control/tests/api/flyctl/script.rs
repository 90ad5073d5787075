//! `commands.toml`: the commands, and how each of them ends.

use serde::Deserialize;
use serde_json::Value;
use std::path::PathBuf;

/// The file.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Script {
    /// Which client the commands were run with.
    pub(super) client: String,
    pub(super) group: Vec<Group>,
    /// Commands that are not run.
    pub(super) absent: Vec<Absent>,
}

/// Commands that follow each other on one platform.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Group {
    pub(super) name: String,
    /// Calls of the Machines API that come before the commands.
    #[serde(default)]
    pub(super) setup: Vec<Call>,
    pub(super) step: Vec<Step>,
    /// What the client computes itself, such as a narrowed token, cannot be sent again.
    #[serde(default)]
    pub(super) not_replayed: bool,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Call {
    pub(super) post: String,
    pub(super) body: Value,
}

/// One command.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Step {
    /// The command with its subcommand, and then its arguments. `{machine}` is the id of the
    /// newest machine of the app `web`, `{volume}` that of its newest volume, `{app_token}` that of
    /// a token of it, `{name}` what a step has saved as `name`.
    pub(super) run: Vec<String>,
    pub(super) state: State,
    /// For the page.
    #[serde(default)]
    pub(super) note: String,
    /// Part of what it prints.
    #[serde(default)]
    pub(super) prints: String,
    /// What it exits with, if not what follows from `state`: the client's own code is 0 for some
    /// failures.
    #[serde(default)]
    pub(super) exit: Option<i32>,
    #[serde(default)]
    pub(super) stdin: String,
    /// Contents of `fly.toml` in the folder in which this command and the next ones run.
    #[serde(default)]
    pub(super) fly_toml: Option<String>,
    /// The token, as a step has saved it, in place of that of the administrator; `wrong` is none
    /// of the platform, and with `none` there is none in the environment.
    #[serde(default)]
    pub(super) token: Option<String>,
    /// The last line that it prints is kept under this name.
    #[serde(default)]
    pub(super) save: Option<String>,
}

/// How a command of the client behaves here.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq, PartialOrd, Ord)]
#[serde(rename_all = "lowercase")]
pub(super) enum State {
    Works,
    Better,
    Differs,
    /// It is refused by name: it waits for a part of the platform.
    #[serde(rename = "not yet")]
    NotYet,
    /// It fails, as it does at Fly.io.
    Fails,
}

/// Commands that are not run, and why.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Absent {
    /// Commands, or those below which all are meant.
    pub(super) commands: Vec<String>,
    pub(super) why: String,
}

impl Script {
    pub(super) fn load() -> Self {
        let text = std::fs::read_to_string(folder().join("commands.toml")).unwrap();
        toml::from_str(&text).unwrap()
    }

    /// The commands that the file has, with those that are run and those that are not.
    pub(super) fn has(&self, command: &str) -> bool {
        let mut run = self.group.iter().flat_map(|group| &group.step);
        let mut absent = self.absent.iter().flat_map(|absent| &absent.commands);
        run.any(|step| step.run[0] == command)
            || absent.any(|name| {
                command == name || command.strip_prefix(&**name).is_some_and(|c| c.starts_with(' '))
            })
    }
}

/// Where the files of these tests are.
pub(super) fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/api/flyctl")
}
