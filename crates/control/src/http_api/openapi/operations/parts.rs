//! What a machine has: events, versions, checks, labels, leases, commands and processes.

use crate::http_api::openapi::operation::{Content, Operation, delete, get, patch, post, put};
use axum::http::StatusCode;
use std::collections::BTreeMap;
use wire::machines::{
    AskLease, Busy, CheckReport, ExecMachine, ExecResult, HoldBusy, LeaseAnswer, LeaseReleased,
    MachineEvent, MachineMemory, MachineVersion, MemoryReclaimed, MetadataChange, MetadataValue,
    Process, ReclaimMemory, ScheduleRun, SetMemoryLimit, WatchEvent,
};

pub(super) fn all() -> Vec<Operation> {
    let mut all = reads();
    all.extend(labels());
    all.extend(leases());
    all.extend(busy());
    all.extend(memory());
    all
}

fn reads() -> Vec<Operation> {
    vec![
        get("/v1/apps/{app}/machines/{machine}/events", "listEvents", "Events, newest first")
            .number("limit", "At most so many; 20 if absent, 50 at most.")
            .text("before", "Only older ones than this event. (addition)")
            .answers::<Vec<MachineEvent>>(),
        get(
            "/v1/apps/{app}/machines/{machine}/events/stream",
            "watchMachine",
            "Follow the events of a machine",
        )
        .text("last_event_id", "As the header `Last-Event-ID`: continue after this event.")
        .answers_events::<WatchEvent>()
        .addition(),
        get("/v1/apps/{app}/machines/{machine}/versions", "listVersions", "Versions of the config")
            .answers::<Vec<MachineVersion>>(),
        get("/v1/apps/{app}/machines/{machine}/checks", "listChecks", "Health checks in detail")
            .answers::<Vec<CheckReport>>()
            .addition(),
        get(
            "/v1/apps/{app}/machines/{machine}/runs",
            "listRuns",
            "Runs of its schedule, newest first",
        )
        .number("limit", "At most so many.")
        .answers::<Vec<ScheduleRun>>()
        .addition(),
        post("/v1/apps/{app}/machines/{machine}/runs", "beginRun", "Run it now")
            .answers::<ScheduleRun>()
            .addition(),
        get("/v1/apps/{app}/machines/{machine}/ps", "listProcesses", "Processes in the guest")
            .text("sort_by", "`pid`, `cpu`, `rss`, `stime`, `rtime`, `command` or `directory`.")
            .text("order", "`asc` or `desc`.")
            .answers::<Vec<Process>>(),
        post("/v1/apps/{app}/machines/{machine}/exec", "execMachine", "Run a command in the guest")
            .takes::<ExecMachine>()
            .answers::<ExecResult>(),
        get(
            "/v1/apps/{app}/machines/{machine}/exec/stream",
            "streamExec",
            "Run a command over a WebSocket",
        )
        .answers_with(StatusCode::SWITCHING_PROTOCOLS, Content::WebSocket)
        .addition(),
    ]
}

fn labels() -> Vec<Operation> {
    let none = (StatusCode::NO_CONTENT, Content::Empty);
    vec![
        get("/v1/apps/{app}/machines/{machine}/metadata", "getMetadata", "All labels")
            .answers::<BTreeMap<String, String>>(),
        put("/v1/apps/{app}/machines/{machine}/metadata", "replaceMetadata", "Replace all labels")
            .takes::<MetadataChange>()
            .answers_with(none.0, none.1),
        patch("/v1/apps/{app}/machines/{machine}/metadata", "mergeMetadata", "Change some labels")
            .takes::<MetadataChange>()
            .answers_with(none.0, none.1),
        get("/v1/apps/{app}/machines/{machine}/metadata/{key}", "getMetadataKey", "One label")
            .answers::<MetadataValue>(),
        post("/v1/apps/{app}/machines/{machine}/metadata/{key}", "setMetadataKey", "Set a label")
            .takes::<MetadataValue>()
            .answers_with(none.0, none.1),
        delete(
            "/v1/apps/{app}/machines/{machine}/metadata/{key}",
            "deleteMetadataKey",
            "Remove a label",
        )
        .answers_with(none.0, none.1),
    ]
}

fn memory() -> Vec<Operation> {
    vec![
        get("/v1/apps/{app}/machines/{machine}/memory", "getMemory", "Memory: limit and use")
            .answers::<MachineMemory>(),
        put("/v1/apps/{app}/machines/{machine}/memory", "setMemory", "Limit the memory")
            .takes::<SetMemoryLimit>()
            .answers::<MachineMemory>(),
        post(
            "/v1/apps/{app}/machines/{machine}/memory/reclaim",
            "reclaimMemory",
            "Give memory back to the host",
        )
        .takes::<ReclaimMemory>()
        .answers::<MemoryReclaimed>(),
    ]
}

fn busy() -> Vec<Operation> {
    let path = "/v1/apps/{app}/machines/{machine}/busy";
    vec![
        get(path, "getBusy", "Whether the machine has declared itself busy")
            .answers::<Busy>()
            .addition(),
        post(path, "holdBusy", "Declare the machine busy")
            .takes::<HoldBusy>()
            .answers::<Busy>()
            .addition(),
        delete(path, "endBusy", "Declare the machine no longer busy").answers::<Busy>().addition(),
    ]
}

fn leases() -> Vec<Operation> {
    let nonce = "Nonce of the lease; also as the header `fly-machine-lease-nonce`.";
    vec![
        get("/v1/apps/{app}/machines/{machine}/lease", "getLease", "Show the lease")
            .answers::<LeaseAnswer>(),
        post("/v1/apps/{app}/machines/{machine}/lease", "acquireLease", "Acquire or renew a lease")
            .number("ttl", "Seconds until it expires; 60 if absent.")
            .text("description", "What the caller does.")
            .text("nonce", nonce)
            .takes::<AskLease>()
            .answers::<LeaseAnswer>(),
        delete("/v1/apps/{app}/machines/{machine}/lease", "releaseLease", "Release a lease")
            .text("nonce", nonce)
            .answers::<LeaseReleased>(),
    ]
}
