//! Machines, status and logs.

use crate::fake::{ID, Setup, cli, cli_with};
use expect_test::expect;

fn terminal(input: &'static str) -> Setup {
    Setup { terminal: true, input, ..Setup::default() }
}

#[tokio::test]
async fn list_and_status() {
    expect![[r#"
        exit 0
        --- asked
        GET /v1/apps/web/machines
        --- stdout
        ID               NAME   STATE     CHECKS   REGION   ROLE   IMAGE   IP ADDRESS           VOLUME   CREATED                    LAST UPDATED               PROCESS GROUP   SIZE
        3d8d413b29d089   one    started   1/1      here            web:1   fdaa:0:1:0:1:0:0:2            2026-11-20T10:00:00.000Z   2026-11-20T10:00:01.000Z   app             shared-cpu-1x:256MB
        3d8d413b29d08a   two    stopped   1/1      here            web:1   fdaa:0:1:0:1:0:0:2            2026-11-20T10:00:00.000Z   2026-11-20T10:00:01.000Z   app             shared-cpu-1x:256MB
    "#]].assert_eq(&cli(&["m", "list", "-a", "web"]).await.show());
    expect![[r#"
        exit 0
        --- asked
        GET /v1/apps/empty/machines
        --- stderr
        No machines are available on this app empty
    "#]]
    .assert_eq(&cli(&["m", "list", "-a", "empty"]).await.show());
    expect![[r#"
        exit 0
        --- asked
        GET /v1/apps/web/machines/3d8d413b29d089
        --- stdout
        Machine ID: 3d8d413b29d089
        Instance ID: 01J00000000000000000000001
        State: started

        VM
                     ID = 3d8d413b29d089
            Instance ID = 01J00000000000000000000001
                  State = started
                  Image = web:1
                   Name = one
             Private IP = fdaa:0:1:0:1:0:0:2
                 Region = here
          Process Group = app
               CPU Kind = shared
                  vCPUs = 1
                 Memory = 256
                Created = 2026-11-20T10:00:00.000Z
                Updated = 2026-11-20T10:00:01.000Z
             Entrypoint =
                Command =
              Isolation = tcg

        Checks [1/1]
        NAME    STATUS    LAST UPDATED               OUTPUT
        alive   passing   2026-11-20T10:00:01.000Z   ok

        Event Logs
        STATE     EVENT    SOURCE   TIMESTAMP                  INFO
        stopped   exit     flyd     2026-11-21T00:08:25.123Z   exit_code=3,oom_killed=false,requested_stop=false
        created   launch   user     2026-11-21T00:08:20.000Z

        Config:
        {
          "image": "web:1",
          "env": {
            "A": "1"
          },
          "guest": {
            "cpu_kind": "shared",
            "cpus": 1,
            "memory_mb": 256
          },
          "metadata": {
            "fly_process_group": "app"
          },
          "services": [
            {
              "protocol": "tcp",
              "internal_port": 8080,
              "ports": [
                {
                  "port": 80,
                  "handlers": [
                    "http"
                  ]
                }
              ]
            }
          ]
        }
    "#]].assert_eq(&cli(&["m", "status", ID, "-a", "web", "-d"]).await.show());
    expect![[r#"
        exit 0
        --- asked
        GET /v1/apps/web
        GET /v1/apps/web/machines
        --- stdout
        App
              Name = web
             Owner = personal
          Hostname = web.localhost:8080
             Image = web:1
           Network = default

        Machines
        PROCESS   ID               VERSION   REGION   STATE     ROLE   CHECKS               LAST UPDATED
        app       3d8d413b29d089             here     started          1 total, 1 passing   2026-11-20T10:00:01.000Z
        app       3d8d413b29d08a             here     stopped          1 total, 1 passing   2026-11-20T10:00:01.000Z
    "#]].assert_eq(&cli(&["status", "-a", "web"]).await.show());
    let json = cli(&["status", "-a", "web", "--json"]).await;
    let json: serde_json::Value = serde_json::from_str(&json.out).unwrap();
    let keys: Vec<_> = json.as_object().unwrap().keys().cloned().collect();
    expect!["AppURL Deployed Hostname ID Machines Name Network Organization PlatformVersion Status Version"].assert_eq(&keys.join(" "));
    let list = cli(&["m", "list", "-a", "web", "--json"]).await;
    let list: Vec<wire::machines::Machine> = serde_json::from_str(&list.out).unwrap();
    assert_eq!(list.len(), 2);
}

#[tokio::test]
async fn run_and_create() {
    let args = ["m", "run", "web:1", "-a", "web", "-p", "80:8080/tcp:http", "sh", "-c", "x"];
    expect![[r#"
        exit 0
        --- asked
        GET /v1/apps/web
        POST /v1/apps/web/machines {"config":{"image":"web:1","init":{"cmd":["sh","-c","x"]},"services":[{"protocol":"tcp","internal_port":8080,"ports":[{"port":80,"handlers":["http"]}],"autostart":true}],"restart":{"policy":"always"}}}
        GET /v1/images
        GET /v1/apps/web/machines/3d8d413b29d089/wait?timeout=60&state=started%2Cstopped%2Csuspended%2Cfailed%2Cdestroyed
        GET /v1/apps/web/machines/3d8d413b29d089/wait?timeout=1&state=stopped%2Cfailed%2Cdestroyed&from_event_id=01J2
        GET /v1/apps/web/machines/3d8d413b29d089
        GET /v1/apps/web/machines/3d8d413b29d089
        --- stdout

        Success! A Machine has been successfully launched in app web
         Machine ID: 3d8d413b29d089
         Instance ID: 01J00000000000000000000001
         State: created

        Machine started, you can connect via the following private ip
          fdaa:0:1:0:1:0:0:2
        The edge answers for it at
          http://web.localhost:8080
        --- stderr
        Searching for image 'web:1' ...
        Image size: 30 MB
        Waiting for the machine to start...
        Machine 3d8d413b29d089 is started
    "#]].assert_eq(&cli(&args).await.show());
    expect![[r#"
        exit 0
        --- asked
        GET /v1/apps/web
        POST /v1/apps/web/machines {"config":{"image":"web:1","restart":{"policy":"no"},"auto_destroy":true},"skip_launch":true}
        GET /v1/images
        --- stdout

        Success! A Machine has been successfully created in app web
         Machine ID: 3d8d413b29d089
         Instance ID: 01J00000000000000000000001
         State: created
        --- stderr
        Searching for image 'web:1' ...
        Image size: 30 MB
    "#]].assert_eq(&cli(&["m", "create", "web:1", "-a", "web", "--rm"]).await.show());
    expect![[r#"
        exit 3
        --- asked
        GET /v1/apps/web
        POST /v1/apps/web/machines {"config":{"image":"missing","restart":{"policy":"always"}}}
        --- stderr
        Searching for image 'missing' ...
        Error: Cannot create a machine in app web
        Caused by: There is no image "missing"
        Hint: `updraft image list` shows the images
    "#]]
    .assert_eq(&cli(&["m", "run", "missing", "-a", "web"]).await.show());
    expect![[r#"
        exit 3
        --- asked
        GET /v1/apps/gone
        --- stderr
        Error: Cannot find app gone
        Caused by: Could not find App "gone"
        Hint: Create it with `updraft apps create gone`, or give --yes.
    "#]]
    .assert_eq(&cli(&["m", "run", "web:1", "-a", "gone"]).await.show());
    let config = r#"{"image":"web:1","restart":{"policy":"no"},"future":1}"#;
    let args = ["m", "run", "-a", "web", "--detach", "--machine-config", config, "--memory", "1gb"];
    expect![[r#"
        GET /v1/apps/web
        POST /v1/apps/web/machines {"config":{"image":"web:1","guest":{"memory_mb":1024},"restart":{"policy":"no"},"future":1}}
        GET /v1/images
    "#]].assert_eq(&cli(&args).await.asked);
}

#[tokio::test]
async fn flags_after_the_command_belong_to_it() {
    let ran = cli(&["m", "run", "web:1", "sleep", "1", "-a", "web"]).await;
    assert!(ran.code == 2 && ran.err.contains("Hint: -a comes after"), "{}", ran.show());
}

#[tokio::test]
async fn flags_after_the_image_are_flags() {
    let args = ["m", "create", "web:1", "--vm-memory", "512", "-a", "web", "-e", "A=b"];
    let ran = cli(&args).await;
    assert!(ran.asked.contains(r#""memory_mb":512"#) && ran.code == 0, "{}", ran.show());
    assert!(!ran.asked.contains("cmd"), "{}", ran.show());
    let args = ["m", "create", "web:1", "-a", "web", "--vm-memory", "512", "sleep", "--help"];
    let ran = cli(&args).await;
    assert!(ran.asked.contains(r#""cmd":["sleep","--help"]"#), "{}", ran.show());
}

#[tokio::test]
async fn a_machine_that_crashes_at_once_is_a_failure() {
    let ran = cli(&["m", "run", "crasher", "-a", "web"]).await;
    expect![[r#"
        Searching for image 'crasher' ...
        Image size: 30 MB
        Waiting for the machine to start...
        Error: Machine crasher has ended
        Caused by: Its main process ended with exit code 3
        Caused by: It wrote: hello
        Caused by: It wrote: bell\u{7} rung
        Hint: `updraft logs -n -a web -m crasher` shows what it wrote.
    "#]]
    .assert_eq(&ran.err);
    assert_eq!(ran.code, 1);
}

#[tokio::test]
async fn a_machine_that_crashes_and_is_started_again_at_once_is_a_failure() {
    let ran = cli(&["m", "run", "looper", "-a", "web", "--restart", "always"]).await;
    assert_eq!(ran.code, 1, "{}", ran.show());
    for text in ["Machine looper has ended", "exit code 3", "Its restart policy starts it again"] {
        assert!(ran.err.contains(text), "{}", ran.show());
    }
}

#[tokio::test]
async fn a_start_during_a_stop_reports_when_it_will_happen() {
    let ran = cli(&["m", "start", "stopping", "-a", "web"]).await;
    assert_eq!(ran.err, "stopping is still stopping; it starts again once it is down\n");
}

#[tokio::test]
async fn machines_that_are_destroyed_are_not_destroyed_again() {
    let ran = cli(&["m", "destroy", "-f", "--image", "web:1", "-a", "half-gone"]).await;
    assert_eq!(ran.asked.matches("DELETE").count(), 1, "{}", ran.show());
}

#[tokio::test]
async fn lists_fit_a_terminal_of_80_columns() {
    let setup = Setup { columns: Some(80), ..Setup::default() };
    let ran = cli_with(setup, &["m", "list", "-a", "web"]).await;
    assert!(ran.out.lines().all(|line| line.chars().count() <= 80), "{}", ran.out);
    assert!(ran.out.contains(ID) && ran.out.contains("STATE"), "{}", ran.out);
}

#[tokio::test]
async fn an_app_is_opened_by_its_url() {
    let ran = cli(&["open", "/health", "-a", "web"]).await;
    assert_eq!((ran.code, ran.out.as_str()), (0, "http://web.localhost:8080/health\n"));
}

#[tokio::test]
async fn apps_as_json_have_flyctl_s_names() {
    for args in [&["apps", "create", "web", "--json"][..], &["apps", "list", "--json"]] {
        let ran = cli(args).await;
        let value: serde_json::Value = serde_json::from_str(&ran.out).unwrap();
        let app = value.get(0).unwrap_or(&value);
        assert_eq!((&app["ID"], &app["Name"]), (&"app_1".into(), &"web".into()), "{}", ran.out);
        assert_eq!(app["Organization"]["Slug"], "personal", "{}", ran.out);
    }
}

#[tokio::test]
async fn start_stop_and_the_like() {
    expect![[r#"
        exit 5
        --- asked
        POST /v1/apps/web/machines/3d8d413b29d089/start
        POST /v1/apps/web/machines/dying/start
        --- stderr
        3d8d413b29d089 has been started
        Error: Cannot start machine dying
        Caused by: It is being destroyed (begun 12 seconds ago)
    "#]]
    .assert_eq(&cli(&["m", "start", ID, "dying", "-a", "web"]).await.show());
    let args = ["m", "stop", ID, "-a", "web", "--signal", "SIGINT", "--timeout", "9", "-w", "1m"];
    expect![[r#"
        exit 0
        --- asked
        POST /v1/apps/web/machines/3d8d413b29d089/stop {"signal":"SIGINT","timeout":"9s"}
        GET /v1/apps/web/machines/3d8d413b29d089/wait?timeout=60&state=stopped
        --- stderr
        Stopping machine 3d8d413b29d089
        3d8d413b29d089 has been successfully stopped
    "#]]
    .assert_eq(&cli(&args).await.show());
    let args = ["m", "restart", ID, "-a", "web", "--time", "3", "--force"];
    expect![[r#"
        exit 0
        --- asked
        GET /v1/apps/web/machines/3d8d413b29d089/events?limit=1
        POST /v1/apps/web/machines/3d8d413b29d089/restart?timeout=3s&force_stop=true
        GET /v1/apps/web/machines/3d8d413b29d089/wait?timeout=60&state=started
        GET /v1/apps/web/machines/3d8d413b29d089
        --- stderr
        Restarting machine 3d8d413b29d089
        Machine 3d8d413b29d089 restarted successfully!
    "#]]
    .assert_eq(&cli(&args).await.show());
    expect![[r#"
        exit 0
        --- asked
        POST /v1/apps/web/machines/3d8d413b29d089/signal {"signal":9}
        --- stderr
        Sent SIGKILL to machine 3d8d413b29d089
    "#]]
    .assert_eq(&cli(&["m", "kill", ID, "-a", "web"]).await.show());
    expect![[r#"
        exit 1
        --- asked
        POST /v1/apps/web/machines/3d8d413b29d089/cordon
        POST /v1/apps/web/machines/broken/cordon
        --- stderr
        Cordoned machine 3d8d413b29d089
        Error: Cannot cordon machine broken
        Caused by: disk full
        Caused by: Request 01REQ failed with HTTP 500
    "#]]
    .assert_eq(&cli(&["m", "cordon", ID, "broken", "-a", "web"]).await.show());
    expect![[r#"
        exit 5
        --- asked
        DELETE /v1/apps/web/machines/dying
        --- stderr
        Error: Cannot destroy machine dying
        Caused by: It is being destroyed (begun 12 seconds ago)
        Hint: Stop it with `updraft machine stop dying -a web`.
        Hint: Or use `updraft machine destroy --force dying -a web`.
    "#]]
    .assert_eq(&cli(&["m", "destroy", "dying", "-a", "web"]).await.show());
    let args = ["m", "destroy", "-f", "--image", "web:1", "-a", "web"];
    expect![[r#"
        exit 0
        --- asked
        GET /v1/apps/web/machines
        DELETE /v1/apps/web/machines/3d8d413b29d089?force=true
        DELETE /v1/apps/web/machines/3d8d413b29d08a?force=true
        --- stderr
        Destroyed machine 3d8d413b29d089
        Destroyed machine 3d8d413b29d08a
    "#]]
    .assert_eq(&cli(&args).await.show());
}

#[tokio::test]
async fn waiting_is_bounded() {
    expect![[r#"
        exit 0
        --- asked
        GET /v1/apps/web/machines/3d8d413b29d089/wait?timeout=60&state=settled
        --- stderr
        Machine 3d8d413b29d089 is stopped
    "#]]
    .assert_eq(&cli(&["m", "wait", ID, "-a", "web"]).await.show());
    let ran = cli(&["m", "wait", "never", "-a", "web", "--state", "started", "-w", "0"]).await;
    expect![[r#"
        exit 7
        --- stderr
        Error: Machine never is not started after 0 seconds
        Hint: `updraft machine status never -a web` shows what it does.
    "#]]
    .assert_eq(&ran.show());
}

#[tokio::test]
async fn machines_are_chosen_from_a_list() {
    let ran = cli_with(terminal("2\n"), &["m", "start", "-a", "web"]).await;
    expect![[r#"
        exit 0
        --- asked
        GET /v1/apps/web/machines
        POST /v1/apps/web/machines/3d8d413b29d08a/start
        --- stderr
          1) 3d8d413b29d089 one (started, region here, process group 'app')
          2) 3d8d413b29d08a two (stopped, region here, process group 'app')
        Machines (numbers, separated by blanks): 3d8d413b29d08a has been started
    "#]]
    .assert_eq(&ran.show());
    let ran = cli_with(terminal("1 7\n"), &["m", "start", "-a", "web"]).await;
    assert!(ran.code == 2 && ran.err.contains("\"7\" is not in the list"), "{}", ran.show());
    expect![[r#"
        exit 2
        --- stderr
        Error: No machine is named
        Caused by: The input is not a terminal, so none can be chosen
        Hint: `updraft machine list -a web` shows the machines.
    "#]]
    .assert_eq(&cli(&["m", "start", "-a", "web"]).await.show());
}

#[tokio::test]
async fn update_shows_what_changes_and_asks() {
    let args = ["m", "update", ID, "-a", "web", "-e", "A=2", "--detach"];
    expect![[r#"
        exit 0
        --- asked
        GET /v1/apps/web/machines/3d8d413b29d089
        POST /v1/apps/web/machines/3d8d413b29d089 {"config":{"image":"web:1","env":{"A":"2"},"guest":{"cpu_kind":"shared","cpus":1,"memory_mb":256},"metadata":{"fly_process_group":"app"},"services":[{"protocol":"tcp","internal_port":8080,"ports":[{"port":80,"handlers":["http"]}]}]},"current_version":"01J00000000000000000000001"}
        --- stderr
        Configuration changes to be applied to machine 3d8d413b29d089:

          {
            "env": {
        -     "A": "1"
        +     "A": "2"
            },
            "guest": {
              "cpu_kind": "shared",
          …

        Apply changes? (y/N) Updating machine 3d8d413b29d089
        Machine 3d8d413b29d089 updated successfully!
    "#]].assert_eq(&cli_with(terminal("y\n"), &args).await.show());
    let ran = cli_with(terminal("n\n"), &args).await;
    assert!(ran.code == 0 && ran.err.ends_with("Nothing was changed.\n"), "{}", ran.show());
    assert!(!ran.asked.contains("POST"), "{}", ran.show());
    assert_eq!(cli(&args).await.code, 2);
    let same = cli(&["m", "update", ID, "-a", "web", "-e", "A=1"]).await;
    assert_eq!(same.err, format!("Nothing to change on machine {ID}\n"));
}

#[tokio::test]
async fn logs() {
    expect![[r#"
        exit 0
        --- asked
        GET /v1/apps/web/logs?follow=false&instance=3d8d413b29d089&tail=100
        --- stdout
        2026-11-21T00:08:25.124Z app[3d8d413b29d089] here [info]hello
        2026-11-21T00:08:25.125Z app[3d8d413b29d089] here [info]bell\u{7} rung
    "#]]
    .assert_eq(&cli(&["logs", "-n", "-a", "web", "-i", ID]).await.show());
    let json = cli(&["logs", "-n", "-a", "web", "--json"]).await;
    assert_eq!(json.out.lines().count(), 2);
    expect![[r#"
        exit 3
        --- asked
        GET /v1/apps/gone/logs?follow=true&tail=100
        --- stderr
        Error: Cannot read the logs of app gone
        Caused by: Could not find App "gone"
    "#]]
    .assert_eq(&cli(&["logs", "-a", "gone"]).await.show());
}
