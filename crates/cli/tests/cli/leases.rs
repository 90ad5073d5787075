//! `machine leases`.

use crate::fake::{ID, cli};
use expect_test::expect;

#[tokio::test]
async fn view_shows_the_holder() {
    expect![[r#"
        exit 0
        --- asked
        GET /v1/apps/web/machines/3d8d413b29d089/lease
        --- stdout
        MACHINE          NONCE              OWNER   DESCRIPTION   VERSION                      EXPIRES
        3d8d413b29d089   4e9b2a7c01d3f586   ci      deploy        01J00000000000000000000001   2026-11-21T00:08:25.000Z
    "#]].assert_eq(&cli(&["m", "leases", "view", ID, "-a", "web"]).await.show());
    expect![[r#"
        exit 0
        --- asked
        GET /v1/apps/web/machines/free/lease
        --- stderr
        Machine free is not leased
    "#]]
    .assert_eq(&cli(&["m", "leases", "view", "free", "-a", "web"]).await.show());
    let json = cli(&["m", "lease", "view", ID, "-a", "web", "--json"]).await.out;
    let lease: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!((&lease["owner"], &lease["nonce"]), (&"ci".into(), &"4e9b2a7c01d3f586".into()));
}

#[tokio::test]
async fn clear_ends_leases_with_their_nonces() {
    expect![[r#"
        exit 5
        --- asked
        GET /v1/apps/web/machines/3d8d413b29d089/lease
        DELETE /v1/apps/web/machines/3d8d413b29d089/lease
        GET /v1/apps/web/machines/free/lease
        GET /v1/apps/web/machines/dying/lease
        --- stderr
        Cleared the lease of machine 3d8d413b29d089
        Machine free is not leased
        Error: Cannot read the lease of machine dying
        Caused by: It is being destroyed (begun 12 seconds ago)
    "#]]
    .assert_eq(&cli(&["m", "leases", "clear", ID, "free", "dying", "-a", "web"]).await.show());
}
