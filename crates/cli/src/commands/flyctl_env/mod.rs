//! `updraft flyctl-env`

mod hosts;

use crate::config::Access;
use crate::context::Context;
use crate::error::{CliError, Exit, Result};
use clap::Args;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Print the variables with which flyctl uses this platform
///
/// For a shell: `eval "$(updraft flyctl-env)"`. The variables hold for the shell and what it
/// starts; Fly.io itself is used again in any other.
///
/// Programs with the host names of Fly.io compiled in need --hosts, and a daemon with the setting
/// flyctl.host_names: it prints the line for /etc/hosts as a comment, saves the certificate of the
/// authority that certifies the names, and points clients at it.
#[derive(Clone, Debug, Args)]
#[command(name = "flyctl-env")]
pub struct FlyctlEnvArgs {
    /// Write them to a file for `source`, readable by its owner only
    #[arg(short, long, value_name = "FILE")]
    write: Option<PathBuf>,
    /// For programs that cannot be given another address: api.fly.io and api.machines.dev
    #[arg(long)]
    hosts: bool,
    /// Leave out the token
    #[arg(long)]
    no_token: bool,
    /// Print JSON
    #[arg(short, long, conflicts_with = "write")]
    json: bool,
}

/// Calls of flyctl to services of Fly.io itself, which a platform of one's own has not.
/// <https://fly.io/docs/flyctl/settings/>
const QUIET: [(&str, &str); 4] = [
    ("FLY_SEND_METRICS", "0"),
    ("FLY_NO_UPDATE_CHECK", "1"),
    ("FLY_NO_INCIDENTS_CHECK", "1"),
    ("FLY_SYNTHETICS_AGENT", "0"),
];

pub(super) async fn run(args: &FlyctlEnvArgs, cx: &mut Context<'_>) -> Result<()> {
    // An address that no command could use is refused here, too.
    cx.client()?;
    let text = if args.hosts {
        let token = token(cx.access()?, args.no_token)?;
        let hosts = hosts::prepare(cx, token).await?;
        if args.json {
            return cx.ui().json(&hosts);
        }
        hosts.script()
    } else {
        let variables = variables(cx.access()?, args.no_token)?;
        if args.json {
            return cx.ui().json(&BTreeMap::from_iter(variables));
        }
        script(&variables)
    };
    match &args.write {
        Some(path) => write(cx, path, &text),
        None => cx.ui().data(text.trim_end()),
    }
}

/// Names and values, in the order in which they are shown.
fn variables(access: Access, no_token: bool) -> Result<Vec<(&'static str, String)>> {
    let api = access.api.trim_end_matches('/').to_owned();
    let mut variables = vec![
        ("FLY_API_BASE_URL", api.clone()),
        ("FLY_FLAPS_BASE_URL", api.clone()),
        ("FLY_UIEX_BASE_URL", api),
    ];
    variables.extend(token(access, no_token)?.map(|token| ("FLY_API_TOKEN", token)));
    variables.extend(QUIET.map(|(name, value)| (name, value.to_owned())));
    Ok(variables)
}

/// The token, unless it is to be left out.
fn token(access: Access, no_token: bool) -> Result<Option<String>> {
    if no_token {
        return Ok(None);
    }
    access.token.map(Some).ok_or_else(|| {
        CliError::usage("There is no token")
            .hint("Give one with --access-token or UPDRAFT_TOKEN, or leave it out with --no-token.")
    })
}

/// Lines for any POSIX shell.
fn script(variables: &[(&str, String)]) -> String {
    let line = |(name, value): &(&str, String)| {
        format!("export {name}='{}'\n", value.replace('\'', r"'\''"))
    };
    variables.iter().map(line).collect()
}

fn write(cx: &mut Context<'_>, path: &Path, text: &str) -> Result<()> {
    let path = cx.env.cwd.join(path);
    rt::fs::write_atomic(&path, text.as_bytes(), 0o600).map_err(|err| {
        CliError::new(Exit::Failed, format!("Cannot write {}", path.display())).because_of(&err)
    })?;
    cx.ui().status(&format!("Written. Use it with: . {}", path.display()));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn access(token: Option<&str>) -> Access {
        Access { api: "http://127.0.0.1:4280/".into(), token: token.map(str::to_owned) }
    }

    #[test]
    fn a_shell_gets_every_variable() {
        let text = script(&variables(access(Some("it's")), false).unwrap());
        let wanted = "export FLY_API_BASE_URL='http://127.0.0.1:4280'\n\
                      export FLY_FLAPS_BASE_URL='http://127.0.0.1:4280'\n\
                      export FLY_UIEX_BASE_URL='http://127.0.0.1:4280'\n\
                      export FLY_API_TOKEN='it'\\''s'\n\
                      export FLY_SEND_METRICS='0'\n\
                      export FLY_NO_UPDATE_CHECK='1'\n\
                      export FLY_NO_INCIDENTS_CHECK='1'\n\
                      export FLY_SYNTHETICS_AGENT='0'\n";
        assert_eq!(text, wanted);
    }

    #[test]
    fn a_token_is_needed_or_left_out() {
        assert!(variables(access(None), false).is_err());
        let without = variables(access(None), true).unwrap();
        assert!(without.iter().all(|(name, _)| *name != "FLY_API_TOKEN"));
    }
}
