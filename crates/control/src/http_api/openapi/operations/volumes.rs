//! Volumes of an app.

use crate::http_api::openapi::operation::{Operation, delete, get, post, put};
use wire::machines::{
    CreateVolume, ExtendVolume, OrgVolumes, UpdateVolume, Volume, VolumeExtended,
};

pub(super) fn all() -> Vec<Operation> {
    vec![
        get("/v1/apps/{app}/volumes", "listVolumes", "List the volumes of an app")
            .flag("summary", "Has no effect: a volume is short.")
            .answers::<Vec<Volume>>(),
        post("/v1/apps/{app}/volumes", "createVolume", "Create a volume")
            .takes::<CreateVolume>()
            .answers::<Volume>(),
        get("/v1/apps/{app}/volumes/{volume}", "getVolume", "Show a volume").answers::<Volume>(),
        put("/v1/apps/{app}/volumes/{volume}", "updateVolume", "Change a volume's settings")
            .takes::<UpdateVolume>()
            .answers::<Volume>(),
        delete("/v1/apps/{app}/volumes/{volume}", "destroyVolume", "Destroy a volume")
            .answers::<Volume>(),
        put("/v1/apps/{app}/volumes/{volume}/extend", "extendVolume", "Make a volume larger")
            .takes::<ExtendVolume>()
            .answers::<VolumeExtended>(),
        get("/v1/orgs/{org}/volumes", "listOrgVolumes", "List the volumes of an organization")
            .text("region", "Only in this region.")
            .text("cursor", "`next_cursor` of the page before.")
            .number("limit", "At most so many; 1000 if absent, and at most.")
            .answers::<OrgVolumes>(),
    ]
}
