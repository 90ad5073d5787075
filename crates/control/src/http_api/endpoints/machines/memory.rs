//! `…/memory`: the memory of a machine that runs.

use crate::http_api::caller::Acting;
use crate::http_api::extract::JsonBody;
use crate::{Error, machines};
use axum::Json;
use axum::extract::Path;
use wire::machines::{MachineMemory, MemoryReclaimed, ReclaimMemory, SetMemoryLimit};

type At = Path<(String, String)>;

pub(in crate::http_api) async fn get(
    Acting(platform): Acting,
    Path((app, machine)): At,
) -> Result<Json<MachineMemory>, Error> {
    machines::memory(&platform, &app, &machine).await.map(Json)
}

pub(in crate::http_api) async fn limit(
    Acting(platform): Acting,
    Path((app, machine)): At,
    JsonBody(SetMemoryLimit { limit_mb }): JsonBody<SetMemoryLimit>,
) -> Result<Json<MachineMemory>, Error> {
    machines::limit_memory(&platform, &app, &machine, limit_mb).await.map(Json)
}

pub(in crate::http_api) async fn reclaim(
    Acting(platform): Acting,
    Path((app, machine)): At,
    JsonBody(ReclaimMemory { amount_mb }): JsonBody<ReclaimMemory>,
) -> Result<Json<MemoryReclaimed>, Error> {
    machines::reclaim_memory(&platform, &app, &machine, amount_mb).await.map(Json)
}
