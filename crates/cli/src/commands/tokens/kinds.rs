//! `updraft tokens create`, one kind of token each

use super::create::{Common, make};
use super::{PERSONAL, local};
use crate::context::{AppArgs, Context};
use crate::error::{CliError, ErrorContext, Result};
use clap::{Args, Subcommand};
use macaroon::{Action, Caveat};
use wire::tokens::{CommandRule, CreateToken};

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
    /// Slug of the organization
    slug: Option<String>,
    /// The same as a flag
    #[arg(short, long)]
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
    /// Slug of the organization
    slug: Option<String>,
    /// The same as a flag
    #[arg(short, long)]
    org: Option<String>,
    /// Narrow the macaroon that is used, without the server
    #[arg(long)]
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
            let org = org.or(slug).unwrap_or_else(|| PERSONAL.into());
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
    let name = cx.app(app)?;
    let app = cx.client()?.app(&name).await.context(|| format!("find app {name}"))?;
    make(cx, &app.organization.slug, common, CreateToken { app: Some(name), ..ask }).await
}

async fn readonly(args: ReadonlyArgs, cx: &mut Context<'_>) -> Result<()> {
    if args.from_existing {
        let caveats = [Caveat::Action(Action::READ)];
        return local::narrow(cx, &caveats, args.common.asks_json());
    }
    let org = args.org.or(args.slug).unwrap_or_else(|| PERSONAL.into());
    make(cx, &org, args.common, ask("readonly", "read-only org token")).await
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
}
