//! The contract of the port.
#![allow(clippy::unwrap_used, reason = "a test that cannot continue has failed")]

mod common;

use common::*;
use std::time::Duration;

#[tokio::test]
async fn the_contract_holds() {
    // The contract has no clock: an image without a name is collected at once.
    let world = World::with(|config| config.grace = Duration::ZERO);
    let tar = tar(&[("app", b"contract")]);
    let image = Image::new(&[(gzip(&tar), tar)]);
    let archive = world.layout("archive", &image.layout(Some("other:1")));
    testkit::images_contract(&world.images, &archive).await;
}
