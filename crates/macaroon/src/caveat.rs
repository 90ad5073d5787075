//! The caveats, by the numbers of `caveat.go` of <https://github.com/superfly/macaroon>.

use crate::denial::Kind;
use crate::{Action, Resources, Roles};
use serde::{Deserialize, Serialize};

/// A command that may be run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CommandRule {
    /// The command, or the beginning of it.
    pub args: Vec<String>,
    /// It must be the whole command.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub exact: bool,
}

impl CommandRule {
    /// Whether a command follows the rule.
    pub fn permits(&self, argv: &[String]) -> bool {
        argv.starts_with(&self.args) && (!self.exact || argv.len() == self.args.len())
    }
}

/// One restriction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Caveat {
    /// An organization, and the actions in it.
    Organization {
        /// Its number; 0 for all.
        id: u64,
        /// The actions that are permitted.
        mask: Action,
    },
    /// Volumes by id.
    Volumes(Resources<String>),
    /// Apps by number.
    Apps(Resources<u64>),
    /// A time; both ends in seconds since the epoch, and included.
    ValidityWindow {
        /// The first second.
        not_before: i64,
        /// The last second.
        not_after: i64,
    },
    /// Features of the organization by name.
    FeatureSet(Resources<String>),
    /// GraphQL mutations by name, and nothing else.
    Mutations(Vec<String>),
    /// Machines by id.
    Machines(Resources<String>),
    /// Another service has to vouch for the holder; see the crate's documentation.
    ThirdParty {
        /// The service.
        location: String,
    },
    /// If the access names what one of the caveats is about, those apply; else the mask.
    IfPresent {
        /// The caveats.
        ifs: Vec<Caveat>,
        /// The actions that are permitted where none of them applies.
        otherwise: Action,
    },
    /// Features of a machine by name.
    MachineFeatureSet(Resources<String>),
    /// The request comes out of this machine.
    FromMachine(String),
    /// Clusters of LiteFS Cloud by id.
    Clusters(Resources<String>),
    /// What a member without further rights may do.
    IsMember,
    /// Some actions.
    Action(Action),
    /// Commands that may be run, and nothing else.
    Commands(Vec<CommandRule>),
    /// Features of an app by name.
    AppFeatureSet(Resources<String>),
    /// Objects by prefixes of their URL.
    StorageObjects(Resources<String>),
    /// What these roles may do.
    AllowedRoles(Roles),
    /// The request comes out of a machine of these; an empty text is any.
    FlySrc {
        /// Slug of the organization.
        organization: String,
        /// Name of the app.
        app: String,
        /// Id of the machine.
        instance: String,
    },
    /// A kind that this version does not know, or a body that it cannot read: it prohibits
    /// everything.
    Unknown(Kind),
}
