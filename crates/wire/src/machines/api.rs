//! Requests and answers of the Machines API that are not a machine.

use super::{Extra, MachineConfig, Span};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Body of every error.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ErrorBody {
    /// What was attempted and why it failed.
    pub error: String,
    /// `unknown`, `insufficient_capacity`, `volume_placement_capacity`, `name_taken`;
    /// `command_not_found` and `command_not_executable` are Updraft additions.
    pub status: String,
    /// Code of the error catalogue, such as `version_mismatch`; an Updraft addition.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code: Option<String>,
    /// Path of the field that is to blame, such as `config.image`; an Updraft addition.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub field: Option<String>,
    /// What to do next; an Updraft addition.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
    /// Path of the code's description on this server; an Updraft addition.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub docs: Option<String>,
}

impl ErrorBody {
    /// An error of no particular kind.
    pub fn unknown(error: impl Into<String>) -> Self {
        Self { error: error.into(), status: "unknown".into(), ..Self::default() }
    }

    /// Status of an exec whose program does not exist in the guest.
    pub const COMMAND_NOT_FOUND: &str = "command_not_found";
    /// Status of an exec whose program exists and cannot be executed.
    pub const COMMAND_NOT_EXECUTABLE: &str = "command_not_executable";
}

/// `POST /v1/apps`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct CreateApp {
    /// Name of the app.
    #[serde(alias = "name", default)]
    #[schemars(extend("x-aliases" = ["name"]))]
    pub app_name: String,
    /// Organisation; absent or empty means the default one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub org_slug: Option<String>,
    /// 6PN network; made when unseen. Empty means the org's default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub network: Option<String>,
    /// Repeating a create with the same key and name returns the first app.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub idempotency_key: Option<String>,
    /// Role of the app; absent or empty for plain apps.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub app_role_id: Option<String>,
    /// Fields this version does not know.
    #[serde(flatten)]
    pub extra: Extra,
}

/// Answer to a create of an app.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct CreatedApp {
    /// Id of the app.
    pub id: String,
    /// Milliseconds since the epoch.
    pub created_at: i64,
    /// The rest of the app, as in a get.
    #[serde(flatten)]
    pub app: Option<App>,
}

/// An app.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct App {
    /// Same as the name's record id; stable.
    #[serde(default)]
    pub id: String,
    /// Unique on this platform.
    pub name: String,
    /// `pending` until its first machine, then `deployed`.
    pub status: String,
    /// Owner.
    pub organization: Organization,
    /// 6PN network.
    pub network: String,
    /// Prefix of the addresses in that network.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub network_cidr: Option<String>,
    /// Number, unique on this platform.
    pub internal_numeric_id: i32,
    /// Machines that are not destroyed.
    pub machine_count: u64,
    /// Volumes.
    pub volume_count: u64,
    /// Name for CNAME records.
    #[serde(default)]
    pub cname_target: String,
    /// Role; empty for plain apps.
    #[serde(default)]
    pub app_role: String,
    /// Where the edge answers for this app; an Updraft addition.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hostname: Option<String>,
}

/// Owner of apps.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Organization {
    /// Shown name.
    pub name: String,
    /// Name in paths.
    pub slug: String,
    /// Number, unique on this platform.
    pub internal_numeric_id: i32,
}

/// `GET /v1/apps`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct AppList {
    /// Length of `apps`.
    pub total_apps: u64,
    /// By name.
    pub apps: Vec<App>,
}

/// Create or update of a machine.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct LaunchMachine {
    /// The whole config; an update replaces the former one.
    #[serde(default)]
    pub config: Option<MachineConfig>,
    /// Name; generated when absent or empty. Ignored by updates.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Region expression; absent means this host's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub region: Option<String>,
    /// Prepare but do not start.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub skip_launch: Option<bool>,
    /// Create cordoned.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub skip_service_registration: Option<bool>,
    /// Updates only: the version that is expected to be current.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub current_version: Option<String>,
    /// Seconds for which the machine is leased to the caller at once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lease_ttl: Option<u64>,
    /// Give the machine none of the app's secrets.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub skip_secrets: Option<bool>,
    /// Refuse unless the app's secrets are at least of this version.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub min_secrets_version: Option<u64>,
    /// Fields this version does not know.
    #[serde(flatten)]
    pub extra: Extra,
}

/// `{"ok":true}`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Done {
    /// Always true.
    pub ok: bool,
}

/// Answer to a start.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Started {
    /// State before the call.
    pub previous_state: String,
    /// The start moved the machine to another host.
    pub migrated: bool,
    /// That host, or empty.
    pub new_host: String,
    /// It was suspended and has been resumed; an Updraft addition.
    #[serde(default)]
    pub resumed: bool,
}

/// Body of a stop; may be absent.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct StopMachine {
    /// Signal name; absent means the config's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signal: Option<String>,
    /// Time until SIGKILL; zero or absent means the config's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout: Option<Span>,
}

/// Body of a busy lease; may be absent.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct HoldBusy {
    /// Seconds; 60 if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ttl: Option<u64>,
}

/// Whether a machine has declared itself busy.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Busy {
    /// It has.
    pub busy: bool,
    /// When that ends, RFC 3339.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<String>,
}

/// Body of a signal: a name or a number.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct SignalMachine {
    /// Name such as `SIGTERM`, or a number.
    pub signal: SignalName,
}

/// A signal by name or number.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum SignalName {
    /// Linux number.
    Number(i32),
    /// Name, with or without `SIG`.
    Name(String),
}

/// Body of an exec.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ExecMachine {
    /// Program and arguments.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub command: Option<Vec<String>>,
    /// Older form of `command`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cmd: Option<CommandLine>,
    /// Input of the command.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stdin: Option<String>,
    /// Seconds until it is killed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout: Option<u64>,
    /// Container to run it in; absent means the first one, if there are any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub container: Option<String>,
    /// Run it in the machine's own root, outside of any container.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub machine: Option<bool>,
}

/// A command as one text, split as a shell would, or as its words.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged, expecting = "a command must be a text or a list of texts")]
pub enum CommandLine {
    /// One text.
    Text(String),
    /// Program and arguments.
    Words(Vec<String>),
}

impl CommandLine {
    /// There is nothing in it.
    pub fn is_empty(&self) -> bool {
        match self {
            Self::Text(text) => text.is_empty(),
            Self::Words(words) => words.is_empty(),
        }
    }
}

/// Answer to an exec; HTTP 200 also when the command failed.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ExecResult {
    /// Exit code, or 128 + signal.
    pub exit_code: i32,
    /// Signal that ended it, or 0.
    #[serde(default)]
    pub exit_signal: i32,
    /// What it wrote, at most 1 MiB; invalid UTF-8 is replaced.
    pub stdout: String,
    /// What it wrote to stderr, at most 1 MiB.
    pub stderr: String,
    /// Output beyond the limit was dropped; an Updraft addition.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub truncated: bool,
}

/// One process in a guest.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Process {
    /// Process id in the guest.
    pub pid: i32,
    /// Seconds of system time.
    pub stime: u64,
    /// Seconds since it started.
    pub rtime: u64,
    /// Command line.
    pub command: String,
    /// Working directory.
    pub directory: String,
    /// Per cent of one CPU over its life.
    pub cpu: u64,
    /// Resident bytes.
    pub rss: u64,
    /// Sockets it listens on.
    pub listen_sockets: Vec<ListenSocket>,
}

/// A listening socket.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ListenSocket {
    /// `tcp`, `tcp6`, `udp` or `udp6`.
    pub proto: String,
    /// `0.0.0.0:8080` or `[::]:8080`.
    pub address: String,
}

/// Answer to a wait.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct WaitResult {
    /// Always true.
    pub ok: bool,
    /// State reached.
    pub state: String,
    /// Version that is in it.
    pub version: String,
    /// Newest event.
    pub event_id: String,
}

/// `{"value": …}` of one metadata key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct MetadataValue {
    /// The value.
    pub value: String,
}

/// Bulk change of metadata.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct MetadataChange {
    /// New values; null or "" deletes a key.
    pub metadata: BTreeMap<String, Option<String>>,
    /// The version that is expected to be current.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub machine_version: Option<String>,
}

/// An image on a host, as `image list` shows it; an Updraft addition.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Image {
    /// References that lead to it.
    pub references: Vec<String>,
    /// `sha256:…` of the manifest.
    pub digest: String,
    /// Bytes of the root filesystem image on disk.
    pub size: u64,
    /// RFC 3339.
    pub created_at: String,
    /// Machines that run it.
    #[serde(default)]
    pub used_by: u64,
}

/// One line of the progress of an import or pull (NDJSON).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum ImageProgress {
    /// Bytes done of one layer or step.
    Step {
        /// What is being done, such as a layer's short digest.
        name: String,
        /// Bytes so far.
        done: u64,
        /// Bytes in all, 0 if unknown.
        total: u64,
    },
    /// Finished.
    Done {
        /// The image.
        image: Image,
    },
    /// Failed.
    Failed {
        /// Why.
        error: ErrorBody,
    },
}
