//! From the process's arguments to matches, or to a text that answers them: help,
//! version, a usage error, or a hint about a command that only flyctl has.

use crate::error::{CliError, Exit};
use crate::flyctl::commands as flyctl;
use clap::error::{ContextKind, ContextValue, ErrorKind};
use std::ffi::OsString;
use std::process::ExitCode;

/// The outcome of parsing the arguments.
#[derive(Debug)]
pub enum Parsed {
    /// A command to carry out.
    Matches(clap::ArgMatches),
    /// Nothing to carry out.
    Text(Text),
}

/// An answer to the arguments themselves.
#[derive(Debug)]
pub struct Text {
    /// What is shown.
    pub text: String,
    /// Help that was asked for goes to stdout, everything else to stderr.
    pub stdout: bool,
    /// The exit code of the process.
    pub code: u8,
}

impl Text {
    /// Prints it; the exit code.
    pub fn show(&self) -> ExitCode {
        use std::io::Write;
        // A reader that has gone needs no answer.
        let _ = if self.stdout {
            std::io::stdout().write_all(self.text.as_bytes())
        } else {
            std::io::stderr().write_all(self.text.as_bytes())
        };
        ExitCode::from(self.code)
    }
}

/// Matches the arguments, of which the first is the program's name.
pub fn parse(root: clap::Command, args: impl IntoIterator<Item = OsString>) -> Parsed {
    let args: Vec<OsString> = args.into_iter().collect();
    let error = match root.try_get_matches_from(&args) {
        Ok(matches) => return Parsed::Matches(matches),
        Err(error) => error,
    };
    Parsed::Text(match error.kind() {
        // A command that is only a group of others: its help is the answer.
        ErrorKind::DisplayHelp
        | ErrorKind::DisplayVersion
        | ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => {
            Text { text: error.to_string(), stdout: true, code: Exit::Ok.code() }
        }
        kind => {
            let error =
                absent(kind, &error, &args).map_or_else(|| error.to_string(), |e| e.render());
            Text { text: error, stdout: false, code: Exit::Usage.code() }
        }
    })
}

/// A command of flyctl that is not here yet.
fn absent(kind: ErrorKind, error: &clap::Error, args: &[OsString]) -> Option<CliError> {
    // A word after a command without commands of its own is an argument too many.
    let what = match kind {
        ErrorKind::InvalidSubcommand => ContextKind::InvalidSubcommand,
        ErrorKind::UnknownArgument => ContextKind::InvalidArg,
        _ => return None,
    };
    let Some(ContextValue::String(name)) = error.get(what) else { return None };
    let words = args.iter().skip(1).filter_map(|arg| arg.to_str());
    let before = words.take_while(|word| word != name).filter(|word| !word.starts_with('-'));
    flyctl::absent(before, name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(args: &[&str]) -> (String, bool, u8) {
        let args = std::iter::once("updraft").chain(args.iter().copied()).map(OsString::from);
        match parse(crate::command(), args) {
            Parsed::Text(text) => (text.text, text.stdout, text.code),
            Parsed::Matches(_) => panic!("these are no arguments of a command"),
        }
    }

    #[test]
    fn help_is_data_and_no_failure() {
        for (args, expected) in [
            (&[][..], "Usage: updraft"),
            (&["help"], "Usage: updraft"),
            (&["help", "machine", "run"], "Usage: updraft machine run"),
            (&["machine"], "Usage: updraft machine"),
            (&["--help"], "Usage: updraft"),
            (&["--version"], "updraft "),
        ] {
            let (text, stdout, code) = text(args);
            assert!(text.contains(expected), "{args:?}: {text}");
            assert_eq!((stdout, code), (true, 0), "{args:?}");
        }
    }

    #[test]
    fn commands_of_flyctl_are_known_by_name() {
        for (args, expected) in [
            (&["deploy"][..], "`updraft deploy` is not there yet"),
            (&["secrets", "sync"], "`updraft secrets sync` is not there yet"),
            (
                &["machine", "egress-ip", "allocate", "1"],
                "`updraft machine egress-ip` is not there",
            ),
            (&["m", "egress-ip"], "`updraft machine egress-ip` is not there yet"),
            (&["apps", "move", "web"], "`updraft apps move` is not there yet"),
            (&["token", "create", "wireguard"], "`updraft tokens create wireguard` is not there"),
            (&["orgs", "replay-sources", "list"], "`updraft orgs replay-sources` is not there yet"),
            (&["version", "upgrade"], "`updraft version upgrade` is not there yet"),
            (&["auth", "login"], "updraft tokens create"),
            (&["ssh", "console"], "machine exec --tty"),
        ] {
            let (text, stdout, code) = text(args);
            assert!(text.contains(expected) && text.contains("docs/"), "{args:?}: {text}");
            assert_eq!((stdout, code), (false, 2), "{args:?}");
            assert!(!text.contains("tip:"), "no wrong guess: {text}");
        }
        let (unknown, _, code) = text(&["frobnicate"]);
        assert!(unknown.contains("unrecognized subcommand") && code == 2, "{unknown}");
    }

    #[test]
    fn commands_documented_as_absent_are_absent() {
        let root = crate::command();
        for (group, name, _) in flyctl::ABSENT {
            let group = group
                .split_whitespace()
                .fold(&root, |group, word| group.find_subcommand(word).unwrap());
            assert!(group.find_subcommand(name).is_none(), "{name} is there");
        }
    }
}
