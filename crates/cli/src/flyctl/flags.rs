//! Flags of `flyctl` that have no effect here yet. Each is refused by name with
//! the reason: a flag that is accepted must have an effect.

use clap::error::ErrorKind;
use clap::{Arg, ArgAction, ArgMatches, Args, Command, Error, FromArgMatches};
use std::marker::PhantomData;

/// Long name, short name, why it is refused.
pub(crate) type Refused = (&'static str, Option<char>, &'static str);

/// The flags of one or several commands that are refused.
pub(crate) trait FlagSet: 'static {
    const FLAGS: &'static [Refused];
}

/// Of `machine run`, `create` and `update`.
#[derive(Debug)]
pub(crate) struct NewMachine;

impl FlagSet for NewMachine {
    const FLAGS: &'static [Refused] = &[
        ("build-context-warn-size", None, BUILD),
        ("build-depot", None, BUILD),
        ("build-nixpacks", None, BUILD),
        ("buildkit", None, BUILD),
        ("cachedrive-size", None, "there are no cache drives"),
        ("dockerfile", None, BUILD),
        ("host-dedication-id", None, DEDICATED),
        ("id", None, "the platform chooses ids"),
        ("mount-point", None, "`--volume NAME:/path` mounts a volume"),
        ("use-zstd", None, BUILD),
        ("vm-gpu-kind", None, GPUS),
        ("vm-gpukind", None, GPUS),
        ("vm-gpus", None, GPUS),
        ("wg", None, "the shell needs no WireGuard here"),
    ];
}

/// Of `machine clone`.
#[derive(Debug)]
pub(crate) struct CloneMachine;

impl FlagSet for CloneMachine {
    const FLAGS: &'static [Refused] = &[
        ("attach-volume", None, VOLUMES),
        ("from-snapshot", None, VOLUMES),
        ("host-dedication-id", None, DEDICATED),
        ("vm-gpu-kind", None, GPUS),
        ("vm-gpukind", None, GPUS),
        ("vm-gpus", None, GPUS),
        ("volume-requires-unique-zone", None, VOLUMES),
    ];
}

/// Of `machine place`.
#[derive(Debug)]
pub(crate) struct PlaceMachines;

impl FlagSet for PlaceMachines {
    const FLAGS: &'static [Refused] = &[
        ("host-dedication-id", None, DEDICATED),
        ("vm-gpu-kind", None, GPUS),
        ("vm-gpukind", None, GPUS),
        ("vm-gpus", None, GPUS),
        ("volume-name", None, VOLUMES),
        ("volume-size", None, VOLUMES),
    ];
}

const BUILD: &str = "images are not built here; use `updraft image import`";
const DEDICATED: &str = "hosts are not dedicated yet";
const GPUS: &str = "machines have no GPUs";
const VOLUMES: &str = "volumes are not considered here yet";

/// Apart from the ids of real arguments, such as a machine's.
fn id(name: &str) -> String {
    format!("unsupported-{name}")
}

/// Hidden flags that are refused.
pub(crate) struct Unsupported<S>(PhantomData<fn() -> S>);

impl<S> Clone for Unsupported<S> {
    fn clone(&self) -> Self {
        Self::default()
    }
}

impl<S> Default for Unsupported<S> {
    fn default() -> Self {
        Self(PhantomData)
    }
}

impl<S> std::fmt::Debug for Unsupported<S> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Unsupported")
    }
}

impl<S: FlagSet> FromArgMatches for Unsupported<S> {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, Error> {
        for (name, _, why) in S::FLAGS {
            if matches.try_contains_id(&id(name)).unwrap_or(false) {
                let text = format!("--{name} is not supported: {why}");
                return Err(Error::raw(ErrorKind::UnknownArgument, text));
            }
        }
        Ok(Self::default())
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), Error> {
        Self::from_arg_matches(matches).map(drop)
    }
}

impl<S: FlagSet> Args for Unsupported<S> {
    fn augment_args(command: Command) -> Command {
        S::FLAGS.iter().fold(command, |command, (name, short, _)| {
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
