//! Suspending and resuming machines.

use crate::fake::{ID, Setup, cli, cli_with};
use expect_test::expect;

#[tokio::test]
async fn suspend_waits_if_asked_to() {
    expect![[r#"
        exit 5
        --- asked
        POST /v1/apps/web/machines/3d8d413b29d089/suspend
        POST /v1/apps/web/machines/dying/suspend
        --- stderr
        Suspending machine 3d8d413b29d089
        Error: Cannot suspend machine dying
        Caused by: It is being destroyed (begun 12 seconds ago)
    "#]]
    .assert_eq(&cli(&["m", "suspend", ID, "dying", "-a", "web"]).await.show());
    let args = ["m", "suspend", ID, "restless", "-a", "web", "-w", "1m"];
    expect![[r#"
        exit 1
        --- asked
        POST /v1/apps/web/machines/3d8d413b29d089/suspend
        GET /v1/apps/web/machines/3d8d413b29d089/wait?timeout=60&state=suspended%2Cstarted%2Cstopped%2Cfailed%2Cdestroyed
        POST /v1/apps/web/machines/restless/suspend
        GET /v1/apps/web/machines/restless/wait?timeout=60&state=suspended%2Cstarted%2Cstopped%2Cfailed%2Cdestroyed
        --- stderr
        Suspending machine 3d8d413b29d089
        3d8d413b29d089 has been suspended
        Suspending machine restless
        Error: Machine restless is not suspended
        Caused by: It is started
        Hint: `updraft machine status restless -a web` shows why.
    "#]].assert_eq(&cli(&args).await.show());
    let terminal = Setup { terminal: true, input: "1 2\n", ..Setup::default() };
    let ran = cli_with(terminal, &["m", "suspend", "-a", "web"]).await;
    assert_eq!(ran.code, 0, "{}", ran.show());
    assert_eq!(ran.asked.matches("/suspend").count(), 2, "{}", ran.show());
}

#[tokio::test]
async fn start_reports_that_it_resumes() {
    let ran = cli(&["m", "start", "asleep", "-a", "web"]).await;
    assert_eq!((ran.code, ran.err.as_str()), (0, "asleep has been resumed\n"));
}

#[tokio::test]
async fn status_shows_how_starts_and_suspends_came_about() {
    let ran = cli(&["m", "status", "asleep", "-a", "web"]).await;
    let shown: Vec<_> = ran
        .out
        .lines()
        .filter(|line| {
            line.contains("suspended") || line.contains("start ") || line.contains("On Resume")
        })
        .collect();
    expect![[r#"
        State: suspended
                  State = suspended
              On Resume = /bin/sh -c date
        suspended   suspend   proxy    2026-11-21T00:08:25.123Z   reason=idle for 300 s
        started     start     proxy    2026-11-21T00:08:25.123Z   origin=resumed,0.031s
        started     start     proxy    2026-11-21T00:08:25.123Z   origin=template,resumed=false
        started     start     proxy    2026-11-21T00:08:25.123Z   origin=cold,reason=no template of 4x1024"#]].assert_eq(&shown.join("\n"));
}
