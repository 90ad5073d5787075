//! One thing that a request does.

use crate::Action;

/// The command of an access.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Command {
    /// The request runs no command.
    #[default]
    None,
    /// It runs a command that is not known yet: the question is whether there is one that is
    /// permitted.
    Some,
    /// It runs this command.
    Argv(Vec<String>),
}

/// One action on one resource. What is `None` is no part of it: a caveat about a resource that
/// the access does not name prohibits it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Access {
    /// What is done.
    pub action: Action,
    /// Number of the organization.
    pub org: Option<u64>,
    /// Part of the organization, such as `membership`.
    pub org_feature: Option<String>,
    /// Number of the app; 0 for one that is to be made.
    pub app: Option<u64>,
    /// Part of the app, such as `images`.
    pub app_feature: Option<String>,
    /// Id of the machine.
    pub machine: Option<String>,
    /// Part of the machine, such as `metadata`.
    pub machine_feature: Option<String>,
    /// Id of the volume.
    pub volume: Option<String>,
    /// The command that is run in the machine.
    pub command: Command,
    /// Name of a GraphQL mutation.
    pub mutation: Option<String>,
    /// URL of an object in a store.
    pub storage_object: Option<String>,
    /// Id of a cluster of LiteFS Cloud.
    pub cluster: Option<String>,
    /// Id of the machine that the request came out of.
    pub source_machine: Option<String>,
    /// Name of the app of that machine.
    pub source_app: Option<String>,
    /// Slug of the organization of that machine.
    pub source_org: Option<String>,
    /// Seconds since the epoch.
    pub now: i64,
}
