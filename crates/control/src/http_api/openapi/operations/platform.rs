//! Hosts, regions, images, and GraphQL.

use crate::graphql::GraphqlRequest;
use crate::http_api::openapi::operation::{Content, Operation, delete, get, post};
use axum::http::StatusCode;
use serde_json::Value;
use wire::audit::AuditPage;
use wire::machines::{Done, Image, ImageProgress};
use wire::platform::{AskPlacements, HostInfo, HostNames, Placements, RegionList};

pub(super) fn all() -> Vec<Operation> {
    vec![
        get("/v1/platform/regions", "listRegions", "Regions that have hosts")
            .text("size", "Count the capacity in machines of this preset, such as `shared-cpu-1x`.")
            .text("cpu_kind", "Or of this kind of CPU,")
            .number("cpus", "with so many CPUs")
            .number("memory_mb", "and so much memory.")
            .number("gpus", "Not supported.")
            .text("gpu_kind", "Not supported.")
            .answers::<RegionList>()
            .unsupported(),
        post("/v1/platform/placements", "planPlacements", "Where machines would be placed")
            .takes::<AskPlacements>()
            .answers::<Placements>(),
        get("/v1/platform/hosts", "listHosts", "What each host has and uses")
            .answers::<Vec<HostInfo>>()
            .addition(),
        get("/v1/platform/host-names", "getHostNames", "The API under host names of Fly.io")
            .answers::<HostNames>()
            .addition(),
        get("/v1/platform/audit", "listPlatformAudit", "The audit log of the platform")
            .text("cursor", "`next_cursor` of the page before.")
            .number("limit", "At most so many.")
            .answers::<AuditPage>()
            .addition(),
        post("/graphql", "graphql", "The GraphQL API that Fly's command line client uses")
            .takes::<GraphqlRequest>()
            .answers::<Value>(),
        get("/openapi.json", "getOpenApi", "This document").answers::<Value>().addition(),
        get("/docs", "getDocs", "This document as a page")
            .answers_with(StatusCode::OK, Content::Text("text/html"))
            .addition(),
        get("/v1/images", "listImages", "Images of the platform")
            .answers::<Vec<Image>>()
            .addition(),
        delete("/v1/images", "deleteImage", "Remove an image")
            .text("reference", "A reference of the image.")
            .answers::<Done>()
            .addition(),
        delete("/v1/images/{reference}", "deleteImageByPath", "Remove an image")
            .answers::<Done>()
            .addition(),
        post("/v1/images/import", "importImage", "Import an image; the answer is its progress")
            .text("name", "Reference that the image gets.")
            .text("file", "Name of the file, from which a reference is made.")
            .takes_tar()
            .answers_lines::<ImageProgress>()
            .addition(),
    ]
}
