//! `updraft tokens create`, one kind of token each

use super::create::{Common, make};
use super::{PERSONAL, local};
use crate::complete;
use crate::context::{AppArgs, Context};
use crate::error::{CliError, ErrorContext, Result};
use clap::{Args, Subcommand};
use macaroon::{Action, Caveat};
use wire::tokens::{CommandRule, CreateToken};

/// Seconds by which the platform's clock may differ from ours.
const CLOCK_SKEW: i64 = 60;

/// Kinds of tokens.
#[derive(Clone, Debug, Subcommand)]
pub enum Command {
    Org(OrgArgs),
    Deploy(DeployArgs),
    Readonly(ReadonlyArgs),
    Ssh(SshArgs),
    MachineExec(MachineExecArgs),
}

/// Make a token for everything in an organization
#[derive(Clone, Debug, Args)]
pub struct OrgArgs {
    /// Slug of the organization [default without a terminal: personal]
    #[arg(add = complete::orgs())]
    slug: Option<String>,
    /// The same as a flag
    #[arg(short, long, add = complete::orgs())]
    org: Option<String>,
    #[command(flatten)]
    common: Common,
}

/// Make a token for everything about one app
#[derive(Clone, Debug, Args)]
pub struct DeployArgs {
    #[command(flatten)]
    app: AppArgs,
    #[command(flatten)]
    common: Common,
}

/// Make a token that reads an organization
#[derive(Clone, Debug, Args)]
pub struct ReadonlyArgs {
    /// Slug of the organization [default without a terminal: personal]
    #[arg(add = complete::orgs())]
    slug: Option<String>,
    /// The same as a flag
    #[arg(short, long, add = complete::orgs())]
    org: Option<String>,
    /// Narrow the macaroon that is used, without the server; with --expiry its life, too
    #[arg(long, conflicts_with_all = ["slug", "org", "name", "macaroon", "member"])]
    from_existing: bool,
    #[command(flatten)]
    common: Common,
}

/// Make a token that reads an app and runs every command in its machines
#[derive(Clone, Debug, Args)]
pub struct SshArgs {
    #[command(flatten)]
    app: AppArgs,
    #[command(flatten)]
    common: Common,
}

/// Make a token that reads an app and runs some commands in its machines
#[derive(Clone, Debug, Args)]
pub struct MachineExecArgs {
    /// The command that may be run, word by word
    words: Vec<String>,
    /// A command that may be run as it is; may be repeated
    #[arg(short = 'C', long, value_name = "COMMAND")]
    command: Vec<String>,
    /// The beginning of commands that may be run; may be repeated
    #[arg(short = 'p', long, value_name = "COMMAND")]
    command_prefix: Vec<String>,
    #[command(flatten)]
    app: AppArgs,
    #[command(flatten)]
    common: Common,
}

pub(super) async fn dispatch(command: Command, cx: &mut Context<'_>) -> Result<()> {
    match command {
        Command::Org(OrgArgs { slug, org, common }) => {
            let org = cx.find_org(org.or(slug)).await?.unwrap_or_else(|| PERSONAL.into());
            make(cx, &org, common, ask("org", "org deploy token")).await
        }
        Command::Readonly(args) => readonly(args, cx).await,
        Command::Deploy(args) => {
            of_app(cx, &args.app, args.common, ask("deploy", "deploy token")).await
        }
        Command::Ssh(args) => of_app(cx, &args.app, args.common, ask("ssh", "ssh token")).await,
        Command::MachineExec(args) => {
            let commands = rules(&args)?;
            let ask = CreateToken { commands, ..ask("machine-exec", "machine-exec token") };
            of_app(cx, &args.app, args.common, ask).await
        }
    }
}

fn ask(kind: &str, name: &str) -> CreateToken {
    CreateToken { kind: kind.into(), name: name.into(), ..CreateToken::default() }
}

async fn of_app(
    cx: &mut Context<'_>,
    app: &AppArgs,
    common: Common,
    ask: CreateToken,
) -> Result<()> {
    let name = cx.app(app).await?;
    let app = cx.client()?.app(&name).await.context(|| format!("find app {name}"))?;
    make(cx, &app.organization.slug, common, CreateToken { app: Some(name), ..ask }).await
}

async fn readonly(args: ReadonlyArgs, cx: &mut Context<'_>) -> Result<()> {
    if args.from_existing {
        let mut caveats = vec![Caveat::Action(Action::READ)];
        caveats.extend(window(args.common.expiry(), cx.env.clock.now_ms())?);
        return local::narrow(cx, &caveats, args.common.asks_json());
    }
    let org = cx.find_org(args.org.or(args.slug)).await?.unwrap_or_else(|| PERSONAL.into());
    make(cx, &org, args.common, ask("readonly", "read-only org token")).await
}

/// The caveat that ends a token after a time in Go's notation.
fn window(expiry: Option<&str>, now_ms: u64) -> Result<Option<Caveat>> {
    let Some(text) = expiry else { return Ok(None) };
    let life =
        wire::machines::parse_go(text).filter(|life| life.as_secs() > 0).ok_or_else(|| {
            CliError::usage(format!("--expiry {text:?} is no duration such as 720h, from 1s"))
        })?;
    let now = i64::try_from(now_ms / 1000).unwrap_or(i64::MAX);
    let secs = i64::try_from(life.as_secs()).unwrap_or(i64::MAX);
    // The window includes both of its ends; the clock of the platform may be a little behind.
    let window = (now.saturating_sub(CLOCK_SKEW), now.saturating_add(secs));
    Ok(Some(Caveat::ValidityWindow { not_before: window.0, not_after: window.1 }))
}

fn rules(args: &MachineExecArgs) -> Result<Vec<CommandRule>> {
    let whole = args.command.iter().map(|line| (line, true));
    let lines = whole.chain(args.command_prefix.iter().map(|line| (line, false)));
    let mut rules = Vec::new();
    for (line, exact) in lines {
        let args = shell_words::split(line).map_err(|err| {
            CliError::usage(format!("Cannot read the command {line:?}")).because_of(&err)
        })?;
        rules.push(CommandRule { args, exact });
    }
    if !args.words.is_empty() {
        rules.push(CommandRule { args: args.words.clone(), exact: true });
    }
    Ok(rules)
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Parser)]
    struct Program {
        #[command(flatten)]
        args: MachineExecArgs,
    }

    #[test]
    fn commands_are_split_as_a_shell_does() {
        let line = ["x", "-C", "ls -l '/a b'", "-p", "cat", "--", "df", "-h"];
        let rules = rules(&Program::parse_from(line).args).unwrap();
        let shown: Vec<_> = rules.iter().map(|rule| (rule.args.join("|"), rule.exact)).collect();
        let expected = [("ls|-l|/a b", true), ("cat", false), ("df|-h", true)];
        assert_eq!(shown, expected.map(|(args, exact)| (args.to_owned(), exact)));
        let bad = Program::parse_from(["x", "-C", "ls 'x"]).args;
        assert!(super::rules(&bad).is_err());
    }

    #[test]
    fn a_macaroon_is_narrowed_in_time() {
        let made = window(Some("1h"), 1_700_000_000_500).unwrap();
        let expected =
            Caveat::ValidityWindow { not_before: 1_699_999_940, not_after: 1_700_003_600 };
        assert_eq!(made, Some(expected));
        assert_eq!(window(None, 0).unwrap(), None);
        for bad in ["soon", "0", "-1h", "1ms"] {
            assert!(window(Some(bad), 0).is_err(), "{bad}");
        }
    }

    #[derive(Parser)]
    struct Readonly {
        #[command(flatten)]
        args: ReadonlyArgs,
    }

    #[test]
    fn flags_that_do_not_narrow_a_macaroon_are_refused() {
        assert!(Readonly::try_parse_from(["x", "--from-existing", "-x", "1h", "-j"]).is_ok());
        for more in
            [&["acme"][..], &["-o", "acme"], &["-n", "x"], &["--macaroon"], &["--member", "a@b"]]
        {
            let line = [&["x", "--from-existing"], more].concat();
            assert!(Readonly::try_parse_from(&line).is_err(), "{line:?}");
            let line = [&["x"], more].concat();
            assert!(Readonly::try_parse_from(&line).is_ok(), "{line:?}");
        }
    }
}
