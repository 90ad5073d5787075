//! `machine clone`, and the flags of new machines that it shares with others.

use crate::fake::{ID, Setup, cli, cli_with};
use expect_test::expect;

#[tokio::test]
async fn a_machine_is_cloned_as_it_is() {
    expect![[r#"
        exit 0
        --- asked
        GET /v1/apps/web/machines/3d8d413b29d089
        POST /v1/apps/web/machines {"config":{"image":"web:1@sha256:aa11","env":{"A":"1"},"guest":{"cpu_kind":"shared","cpus":1,"memory_mb":256},"metadata":{"fly_process_group":"app"},"services":[{"protocol":"tcp","internal_port":8080,"ports":[{"port":80,"handlers":["http"]}]}]},"region":"here"}
        GET /v1/apps/web/machines/3d8d413b29d089/wait?timeout=60&state=started%2Cstopped%2Csuspended%2Cfailed%2Cdestroyed
        GET /v1/apps/web/machines/3d8d413b29d089/wait?timeout=1&state=stopped%2Cfailed%2Cdestroyed&from_event_id=01J2
        GET /v1/apps/web/machines/3d8d413b29d089
        GET /v1/apps/web/machines/3d8d413b29d089
        --- stdout
        3d8d413b29d089
        --- stderr
        Cloning machine 3d8d413b29d089 into region here
        Provisioning a new machine with image web:1@sha256:aa11...
          Machine 3d8d413b29d089 has been created...
          Waiting for machine 3d8d413b29d089 to start...
        Machine 3d8d413b29d089 is started
        Machine has been successfully cloned!
    "#]].assert_eq(&cli(&["machine", "clone", ID, "-a", "web"]).await.show());
}

/// What is asked of the API, by flags.
async fn asked(args: &[&str]) -> String {
    let ran = cli(&[&["m", "clone", "-a", "web", "--detach"], args].concat()).await;
    assert_eq!(ran.code, 0, "{}", ran.show());
    let posted = ran.asked.lines().find(|line| line.starts_with("POST")).unwrap();
    posted.split_once(' ').unwrap().1.split_once(' ').unwrap().1.to_owned()
}

#[tokio::test]
async fn flags_change_the_clone() {
    let config = async |args: &[&str]| {
        let body: serde_json::Value = serde_json::from_str(&asked(args).await).unwrap();
        body
    };
    let plain = config(&["worker"]).await;
    assert_eq!(plain["region"], "there");
    assert_eq!(plain["config"]["image"], "registry.example/web:1@sha256:aa11");
    assert_eq!(plain["config"]["auto_destroy"], true);
    assert_eq!(plain["config"]["init"]["exec"][0], "/bin/release");
    for (args, pointer, expected) in [
        (&["--region", "here,there"][..], "/region", "\"here,there\""),
        (&["--name", "second"], "/name", "\"second\""),
        (&["--process-group", "queue"], "/config/metadata/fly_process_group", "\"queue\""),
        (&["--clear-auto-destroy"], "/config/auto_destroy", "null"),
        (&["--clear-cmd"], "/config/init/cmd", "null"),
        (&["--clear-cmd"], "/config/init/exec", "null"),
        (&["--override-cmd", "sh -c 'a b'"], "/config/init/cmd", r#"["sh","-c","a b"]"#),
        (&["--override-cmd", "sleep inf"], "/config/init/exec", "null"),
        (&["--memory", "1gb"], "/config/guest/memory_mb", "1024"),
        (&["--vm-size", "shared-cpu-2x"], "/config/guest/cpus", "2"),
        (&["--standby-for", "source"], "/config/standbys", r#"["worker"]"#),
        (&["--standby-for", "source"], "/config/env/FLY_STANDBY_FOR", "\"worker\""),
        (&["--standby-for", ID], "/skip_launch", "true"),
    ] {
        let body = config(&[&["worker"], args].concat()).await;
        let value = body.pointer(pointer).cloned().unwrap_or_default();
        assert_eq!(value.to_string(), expected, "{args:?}: {body}");
    }
}

#[tokio::test]
async fn what_cannot_be_cloned_is_refused() {
    for (args, code, expected) in [
        (&["--attach-volume", "vol_1"][..], 2, "--attach-volume is not supported"),
        (&["--from-snapshot", "last"], 2, "--from-snapshot is not supported"),
        (&["--volume-requires-unique-zone=false"], 2, "volumes are not considered here yet"),
        (&["--host-dedication-id", "x"], 2, "hosts are not dedicated yet"),
        (&["--vm-gpus", "1"], 2, "machines have no GPUs"),
        (&["--clear-cmd", "--override-cmd", "x"], 2, "cannot be used with"),
        (&["--select"], 2, "cannot be used with"),
        (&["--override-cmd", "sh 'x"], 2, "Cannot use --override-cmd"),
        (&["--vm-size", "huge"], 2, "there is no size \"huge\""),
    ] {
        let ran = cli(&[&["m", "clone", ID, "-a", "web"], args].concat()).await;
        assert!(ran.code == code && ran.err.contains(expected), "{args:?}: {}", ran.show());
        assert!(!ran.asked.contains("POST"), "{}", ran.show());
    }
    let ran = cli(&["m", "clone", "lost", "-a", "web"]).await;
    assert!(ran.code == 1 && ran.err.contains("Its host does not answer"), "{}", ran.show());
}

#[tokio::test]
async fn the_machine_is_chosen_on_a_terminal() {
    let terminal = || Setup { terminal: true, input: "1\n", ..Setup::default() };
    for args in [&["m", "clone", "-a", "web"][..], &["m", "clone", "--select", "-a", "web"]] {
        let ran = cli_with(terminal(), args).await;
        assert!(ran.code == 0 && ran.err.contains("Machine (number): "), "{}", ran.show());
    }
    let ran = cli(&["m", "clone", "--select", "-a", "web"]).await;
    assert!(ran.code == 2 && ran.err.contains("No machine is named"), "{}", ran.show());
}

#[tokio::test]
async fn a_standby_is_not_waited_for() {
    expect![[r#"
        exit 0
        --- asked
        GET /v1/apps/web
        GET /v1/apps/web/machines/one
        POST /v1/apps/web/machines {"config":{"image":"web:1","env":{"FLY_STANDBY_FOR":"one"},"restart":{"policy":"always"},"standbys":["one"]},"skip_launch":true}
        GET /v1/images
        --- stdout

        Success! A Machine has been successfully created in app web
         Machine ID: 3d8d413b29d089
         Instance ID: 01J00000000000000000000001
         State: created
        --- stderr
        Searching for image 'web:1' ...
        Image size: 30 MB
    "#]].assert_eq(
        &cli(&["m", "create", "web:1", "-a", "web", "--standby-for", "one"]).await.show(),
    );
    let ran = cli(&["m", "update", ID, "-a", "web", "-y", "--standby-for", "asleep"]).await;
    assert!(ran.err.contains("is a standby of asleep and is not started"), "{}", ran.show());
    assert!(!ran.asked.contains("/wait"), "{}", ran.show());
    let ran = cli(&["m", "start", "standby", "-a", "web"]).await;
    assert!(ran.code == 5 && ran.err.contains("--standby-for '' -a web"), "{}", ran.show());
}

#[tokio::test]
async fn directories_are_not_built() {
    for image in [".", "./app", "/srv/app", ".."] {
        for command in [&["run", image][..], &["create", image], &["update", ID, "-i", image]] {
            let ran = cli(&[&["m"], command, &["-a", "web"]].concat()).await;
            assert!(ran.code == 2 && ran.err.contains("not built here yet"), "{}", ran.show());
        }
    }
}

#[tokio::test]
async fn checks_are_waited_for_by_the_log() {
    expect![[r#"
        exit 0
        --- asked
        GET /v1/apps/web/machines/slow/events?limit=1
        POST /v1/apps/web/machines/slow/restart
        GET /v1/apps/web/machines/slow/wait?timeout=60&state=started
        GET /v1/apps/web/machines/slow
        GET /v1/apps/web/logs?follow=true&instance=slow&tail=0
        GET /v1/apps/web/machines/slow
        --- stderr
        Restarting machine slow
        Machine slow restarted successfully!
    "#]]
    .assert_eq(&cli(&["m", "restart", "slow", "-a", "web"]).await.show());
}
