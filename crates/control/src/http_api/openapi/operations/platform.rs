//! Hosts, regions and images.

use crate::http_api::openapi::operation::{Operation, delete, get, post};
use wire::machines::{Done, Image, ImageProgress};
use wire::platform::{HostInfo, RegionList};

pub(super) fn all() -> Vec<Operation> {
    vec![
        get("/v1/platform/regions", "listRegions", "Regions that have hosts")
            .answers::<RegionList>(),
        get("/v1/platform/hosts", "listHosts", "What each host has and uses")
            .answers::<Vec<HostInfo>>()
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
