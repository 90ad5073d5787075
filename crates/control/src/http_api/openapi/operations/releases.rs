//! Releases and builds, which flyctl carries out and records.

use crate::http_api::openapi::operation::{Content, Operation, get, patch, post, schema_of};
use axum::http::StatusCode;
use wire::uiex::{
    CreateUiexBuild, CreateUiexRelease, FinishUiexBuild, UiexBuild, UiexCurrentReleases,
    UiexRelease, UiexReleaseCreated, UiexReleaseList, UpdateUiexRelease,
};

pub(super) fn all() -> Vec<Operation> {
    let created = (StatusCode::CREATED, Content::Json(schema_of::<UiexReleaseCreated>));
    vec![
        post("/api/v1/releases", "createRelease", "Record a release, with the next version")
            .takes::<CreateUiexRelease>()
            .answers_with(created.0, created.1),
        patch("/api/v1/releases/{release}", "updateRelease", "Report how far a release is")
            .takes::<UpdateUiexRelease>()
            .answers::<UiexRelease>(),
        get("/api/v1/releases/all_current", "listCurrentReleases", "When apps were last released")
            .answers::<UiexCurrentReleases>(),
        get("/api/v1/apps/{app}/releases", "listReleases", "List releases, newest first")
            .number("limit", "At most so many; 50 are kept.")
            .answers::<UiexReleaseList>(),
        get("/api/v1/apps/{app}/releases/current", "getCurrentRelease", "The newest complete one")
            .answers::<UiexRelease>(),
        post("/api/v1/builds", "createBuild", "Record that a build begins")
            .takes::<CreateUiexBuild>()
            .answers::<UiexBuild>(),
        post("/api/v1/builds/finish", "finishBuild", "Record the end of a build")
            .takes::<FinishUiexBuild>()
            .answers::<UiexBuild>(),
    ]
}
