//! `/api/v1/builds`: what flyctl records of the builds of images. It takes the status 200 only.

use crate::http_api::audit::AboutOrg;
use crate::http_api::caller::Acting;
use crate::http_api::extract::JsonBody;
use crate::{Error, releases};
use axum::{Extension, Json};
use wire::uiex::{CreateUiexBuild, FinishUiexBuild, UiexBuild};

type Recorded = (Extension<AboutOrg>, Json<UiexBuild>);

pub(in crate::http_api) async fn create(
    Acting(platform): Acting,
    JsonBody(ask): JsonBody<CreateUiexBuild>,
) -> Result<Recorded, Error> {
    let (app, build) = releases::create_build(&platform, ask).await?;
    Ok((Extension(AboutOrg(app.org)), Json(build)))
}

pub(in crate::http_api) async fn finish(
    Acting(platform): Acting,
    JsonBody(ask): JsonBody<FinishUiexBuild>,
) -> Result<Recorded, Error> {
    let (app, build) = releases::finish_build(&platform, ask).await?;
    Ok((Extension(AboutOrg(app.org)), Json(build)))
}
