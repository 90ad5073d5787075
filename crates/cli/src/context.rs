//! The context of a command: flags of all commands, environment, the API.

use crate::complete;
use crate::config::{self, Access, AccessFlags, ConfigFile};
use crate::error::{CliError, Result};
use crate::ui::Ui;
use clap::Args;
use client::{Client, Notice, Observer};
use serde::Deserialize;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

/// Everything a command gets from outside; made in `main` or in a test.
#[derive(Debug)]
pub struct CliEnv {
    /// Environment variables.
    pub vars: BTreeMap<String, String>,
    /// Working directory, where `fly.toml` is looked for.
    pub cwd: PathBuf,
    /// The time.
    pub clock: rt::Clock,
    /// For generated names.
    pub rng: rt::Rng,
    /// Input and output.
    pub ui: Ui,
}

/// Flags of all commands.
#[derive(Clone, Debug, Default, Args)]
pub struct GlobalArgs {
    /// Token for the API [env: UPDRAFT_TOKEN, FLY_ACCESS_TOKEN, FLY_API_TOKEN]
    #[arg(short = 't', long, global = true, value_name = "TOKEN", help_heading = "Global options")]
    pub access_token: Option<String>,
    /// Address of the API, URL or ADDRESS:PORT [env: UPDRAFT_API, FLY_FLAPS_BASE_URL, FLY_API_HOSTNAME]
    #[arg(long, global = true, value_name = "URL", help_heading = "Global options")]
    pub api: Option<String>,
    /// Show each call of the API on stderr
    #[arg(long, visible_alias = "debug", global = true, help_heading = "Global options")]
    pub verbose: bool,
}

/// Which app is meant.
#[derive(Clone, Debug, Default, Args)]
pub(crate) struct AppArgs {
    /// Name of the app [env: FLY_APP, UPDRAFT_APP; else `app` in fly.toml]
    #[arg(short, long, value_name = "APP", add = complete::apps())]
    pub(crate) app: Option<String>,
    /// Path of the app's configuration file, in place of ./fly.toml
    #[arg(short, long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
}

/// The context of a command.
#[derive(Debug)]
pub(crate) struct Context<'a> {
    pub(crate) global: &'a GlobalArgs,
    pub(crate) env: &'a mut CliEnv,
}

impl Context<'_> {
    pub(crate) fn ui(&mut self) -> &mut Ui {
        &mut self.env.ui
    }

    /// The API, by flags, environment and the file that the daemon wrote.
    pub(crate) fn client(&self) -> Result<Client> {
        let access = self.access()?;
        let client = Client::new(&access.api, access.token.as_deref()).map_err(|err| {
            let hint = "Give an address such as --api http://127.0.0.1:4280.";
            CliError::usage("Cannot use this API").because_of(&err).hint(hint)
        })?;
        Ok(client.with_observer(self.observer()))
    }

    /// The token that calls are made with.
    pub(crate) fn token(&self) -> Result<String> {
        self.access()?.token.ok_or_else(|| {
            CliError::usage("There is no token")
                .hint("Give one with --access-token or UPDRAFT_TOKEN.")
        })
    }

    fn access(&self) -> Result<Access> {
        let file = match config::path(&self.env.vars) {
            Some(path) => config::read(&path).map_err(|err| {
                let hint = format!("Fix or delete {}; `updraft up` writes it.", path.display());
                CliError::usage("Cannot read the config").because_of(&err).hint(hint)
            })?,
            None => None,
        };
        let file = file.unwrap_or_else(ConfigFile::default);
        let flags = AccessFlags {
            api: self.global.api.as_deref(),
            token: self.global.access_token.as_deref(),
        };
        Ok(config::access(flags, &self.env.vars, &file))
    }

    /// Shows warnings of the server as they come, and with --verbose each call.
    fn observer(&self) -> Observer {
        let (notes, verbose) = (self.env.ui.notes(), self.global.verbose);
        Arc::new(move |notice| match notice {
            Notice::Warning(text) => notes.line(&format!("Warning: {text}")),
            Notice::Answered { call, status, request_id, took } if verbose => {
                let id = request_id.map(|id| format!(" ({id})")).unwrap_or_default();
                notes.line(&format!("{call}: {status} in {} ms{id}", took.as_millis()));
            }
            Notice::Answered { .. } => {}
        })
    }

    /// The app that is meant, or what to do about it.
    pub(crate) fn app(&self, args: &AppArgs) -> Result<String> {
        self.find_app(args)?.ok_or_else(|| {
            CliError::usage("No app is named")
                .because("There is no --app, no FLY_APP and no fly.toml with an `app` here")
                .hint("Give one with -a; `updraft apps list` shows the apps.")
        })
    }

    /// The app that is meant: flag, environment, `app` of the file.
    pub(crate) fn find_app(&self, args: &AppArgs) -> Result<Option<String>> {
        #[derive(Deserialize)]
        struct FlyToml {
            app: Option<String>,
        }
        let vars = &self.env.vars;
        let set = |name: &str| vars.get(name).filter(|value| !value.is_empty()).cloned();
        let named = args.app.clone().or_else(|| set("FLY_APP")).or_else(|| set("UPDRAFT_APP"));
        if named.is_some() {
            return Ok(named);
        }
        let path = self.env.cwd.join(args.config.clone().unwrap_or_else(|| "fly.toml".into()));
        if args.config.is_none() && !path.exists() {
            return Ok(None);
        }
        let failed = || CliError::usage(format!("Cannot read {}", path.display()));
        let text = std::fs::read_to_string(&path).map_err(|err| failed().because_of(&err))?;
        let parsed: FlyToml = toml::from_str(&text).map_err(|err| failed().because_of(&err))?;
        Ok(parsed.app)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io;

    fn found(app: Option<&str>, vars: &[(&str, &str)], file: Option<&str>) -> String {
        let dir = tempfile::tempdir().unwrap();
        if let Some(text) = file {
            std::fs::write(dir.path().join("fly.toml"), text).unwrap();
        }
        let nowhere = || Box::new(io::sink());
        let ui = Ui::new(nowhere(), nowhere(), Box::new(io::empty()), Default::default());
        let vars = vars.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        let (cwd, rng) = (dir.path().to_owned(), rt::Rng::seeded(1));
        let clock = rt::Clock::manual(0);
        let mut env = CliEnv { vars, cwd, clock, rng, ui };
        let cx = Context { global: &GlobalArgs::default(), env: &mut env };
        let args = AppArgs { app: app.map(str::to_owned), config: None };
        cx.app(&args).unwrap_or_else(|err| err.message)
    }

    #[test]
    fn the_app_by_precedence() {
        let file = Some("app = \"file\"\nprimary_region = \"x\"\n[http_service]\nport = 1\n");
        let both = &[("UPDRAFT_APP", "ours"), ("FLY_APP", "fly")][..];
        assert_eq!(found(Some("flag"), both, file), "flag");
        assert_eq!(found(None, both, file), "fly");
        assert_eq!(found(None, &[("UPDRAFT_APP", "ours"), ("FLY_APP", "")], file), "ours");
        assert_eq!(found(None, &[], file), "file");
        assert_eq!(found(None, &[], Some("primary_region = \"x\"")), "No app is named");
        assert_eq!(found(None, &[], None), "No app is named");
        assert!(found(None, &[], Some("app = ")).starts_with("Cannot read"));
    }

    /// What the program is
    #[derive(Debug, clap::Parser)]
    struct Program {
        #[command(flatten)]
        _global: GlobalArgs,
    }

    #[test]
    fn global_flags_leave_the_program_its_help() {
        let program = <Program as clap::CommandFactory>::command();
        let about = program.get_about().map(ToString::to_string);
        assert_eq!(about.as_deref(), Some("What the program is"));
    }
}
