//! Machines and their life.

use crate::http_api::openapi::operation::{Operation, delete, get, patch, post};
use axum::http::StatusCode;
use schemars::JsonSchema;
use serde_json::{Map, Value};
use wire::machines::{
    BatchResults, Done, LaunchMachine, Machine, SignalMachine, Started, StopMachine, WaitResult,
};

/// Several creates.
#[derive(JsonSchema)]
#[expect(dead_code, reason = "the endpoint reads entry by entry")]
struct CreateMachines {
    /// At most 100 bodies of a create.
    machines: Vec<LaunchMachine>,
}

/// A change of a config by RFC 7396.
#[derive(JsonSchema)]
#[expect(dead_code, reason = "the endpoint reads the patch as it is")]
struct PatchMachine {
    /// Fields with their new values; null removes a field.
    config: Map<String, Value>,
    /// The version that is expected to be current.
    current_version: Option<String>,
}

pub(super) fn all() -> Vec<Operation> {
    vec![
        get("/v1/apps/{app}/machines", "listMachines", "List the machines of an app")
            .flag("include_deleted", "Also destroyed ones, as long as they are remembered.")
            .flag("include_leases", "Show the lease of each, without its nonce.")
            .flag("summary", "Without config and events.")
            .list("state", "Only in one of these states.")
            .text("region", "Only in this region.")
            .prefix("metadata", "`metadata.<key>=<value>`: only with all of these labels.")
            .number("host", "Only of the host with this number. (addition)")
            .answers::<Vec<Machine>>(),
        post("/v1/apps/{app}/machines", "createMachine", "Create a machine")
            .takes::<LaunchMachine>()
            .answers::<Machine>(),
        get("/v1/apps/{app}/machines/{machine}", "getMachine", "Show a machine")
            .flag("include_leases", "Show its lease, without the nonce.")
            .answers::<Machine>(),
        post("/v1/apps/{app}/machines/{machine}", "updateMachine", "Replace a machine's config")
            .takes::<LaunchMachine>()
            .answers::<Machine>(),
        patch("/v1/apps/{app}/machines/{machine}", "patchMachine", "Change a part of the config")
            .takes::<PatchMachine>()
            .answers::<Machine>()
            .addition(),
        post("/v1/apps/{app}/machines/batch", "createMachines", "Create several machines")
            .takes::<CreateMachines>()
            .answers::<BatchResults>()
            .or(StatusCode::MULTI_STATUS)
            .addition(),
        delete("/v1/apps/{app}/machines/{machine}", "deleteMachine", "Destroy a machine")
            .flag("force", "Also while it runs.")
            .flag("kill", "The same.")
            .answers::<Done>(),
        post("/v1/apps/{app}/machines/{machine}/start", "startMachine", "Start a machine")
            .answers::<Started>(),
        post("/v1/apps/{app}/machines/{machine}/stop", "stopMachine", "Stop a machine")
            .takes::<StopMachine>()
            .answers::<Done>(),
        post("/v1/apps/{app}/machines/{machine}/restart", "restartMachine", "Restart a machine")
            .duration("timeout", "Until SIGKILL.")
            .text("signal", "Signal for the stop.")
            .flag("force_stop", "Also one that is not started.")
            .answers::<Done>(),
        post(
            "/v1/apps/{app}/machines/{machine}/signal",
            "signalMachine",
            "Send a signal to the main process",
        )
        .takes::<SignalMachine>()
        .answers::<Done>(),
        post("/v1/apps/{app}/machines/{machine}/suspend", "suspendMachine", "Suspend a machine")
            .answers::<Done>(),
        post(
            "/v1/apps/{app}/machines/{machine}/cordon",
            "cordonMachine",
            "Take a machine out of routing",
        )
        .answers::<Done>(),
        post(
            "/v1/apps/{app}/machines/{machine}/uncordon",
            "uncordonMachine",
            "Take a machine back into routing",
        )
        .answers::<Done>(),
        get("/v1/apps/{app}/machines/{machine}/wait", "waitMachine", "Wait for a state")
            .list("state", "Any of these states, or `settled`; absent means `started`.")
            .text("version", "Of this version of the config.")
            .text("instance_id", "The same.")
            .text("from_event_id", "Only a state that was entered after this event.")
            .duration("timeout", "At most 60 s.")
            .answers::<WaitResult>(),
    ]
}
