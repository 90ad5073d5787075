//! Secrets.

use crate::fake::{Setup, cli, cli_with};
use expect_test::expect;

#[tokio::test]
async fn a_change_restarts_the_machines_that_run() {
    let ran = cli(&["secrets", "set", "A=hunter2", "B=x=y", "-a", "web"]).await;
    expect![[r#"
        exit 0
        --- asked
        GET /v1/apps/web/secrets
        POST /v1/apps/web/secrets {"values":{"A":"hunter2","B":"x=y"}}
        GET /v1/apps/web/machines
        GET /v1/apps/web/machines/3d8d413b29d089/events?limit=1
        POST /v1/apps/web/machines/3d8d413b29d089/restart
        GET /v1/apps/web/machines/3d8d413b29d089/wait?timeout=60&state=started
        --- stderr
        Updating machine 3d8d413b29d089 [app]
        Machine 3d8d413b29d089 [app] update finished: success
        Finished deploying
    "#]]
    .assert_eq(&ran.show());
    let ran = cli(&["secrets", "unset", "A", "--detach", "-a", "web", "--group", "app"]).await;
    expect![[r#"
        exit 0
        --- asked
        GET /v1/apps/web/secrets
        POST /v1/apps/web/secrets {"values":{"A":null},"scope":{"group":"app"}}
        GET /v1/apps/web/machines
        GET /v1/apps/web/machines/3d8d413b29d089/events?limit=1
        POST /v1/apps/web/machines/3d8d413b29d089/restart
        --- stderr
        Updating machine 3d8d413b29d089 [app]
        Machines are being restarted
    "#]]
    .assert_eq(&ran.show());
}

#[tokio::test]
async fn a_staged_change_restarts_nothing() {
    let input = "# comment\nA=1\nB=\"\"\"first\nsecond\"\"\"\n";
    let setup = || Setup { input, ..Setup::default() };
    let args = ["secrets", "import", "--stage", "-a", "web", "--machine", "one"];
    expect![[r#"
        exit 0
        --- asked
        GET /v1/apps/web/secrets
        POST /v1/apps/web/secrets {"values":{"A":"1","B":"first\nsecond"},"scope":{"machine":"one"}}
        --- stderr
        Secrets have been staged, but not set on machines. Machines take them when they are started or updated, or with `updraft secrets deploy -a web`.
    "#]].assert_eq(&cli_with(setup(), &args).await.show());
    let setup = Setup { input: "from a pipe\n", ..Setup::default() };
    let ran = cli_with(setup, &["secrets", "set", "A=-", "--stage", "-a", "web"]).await;
    assert!(ran.asked.contains(r#"{"values":{"A":"from a pipe"}}"#), "{}", ran.show());
}

#[tokio::test]
async fn what_is_no_secret_is_not_shown() {
    for (args, input, expected) in [
        (&["secrets", "set", "hunter2"][..], "", "Cannot use argument 1 as a secret"),
        (&["secrets", "set", "A=-", "B=-"], "x", "Cannot read the standard input twice"),
        (&["secrets", "import"], "A=1\nhunter2\n", "line 2 is not of the form NAME=VALUE"),
        (&["secrets", "import"], "# nothing\n", "The standard input has none"),
        (&["secrets", "set", "1A=hunter2"], "", "values.1A: must be a name"),
        (&["secrets", "set", "A=x", "--group", "g", "--machine", "m"], "", "cannot be used with"),
        (&["secrets", "set", "A=x", "--dns-checks"], "", "there are no .internal names"),
    ] {
        let setup = Setup { input, ..Setup::default() };
        let ran = cli_with(setup, &[args, &["-a", "web"]].concat()).await;
        assert_ne!(ran.code, 0, "{args:?}");
        assert!(
            ran.err.contains(expected) && !ran.err.contains("hunter2"),
            "{args:?}: {}",
            ran.err
        );
    }
}

#[tokio::test]
async fn a_list_shows_which_machines_have_what() {
    expect![[r#"
        exit 0
        --- asked
        GET /v1/apps/web/secrets
        GET /v1/apps/web/machines
        --- stdout
        NAME      DIGEST             STATUS     SCOPE          UPDATED AT
        OLD       00aa11bb22cc33dd   Deployed                  2026-11-20T10:00:01.000Z
        * NEW     00aa11bb22cc33dd   Staged                    2026-11-20T10:00:01.000Z
        * QUEUE   00aa11bb22cc33dd   Staged     group worker   2026-11-20T10:00:01.000Z
        --- stderr
        `updraft secrets deploy -a web` brings staged secrets to machines.
    "#]]
    .assert_eq(&cli(&["secrets", "list", "-a", "web"]).await.show());
    let ran = cli(&["secrets", "ls", "--json", "-a", "web"]).await;
    let json: serde_json::Value = serde_json::from_str(&ran.out).unwrap();
    assert_eq!((&json[1]["name"], &json[1]["status"]), (&"NEW".into(), &"Staged".into()));
    let ran = cli(&["secrets", "deploy", "-a", "web"]).await;
    assert!(ran.err.contains("update finished: success\nFinished deploying"), "{}", ran.show());
}

#[tokio::test]
async fn secret_keys_are_managed_and_used() {
    expect![[r#"
        exit 0
        --- asked
        GET /v1/apps/web/secretkeys
        --- stdout
        NAME      TYPE        PUBLIC KEY
        cookies   hs256
        sig       nacl_sign   aGk=
    "#]]
    .assert_eq(&cli(&["secrets", "keys", "list", "-a", "web"]).await.show());
    for (args, typed, asked) in [
        (
            &["generate", "hs256", "cookies"][..],
            "",
            r#"/cookies/generate {"type":"hs256","value":null}"#,
        ),
        (&["set", "hs256", "cookies"], "a2V5\n", r#"/cookies {"type":"hs256","value":"a2V5"}"#),
        (&["delete", "cookies", "-y"], "", "/cookies"),
        (&["sign", "cookies"], "hi", r#"/cookies/sign {"plaintext":"aGk="}"#),
        (
            &["verify", "cookies", "--signature", "c2ln"],
            "hi",
            r#"/cookies/verify {"plaintext":"aGk=","signature":"c2ln"}"#,
        ),
        (
            &["encrypt", "cookies", "--associated-data", "user"],
            "hi",
            r#"/cookies/encrypt {"plaintext":"aGk=","associated_data":"dXNlcg=="}"#,
        ),
    ] {
        let setup = Setup { input: typed, ..Setup::default() };
        let ran = cli_with(setup, &[&["secrets", "keys"], args, &["-a", "web"]].concat()).await;
        let line = ran.asked.lines().last().unwrap_or_default();
        assert!(ran.code == 0 && line.ends_with(asked), "{}", ran.show());
        assert!(!ran.err.contains("a2V5") && !ran.out.contains("a2V5"), "{}", ran.show());
    }
    let run = async |input, args: &[&str]| {
        let setup = Setup { input, ..Setup::default() };
        cli_with(setup, &[&["secrets", "keys"], args, &["-a", "web"]].concat()).await
    };
    assert_eq!(run("hi", &["sign", "cookies"]).await.out, "c2ln\n");
    assert_eq!(run("hi", &["encrypt", "cookies"]).await.out, "Y2lwaGVy\n");
    assert_eq!(run("Y2lw\naGVy\n", &["decrypt", "cookies"]).await.out, "hi");
    let wrong = run("hi", &["verify", "cookies", "--signature", "AAAA"]).await;
    assert!(wrong.code == 1 && wrong.err.contains("not that of the message"), "{}", wrong.show());
    // What is no base64 is not quoted: it may be a key.
    let wrong = run("geheim!", &["set", "hs256", "cookies"]).await;
    assert!(wrong.code == 2 && !wrong.err.contains("geheim"), "{}", wrong.show());
    assert_eq!(run("", &["delete", "cookies"]).await.code, 2, "it is asked first");
}
