//! Apps and their logs.

use crate::http_api::openapi::operation::{Content, Operation, delete, get, post, schema_of};
use axum::http::StatusCode;
use wire::logs::{LogEntry, LogPage};
use wire::machines::{App, AppList, CreateApp, CreatedApp, Done, WatchEvent};
use wire::tokens::{CreateDeployToken, DeployToken, TokenList};

pub(super) fn all() -> Vec<Operation> {
    let created = (StatusCode::CREATED, Content::Json(schema_of::<CreatedApp>));
    let accepted = (StatusCode::ACCEPTED, Content::Json(schema_of::<Done>));
    vec![
        get("/v1/apps", "listApps", "List the apps that the token may read")
            .text("org_slug", "Only of this organization.")
            .text("app_role", "Only with this role.")
            .answers::<AppList>(),
        post("/v1/apps", "createApp", "Create an app")
            .takes::<CreateApp>()
            .answers_with(created.0, created.1),
        get("/v1/apps/{app}", "getApp", "Show an app").answers::<App>(),
        delete("/v1/apps/{app}", "deleteApp", "Delete an app with all of its machines")
            .flag("force", "Accepted, and changes nothing.")
            .answers_with(accepted.0, accepted.1),
        get("/v1/apps/{app}/tokens", "listAppTokens", "List the tokens of an app")
            .answers::<TokenList>()
            .addition(),
        delete("/v1/apps/{app}/tokens/{token}", "revokeAppToken", "Revoke a token of an app")
            .answers::<Done>()
            .addition(),
        post("/v1/apps/{app}/deploy_token", "createDeployToken", "Make a token that may deploy")
            .takes::<CreateDeployToken>()
            .answers::<DeployToken>(),
        get("/v1/apps/{app}/logs", "streamLogs", "Lines of the log, as NDJSON or as events")
            .text("instance", "Only of this machine, by id or name.")
            .text("region", "Only of this region.")
            .text("q", "Only lines that contain this text, in letters of either case.")
            .list("level", "Only of these levels: debug, info, warn, error.")
            .text("since", "Only since then: how long ago, such as 15m, or a time (RFC 3339).")
            .number("after", "Only lines after this time, in nanoseconds since the epoch.")
            .number(
                "tail",
                "The newest lines to begin with, 0 to 10000; 100 if nothing else is asked for.",
            )
            .flag("follow", "Send new lines as they come; events are followed unless it is false.")
            .text("last_event_id", "As the header `Last-Event-ID`: continue after this event.")
            .answers_lines_or_events::<LogEntry>()
            .addition(),
        get("/api/v1/apps/{app}/logs", "pageLogs", "A page of the log")
            .text("instance", "Only of this machine, by id or name.")
            .text("region", "Only of this region.")
            .text("next_token", "`meta.next_token` of the page before.")
            .text("q", "Only lines that contain this text, in letters of either case.")
            .list("level", "Only of these levels: debug, info, warn, error.")
            .text("since", "Begin then: how long ago, such as 15m, or a time (RFC 3339).")
            .number("limit", "Most lines of the page, 1 to 10000.")
            .answers::<LogPage>(),
        get("/v1/apps/{app}/watch", "watchApp", "Follow the events of the app's machines")
            .text("last_event_id", "As the header `Last-Event-ID`: continue after this event.")
            .answers_events::<WatchEvent>()
            .addition(),
    ]
}
