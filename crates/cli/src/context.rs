//! The context of a command: flags of all commands, environment, the API.

use crate::complete;
use crate::config::{self, Access, AccessFlags, ConfigFile};
use crate::error::{CliError, ErrorContext, Result};
use crate::ui::Ui;
use crate::ui::select::{Choice, select};
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

    /// The address of the API, and the token.
    pub(crate) fn access(&self) -> Result<Access> {
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

    /// The app that is meant; chosen from a list if none is named and there is a terminal.
    pub(crate) async fn app(&mut self, args: &AppArgs) -> Result<String> {
        if let Some(app) = self.find_app(args)? {
            return Ok(app);
        }
        let unnamed = CliError::usage("No app is named")
            .because("There is no --app, no FLY_APP and no fly.toml with an `app` here");
        if !self.ui().term.stdin {
            return Err(unnamed.hint("Give one with -a; `updraft apps list` shows the apps."));
        }
        let apps = self.client()?.apps(None).await.context(|| "list apps".into())?.apps;
        let names = apps.into_iter().map(|app| app.name).collect();
        let none = || unnamed.hint("There is no app yet; `updraft apps create` makes one.");
        self.choose("app", names)?.ok_or_else(none)
    }

    /// The organization that is meant: as named, or chosen from a list if there are several
    /// and there is a terminal. `None`: the command's default.
    pub(crate) async fn find_org(&mut self, named: Option<String>) -> Result<Option<String>> {
        if named.is_some() || !self.ui().term.stdin {
            return Ok(named);
        }
        let orgs = self.client()?.orgs().await.context(|| "list organizations".into())?.orgs;
        let mut slugs: Vec<String> = orgs.into_iter().map(|org| org.slug).collect();
        if slugs.len() < 2 { Ok(slugs.pop()) } else { self.choose("organization", slugs) }
    }

    /// The organization that is meant, for commands without a default.
    pub(crate) async fn org(&mut self, named: Option<String>) -> Result<String> {
        self.find_org(named).await?.ok_or_else(|| {
            CliError::usage("No organization is named")
                .hint("Give its slug; `updraft orgs list` shows the organizations.")
        })
    }

    /// One of these names, chosen; `None` if there are none.
    fn choose(&mut self, noun: &str, mut names: Vec<String>) -> Result<Option<String>> {
        if names.is_empty() {
            return Ok(None);
        }
        let chosen = select(self.ui(), noun, &names, Choice::One)?;
        Ok(chosen.first().filter(|at| **at < names.len()).map(|at| names.swap_remove(*at)))
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

    async fn found(app: Option<&str>, vars: &[(&str, &str)], file: Option<&str>) -> String {
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
        let mut cx = Context { global: &GlobalArgs::default(), env: &mut env };
        let args = AppArgs { app: app.map(str::to_owned), config: None };
        cx.app(&args).await.unwrap_or_else(|err| err.message)
    }

    #[tokio::test]
    async fn the_app_by_precedence() {
        let file = Some("app = \"file\"\nprimary_region = \"x\"\n[http_service]\nport = 1\n");
        let both = &[("UPDRAFT_APP", "ours"), ("FLY_APP", "fly")][..];
        assert_eq!(found(Some("flag"), both, file).await, "flag");
        assert_eq!(found(None, both, file).await, "fly");
        assert_eq!(found(None, &[("UPDRAFT_APP", "ours"), ("FLY_APP", "")], file).await, "ours");
        assert_eq!(found(None, &[], file).await, "file");
        assert_eq!(found(None, &[], Some("primary_region = \"x\"")).await, "No app is named");
        assert_eq!(found(None, &[], None).await, "No app is named");
        assert!(found(None, &[], Some("app = ")).await.starts_with("Cannot read"));
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
