//! Releases of apps as records: the config and the image that an app was to run, in which version,
//! and how far it came. A client carries a release out and reports its status.
//!
//! - [`create`] gives the next version; [`change`] takes what is reported about a release.
//! - [`list`], [`current`] and [`all_current`] show them. The *newest* release of an app is the last
//!   that was made, whatever its status. The *current* release is the newest one that is complete:
//!   one that failed or is under way has not replaced it.
//! - [`create_build`] and [`finish_build`]: builds of images, which clients carry out, too.
//! - [`forget`]: what is deleted with an app.
//!
//! The versions of an app grow by one and are never given twice while the app lives. A bounded
//! number of releases is kept per app, the newest and the current one among them (`keep`).

mod builds;
mod change;
mod create;
mod forget;
mod keep;
mod read;

pub use builds::{create_build, finish_build};
pub use change::{ReleaseChange, change};
pub use create::{NewRelease, create};
pub(crate) use forget::forget;
pub use keep::MAX_KEPT;
pub(crate) use read::{all_current, content, of_apps};
pub use read::{current, list};

use crate::access::{Place, Subject, authorize, write};
use crate::{Error, Platform};
use store::records::{AppRecord, ReleaseRecord};

/// A release with its app, for fronts that show both.
#[derive(Clone, Debug)]
pub struct OfApp {
    /// The app.
    pub app: AppRecord,
    /// The release.
    pub release: ReleaseRecord,
}

/// The caller may deploy the app.
async fn permit_deploy(platform: &Platform, app: &str) -> Result<(), Error> {
    let place = Place { app: Some(app.to_owned()), ..Place::default() };
    authorize(platform, &write(Subject::App), &place).await
}
