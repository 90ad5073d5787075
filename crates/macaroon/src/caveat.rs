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
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", content = "body")]
pub enum Caveat {
    /// An organization, and the actions in it.
    Organization {
        /// Its number; 0 for all.
        id: u64,
        /// The actions that are permitted.
        mask: Action,
    },
    /// Volumes by id.
    Volumes {
        /// With the actions on each.
        volumes: Resources<String>,
    },
    /// Apps by number.
    Apps {
        /// With the actions on each.
        apps: Resources<u64>,
    },
    /// A time; both ends in seconds since the epoch, and included.
    ValidityWindow {
        /// The first second.
        not_before: i64,
        /// The last second.
        not_after: i64,
    },
    /// Features of the organization by name.
    FeatureSet {
        /// With the actions on each.
        features: Resources<String>,
    },
    /// GraphQL mutations by name, and nothing else.
    Mutations {
        /// Their names.
        mutations: Vec<String>,
    },
    /// Machines by id.
    Machines {
        /// With the actions on each.
        machines: Resources<String>,
    },
    /// Another service has to vouch for the holder. No platform of
    /// ours can verify that yet: it prohibits everything.
    #[serde(rename = "3P", skip_deserializing)]
    ThirdParty {
        /// The service.
        location: String,
    },
    /// If the access names what one of the caveats is about, those apply; else the mask.
    IfPresent {
        /// The caveats.
        ifs: Vec<Caveat>,
        /// The actions that are permitted where none of them applies.
        #[serde(rename = "else")]
        otherwise: Action,
    },
    /// Features of a machine by name.
    MachineFeatureSet {
        /// With the actions on each.
        features: Resources<String>,
    },
    /// The request comes out of this machine.
    FromMachineSource {
        /// Its id.
        id: String,
    },
    /// Clusters of LiteFS Cloud by id.
    Clusters {
        /// With the actions on each.
        clusters: Resources<String>,
    },
    /// What a member without further rights may do.
    IsMember {},
    /// Some actions.
    Action(Action),
    /// Commands that may be run, and nothing else.
    Commands(Vec<CommandRule>),
    /// Features of an app by name.
    AppFeatureSet {
        /// With the actions on each.
        features: Resources<String>,
    },
    /// Objects by prefixes of their URL.
    StorageObjects {
        /// With the actions on each.
        storage_objects: Resources<String>,
    },
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
    #[serde(skip_deserializing)]
    Unknown(Kind),
}

impl Caveat {
    /// Its kind.
    pub fn kind(&self) -> Kind {
        Kind(match self {
            Self::Organization { .. } => 0,
            Self::Volumes { .. } => 2,
            Self::Apps { .. } => 3,
            Self::ValidityWindow { .. } => 4,
            Self::FeatureSet { .. } => 5,
            Self::Mutations { .. } => 6,
            Self::Machines { .. } => 7,
            Self::ThirdParty { .. } => 11,
            Self::IfPresent { .. } => 13,
            Self::MachineFeatureSet { .. } => 14,
            Self::FromMachineSource { .. } => 15,
            Self::Clusters { .. } => 16,
            Self::IsMember {} => 22,
            Self::Action(_) => 26,
            Self::Commands(_) => 27,
            Self::AppFeatureSet { .. } => 28,
            Self::StorageObjects { .. } => 29,
            Self::AllowedRoles(_) => 30,
            Self::FlySrc { .. } => 31,
            Self::Unknown(kind) => return *kind,
        })
    }
}
