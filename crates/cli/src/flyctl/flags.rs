//! Flags of `flyctl` that have no effect here yet. Each is refused by name with
//! the reason: a flag that is accepted must have an effect.

use clap::error::ErrorKind;
use clap::{Arg, ArgAction, ArgMatches, Args, Command, Error, FromArgMatches};

/// Long name, short name, why.
pub(crate) const FLAGS: &[(&str, Option<char>, &str)] = &[
    ("build-context-warn-size", None, BUILD),
    ("build-depot", None, BUILD),
    ("build-nixpacks", None, BUILD),
    ("buildkit", None, BUILD),
    ("cachedrive-size", None, "there are no cache drives"),
    ("container", None, "a machine runs one image"),
    ("dockerfile", None, BUILD),
    ("file-secret", None, "there are no secrets yet"),
    ("host-dedication-id", None, "hosts are not dedicated yet"),
    ("id", None, "the platform chooses ids"),
    ("mount-point", None, VOLUMES),
    ("skip-dns-registration", None, "there are no .internal names yet"),
    ("standby-for", None, "there are no standby machines yet"),
    ("use-zstd", None, BUILD),
    ("vm-gpu-kind", None, GPUS),
    ("vm-gpus", None, GPUS),
    ("volume", Some('v'), VOLUMES),
    ("wg", None, "the shell needs no WireGuard here"),
];

const BUILD: &str = "images are not built here; use `updraft image import`";
const GPUS: &str = "machines have no GPUs";
const VOLUMES: &str = "there are no volumes yet";

/// Apart from the ids of real arguments, such as a machine's.
fn id(name: &str) -> String {
    format!("unsupported-{name}")
}

/// Hidden flags that are refused.
#[derive(Clone, Debug, Default)]
pub(crate) struct Unsupported;

impl FromArgMatches for Unsupported {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, Error> {
        for (name, _, why) in FLAGS {
            if matches.try_contains_id(&id(name)).unwrap_or(false) {
                let text = format!("--{name} is not supported: {why}");
                return Err(Error::raw(ErrorKind::UnknownArgument, text));
            }
        }
        Ok(Self)
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), Error> {
        Self::from_arg_matches(matches).map(drop)
    }
}

impl Args for Unsupported {
    fn augment_args(command: Command) -> Command {
        FLAGS.iter().fold(command, |command, (name, short, _)| {
            let arg = Arg::new(id(name)).long(*name).hide(true).num_args(0..=1);
            let arg = arg.action(ArgAction::Append);
            command.arg(match short {
                Some(short) => arg.short(*short),
                None => arg,
            })
        })
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}
