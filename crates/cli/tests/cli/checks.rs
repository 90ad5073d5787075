//! `updraft checks`.

use crate::fake::{ID, cli};
use expect_test::expect;

#[tokio::test]
async fn checks_are_listed_by_machine() {
    expect![[r#"
        exit 0
        --- asked
        GET /v1/apps/web/machines
        --- stdout
        NAME    STATUS    MACHINE          LAST UPDATED               OUTPUT
        alive   passing   3d8d413b29d089   2026-11-20T10:00:01.000Z   ok
        alive   passing   3d8d413b29d08a   2026-11-20T10:00:01.000Z   ok
    "#]]
    .assert_eq(&cli(&["checks", "list", "-a", "web"]).await.show());
    let json = cli(&["checks", "list", "-a", "web", "--json"]).await.out;
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(json[ID][0]["status"], "passing");
    let none = cli(&["checks", "list", "-a", "web", "--check-name", "ready", "--json"]).await.out;
    let none: serde_json::Value = serde_json::from_str(&none).unwrap();
    assert_eq!(none[ID], serde_json::json!([]));
}

#[tokio::test]
async fn the_newest_run_of_a_check_is_shown() {
    expect![[r#"
        exit 0
        --- asked
        GET /v1/apps/web/machines/3d8d413b29d089/checks
        --- stdout
        alive (http, liveness): critical since 2026-11-20T10:00:01.000Z
          in a row: 0 passed, 3 failed
          newest run: failed at 2026-11-20T10:00:02.000Z, 1.5ms
          > GET http://172.30.0.2:80/
          < HTTP/1.1 500 Internal Server Error
          <
          < no database

        ready (tcp, readiness): warning since 2026-11-20T10:00:01.000Z
          in a row: 0 passed, 0 failed
          it has not run yet
    "#]]
    .assert_eq(&cli(&["checks", "show", ID, "-a", "web"]).await.show());
}
