//! The page `docs/cli.md`, made from the help texts.

use crate::error::Exit;
use crate::flyctl::flags::{CloneMachine, FlagSet, NewMachine, PlaceMachines};
use clap::Command;

/// The whole reference of a command and its subcommands, as Markdown.
pub fn markdown(root: &Command) -> String {
    let mut root = root.clone().term_width(100);
    root.build();
    let mut out = String::from(
        "# Command line\n\nThis page is made from `--help`. `UPDATE_DOCS=1 cargo test -p updraft \
         reference_page` updates it. How to run the daemon is in [operate.md](operate.md).\n\n\
         Data goes to stdout, everything else to stderr. `--json` prints the types of the API; \
         apps have flyctl's field names. Tables fit the terminal; elsewhere lines are as long as \
         they need to be. A response header `updraft-warning` is shown as a line `Warning: …`.\n\n\
         ## Exit codes\n\n| code | meaning |\n|---|---|\n",
    );
    for (exit, meaning) in Exit::ALL {
        let meaning = meaning.replace('|', "\\|");
        out.push_str(&format!("| {} | {meaning} |\n", exit.code()));
    }
    out.push_str(
        "\n`machine exec` and `machine run --shell` end with the exit code of the command in \
         the machine.\n\n## Where the API is\n\n\
         By precedence: the flags `--api` and `-t`; `UPDRAFT_API` (a URL, or ADDRESS:PORT as the \
         daemon takes it) and `UPDRAFT_TOKEN`; \
         `FLY_FLAPS_BASE_URL` or `FLY_API_HOSTNAME`, and `FLY_ACCESS_TOKEN` or `FLY_API_TOKEN`; \
         the file `config.toml` in `$UPDRAFT_CONFIG_DIR` or `~/.updraft`, which `updraft up` \
         writes; `http://127.0.0.1:4280`. The file's token is sent to the file's API only. \
         A token in `FLY_ACCESS_TOKEN` or `FLY_API_TOKEN` may be one for Fly's cloud: it has \
         that rank only if the address came from `FLY_FLAPS_BASE_URL` or `FLY_API_HOSTNAME`; \
         else it is used for want of any other token, and only with an API on this machine's \
         loopback.\n\n\
         ## Differences from flyctl\n\n\
         - In `machine run IMAGE COMMAND...` flags are before or after the image. From the \
         first word of the command on everything belongs to the command.\n\
         - Commands of flyctl that are not there yet are named as such, with what to use in \
         their place. The exit code is 2.\n\
         - `status` shows all machines of the app, also those that no deploy has made. \
         `apps restart` restarts those that run.\n\
         - What is missing on the command line, such as the machine, is chosen from a list or \
         asked for on a terminal; without one the command fails with exit code 2. `--yes` \
         answers questions beforehand.\n\
         - `machine api-proxy` listens on port 4281 by itself, since the API has port 4280.\n\
         - These flags are refused, since they would have no effect yet:\n\n",
    );
    refused::<NewMachine>(&mut out, "`machine run`, `create` and `update`");
    refused::<CloneMachine>(&mut out, "`machine clone`");
    refused::<PlaceMachines>(&mut out, "`machine place`");
    section(&mut out, &mut root, "");
    out
}

fn refused<S: FlagSet>(out: &mut String, commands: &str) {
    out.push_str(&format!("  - {commands}:\n"));
    for (name, _, why) in S::FLAGS {
        out.push_str(&format!("    - `--{name}`: {why}\n"));
    }
}

fn section(out: &mut String, command: &mut Command, above: &str) {
    let path = format!("{above} {}", command.get_name()).trim().to_owned();
    let help = command.render_long_help().to_string();
    let help: Vec<_> = help.lines().map(str::trim_end).collect();
    out.push_str(&format!("\n## {path}\n\n```text\n{}\n```\n", help.join("\n").trim_end()));
    for sub in command.get_subcommands_mut() {
        if sub.get_name() != "help" {
            section(out, sub, &path);
        }
    }
}
