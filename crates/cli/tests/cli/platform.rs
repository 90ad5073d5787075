//! The platform, its organizations, and what is asked for on a terminal.

use crate::fake::{Setup, cli, cli_with};
use expect_test::expect;

fn terminal(input: &'static str) -> Setup {
    Setup { terminal: true, input, ..Setup::default() }
}

#[tokio::test]
async fn regions_sizes_and_state() {
    expect![[r#"
        exit 0
        --- asked
        GET /v1/platform/regions
        --- stdout
        NAME               CODE    CAPACITY
        here               here*   12
        old (deprecated)   old     0
    "#]]
    .assert_eq(&cli(&["platform", "regions"]).await.show());
    let regions = cli(&["platform", "regions", "--json"]).await;
    let regions: Vec<wire::platform::Region> = serde_json::from_str(&regions.out).unwrap();
    assert_eq!(regions[0].code, "here");
    expect![[r#"
        exit 0
        --- stdout
        NAME              CPU CORES   MEMORY
        shared-cpu-1x     1           256 MB
        shared-cpu-2x     2           512 MB
        shared-cpu-4x     4           1 GB
        shared-cpu-6x     6           1536 MB
        shared-cpu-8x     8           2 GB
        performance-1x    1           2 GB
        performance-2x    2           4 GB
        performance-4x    4           8 GB
        performance-6x    6           12 GB
        performance-8x    8           16 GB
        performance-10x   10          20 GB
        performance-12x   12          24 GB
        performance-14x   14          28 GB
        performance-16x   16          32 GB
    "#]]
    .assert_eq(&cli(&["platform", "vm-sizes"]).await.show());
    let sizes = cli(&["platform", "vm-sizes", "-j"]).await;
    let sizes: serde_json::Value = serde_json::from_str(&sizes.out).unwrap();
    let first = r#"{"cpu_kind":"shared","cpus":1,"memory_mb":256,"name":"shared-cpu-1x"}"#;
    assert_eq!(sizes[0].to_string(), first);
    expect![[r#"
        exit 0
        --- asked
        GET /v1/platform/hosts
        --- stdout
        HOST   NAME   REGION   ACCELERATOR   MACHINES           MEMORY USED
        0             here     kvm           20 of 23 started   731 of 4096 MiB (17%)
        1             there    tcg           0 of 0 started     0 of 2048 MiB (0%)
    "#]]
    .assert_eq(&cli(&["platform", "status"]).await.show());
    let hosts = cli(&["platform", "status", "hosts", "--json"]).await;
    let hosts: Vec<wire::platform::HostInfo> = serde_json::from_str(&hosts.out).unwrap();
    assert_eq!(hosts.len(), 2);
    let ran = cli(&["platform", "status", "incidents"]).await;
    assert!(ran.code == 2 && ran.err.contains("no page of incidents"), "{}", ran.show());
}

#[tokio::test]
async fn places_of_machines() {
    let args = ["m", "place", "--count", "4", "--region", "here,any", "--vm-size", "shared-cpu-2x"];
    let more = ["--weights", "region=50,spread=1", "-o", "acme"];
    expect![[r#"
        exit 0
        --- asked
        POST /v1/platform/placements {"compute":{"cpu_kind":"shared","cpus":2,"memory_mb":512},"region":"here,any","count":4,"org_slug":"acme","weights":{"region":50,"spread":1}}
        --- stdout
        REGION   COUNT   CONCURRENCY
        here     3       2
        there    1       1
    "#]].assert_eq(&cli(&[&args[..], &more].concat()).await.show());
    let json = cli(&["m", "place", "--json"]).await;
    let placements: wire::platform::Placements = serde_json::from_str(&json.out).unwrap();
    assert_eq!((placements.regions[0].count, placements.regions[1].concurrency), (3, 1));
    assert!(json.asked.ends_with("{\"count\":0,\"org_slug\":\"personal\"}\n"), "{}", json.show());
    let full = cli(&["m", "place", "--region", "full"]).await;
    assert_eq!((full.code, full.err.as_str()), (0, "No region has room for such a machine\n"));
    for (args, why) in [
        (
            &["--volume-name", "data"][..],
            "--volume-name is not supported: volumes are not considered here yet",
        ),
        (&["--weights", "region"], "has no number after ="),
        (&["--weights", "price=1"], "\"price\" has no weight; write region=50 or spread=1"),
    ] {
        let ran = cli(&[&["m", "place"], args].concat()).await;
        assert!(ran.code == 2 && ran.err.contains(why), "{}", ran.show());
    }
}

#[tokio::test]
async fn what_is_missing_is_asked_for_on_a_terminal_only() {
    for (args, input, asked) in [
        (&["orgs", "create"][..], "Acme\n", r#"POST /v1/orgs {"name":"Acme"}"#),
        (&["orgs", "show"], "2\n", "GET /v1/orgs/acme"),
        (&["orgs", "delete"], "2\ny\n", "DELETE /v1/orgs/acme"),
        (
            &["orgs", "invite"],
            "1\na@b\n",
            r#"POST /v1/orgs/personal/members {"email":"a@b","role":"member"}"#,
        ),
        (&["orgs", "remove", "acme"], "a@b\n", "DELETE /v1/orgs/acme/members/a@b"),
        (
            &["apps", "create"],
            "shop\n2\n",
            r#"POST /v1/apps {"app_name":"shop","org_slug":"acme"}"#,
        ),
        (&["apps", "create", "shop", "-y"], "", r#"POST /v1/apps {"app_name":"shop"}"#),
        (&["machine", "list"], "1\n", "GET /v1/apps/web/machines"),
        (&["checks", "show"], "1\n2\n", "GET /v1/apps/web/machines/3d8d413b29d08a/checks"),
        (&["m", "place"], "2\n", r#"POST /v1/platform/placements {"count":0,"org_slug":"acme"}"#),
    ] {
        let ran = cli_with(terminal(input), args).await;
        assert!(ran.code == 0 && ran.asked.lines().any(|line| line == asked), "{}", ran.show());
    }
    for (args, error) in [
        (&["orgs", "create"][..], "The name of the organization is not given"),
        (&["orgs", "delete", "-y"], "No organization is named"),
        (&["orgs", "invite"], "No organization is named"),
        (&["orgs", "remove", "acme"], "The e-mail address of the member is not given"),
        (&["apps", "create"], "No name is given"),
        (&["machine", "list"], "No app is named"),
        (&["checks", "show", "-a", "web"], "No machine is named"),
    ] {
        let ran = cli(args).await;
        assert!(ran.code == 2 && ran.err.contains(error), "{}", ran.show());
        assert!(ran.err.contains("Hint: ") && ran.asked.is_empty(), "{}", ran.show());
    }
    let ran = cli_with(terminal("7\n"), &["machine", "list"]).await;
    assert!(ran.code == 2 && ran.err.contains("No app was chosen"), "{}", ran.show());
}

#[tokio::test]
async fn the_machines_of_an_app_are_restarted() {
    expect![[r#"
        exit 0
        --- asked
        GET /v1/apps/web/machines
        GET /v1/apps/web/machines/3d8d413b29d089/events?limit=1
        POST /v1/apps/web/machines/3d8d413b29d089/restart?force_stop=true
        GET /v1/apps/web/machines/3d8d413b29d089/wait?timeout=60&state=started
        GET /v1/apps/web/machines/3d8d413b29d089
        --- stderr
        Restarting machine 3d8d413b29d089
        Machine 3d8d413b29d089 restarted successfully!
        1 machine does not run and is left as it is
    "#]]
    .assert_eq(&cli(&["apps", "restart", "web", "--force-stop"]).await.show());
    let ran = cli(&["apps", "restart", "empty"]).await;
    assert_eq!((ran.code, ran.err.as_str()), (0, "No machine of app empty runs\n"));
    let open = cli(&["apps", "open", "/health", "-a", "web"]).await;
    assert_eq!(open.out, "http://web.localhost:8080/health\n");
}

#[tokio::test]
async fn the_proxy_begins_only_with_a_valid_token_and_on_loopback() {
    for (args, code, why) in [
        (&["--bind", "0.0.0.0:0"][..], 2, "only addresses of loopback"),
        (&["--bind", "localhost"], 2, "is not of the form"),
        (&["-t", "wrong"], 4, "Cannot ask about the token"),
        (&["-o", "gone"], 3, "Cannot find organization gone"),
    ] {
        let ran = cli(&[&["m", "api-proxy"], args].concat()).await;
        assert!(ran.code == code && ran.err.contains(why), "{}", ran.show());
    }
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let ran = cli(&["m", "api-proxy", "--bind", &address]).await;
    assert!(ran.code == 1 && ran.err.contains("127.0.0.1:0 for a free port"), "{}", ran.show());
}
