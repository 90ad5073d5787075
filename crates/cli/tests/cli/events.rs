//! `machine events`, `machine metadata` and the filters of `machine list`.

use crate::fake::{ID, cli};
use expect_test::expect;

#[tokio::test]
async fn events_are_listed() {
    expect![[r#"
        exit 0
        --- asked
        GET /v1/apps/web/machines/3d8d413b29d089/events?limit=20
        --- stdout
        ID     STATE     EVENT    SOURCE   TIMESTAMP                  INFO
        01J2   stopped   exit     flyd     2026-11-21T00:08:25.123Z   exit_code=3,oom_killed=false,requested_stop=false
        01J1   created   launch   user     2026-11-21T00:08:20.000Z
    "#]].assert_eq(&cli(&["m", "events", ID, "-a", "web"]).await.show());
    let ran = cli(&["m", "events", ID, "-a", "web", "--before", "01J2", "--limit", "5", "--json"]);
    let ran = ran.await;
    assert!(ran.asked.contains("/events?limit=5&before=01J2"), "{}", ran.show());
    assert_eq!(ran.out, "[]\n");
    let ran = cli(&["m", "events", ID, "-a", "web", "--limit", "0"]).await;
    assert_eq!(ran.code, 2, "{}", ran.show());
}

#[tokio::test]
async fn events_are_followed_and_resumed_after_the_last_one() {
    let ran = cli(&["m", "events", ID, "-a", "web", "--follow"]).await;
    expect![[r#"
        exit 3
        --- asked
        GET /v1/apps/web/machines/3d8d413b29d089/events/stream
        GET /v1/apps/web/machines/3d8d413b29d089/events/stream
        --- stdout
        started start user 2026-11-21T00:08:25.123Z
        --- stderr
        Warning: events of host 3 may be missing
        Error: Cannot follow machine 3d8d413b29d089
        Caused by: it is gone
    "#]]
    .assert_eq(&ran.show());
    let ran = cli(&["m", "events", ID, "-a", "web", "-f", "--json"]).await;
    let event: wire::machines::WatchEvent = serde_json::from_str(&ran.out).unwrap();
    assert_eq!((event.event.id.as_str(), event.machine_id.as_str()), ("01J3", ID));
}

#[tokio::test]
async fn labels_are_listed_and_changed_at_once() {
    expect![[r#"
        exit 0
        --- asked
        GET /v1/apps/web/machines/3d8d413b29d089/metadata
        --- stdout
        KEY                 VALUE
        fly_process_group   app
        role                leader
    "#]]
    .assert_eq(&cli(&["m", "metadata", "list", ID, "-a", "web"]).await.show());
    let set = ["m", "metadata", "set", ID, "role=leader", "zone=a=b", "-a", "web"];
    expect![[r#"
        exit 0
        --- asked
        PATCH /v1/apps/web/machines/3d8d413b29d089/metadata {"metadata":{"role":"leader","zone":"a=b"}}
        --- stderr
        Changed the labels of machine 3d8d413b29d089
    "#]].assert_eq(&cli(&set).await.show());
    let unset = ["m", "metadata", "unset", ID, "role", "zone", "-a", "web"];
    let ran = cli(&unset).await;
    assert!(
        ran.asked.ends_with("{\"metadata\":{\"role\":null,\"zone\":null}}\n"),
        "{}",
        ran.show()
    );
    // The API would take an empty value for a removal.
    let ran = cli(&["m", "metadata", "set", ID, "role=", "-a", "web"]).await;
    assert!(ran.code == 2 && ran.err.contains("metadata unset"), "{}", ran.show());
}

#[tokio::test]
async fn machines_are_filtered_by_the_server() {
    let args =
        ["--state", "started,stopped", "--region", "here", "-m", "role=a", "-m", "x=1", "--all"];
    let ran = cli(&[&["m", "list", "-a", "web", "-q"], &args[..]].concat()).await;
    let query =
        "include_deleted=true&region=here&state=started%2Cstopped&metadata.role=a&metadata.x=1";
    assert_eq!(ran.asked, format!("GET /v1/apps/web/machines?{query}\n"));
    let ran = cli(&["m", "list", "-a", "empty", "--state", "failed"]).await;
    assert_eq!(ran.err, "No machine of app empty matches\n");
}
