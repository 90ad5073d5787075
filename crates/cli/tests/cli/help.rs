//! The reference page and the command lines that are refused.

use crate::fake::{ID, Setup, cli, cli_with, run};
use expect_test::expect;

#[test]
fn the_parser_is_consistent() {
    cli::command().debug_assert();
}

#[tokio::test]
async fn refusals() {
    expect![[r#"
        exit 2
        --- stderr
        error: --volume-name is not supported: volumes are not considered here yet

        Usage: updraft [OPTIONS] <COMMAND>

        For more information, try '--help'.
    "#]]
    .assert_eq(&cli(&["machine", "place", "--volume-name", "data"]).await.show());
    expect![[r#"
        exit 2
        --- stderr
        Error: No app is named
        Caused by: There is no --app, no FLY_APP and no fly.toml with an `app` here
        Hint: Give one with -a; `updraft apps list` shows the apps.
    "#]]
    .assert_eq(&cli(&["machine", "list"]).await.show());
    expect![[r#"
        exit 2
        --- stderr
        error: invalid value '99999' for '--port <PORT>': "99999" is not a port from 1 to 65535

        For more information, try '--help'.
    "#]]
    .assert_eq(&cli(&["m", "run", "x", "-p", "99999", "-a", "web"]).await.show());
}

#[tokio::test]
async fn no_daemon_and_no_token() {
    // Port 1 on loopback: nothing listens there.
    let vars = [("UPDRAFT_API", "http://127.0.0.1:1")];
    let ran = run(Setup::default(), &["apps", "list"], &vars).await;
    expect![[r#"
        exit 6
        --- stderr
        Error: Cannot list apps
        Caused by: connect to http://127.0.0.1:1
        Caused by: Connection refused (os error 111)
        Hint: Start the platform with `updraft up`; `updraft doctor` checks this machine.
        Hint: If it runs elsewhere, give its address with --api or UPDRAFT_API.
    "#]]
    .assert_eq(&ran.show());
    expect![[r#"
        exit 4
        --- stderr
        Error: Cannot list apps
        Caused by: The token is not known
        Hint: Give a token with -t or UPDRAFT_TOKEN; `updraft up` writes one to the config.
    "#]]
    .assert_eq(&cli(&["apps", "list", "-t", "wrong"]).await.show());
    expect![[r#"
        exit 2
        --- stderr
        Error: Cannot use this API
        Caused by: "nonsense" is not the URL of an API: relative URL without a base
        Hint: Give an address such as --api http://127.0.0.1:4280.
    "#]]
    .assert_eq(&cli(&["apps", "list", "--api", "nonsense"]).await.show());
    // The daemon's form of the same variable.
    let vars = [("UPDRAFT_API", "127.0.0.1:1")];
    let ran = run(Setup::default(), &["apps", "list"], &vars).await;
    assert!(ran.code == 6 && ran.err.contains("http://127.0.0.1:1"), "{}", ran.show());
}

/// Every exit code of docs/cli.md, each by a command that ends with it.
#[tokio::test]
async fn exit_codes_are_as_documented() {
    let mut seen = std::collections::BTreeSet::new();
    for (args, code) in [
        (&["apps", "list"][..], 0),
        (&["machine", "cordon", "broken", "-a", "web"], 1),
        (&["machine", "list"], 2),
        (&["machine", "wait", ID, "-a", "web", "--state", "flying"], 2),
        (&["deploy"], 2),
        (&["apps", "list", "--no-such-flag"], 2),
        (&["logs", "-a", "gone"], 3),
        (&["machine", "run", "missing", "-a", "web"], 3),
        (&["apps", "list", "-t", "wrong"], 4),
        (&["machine", "start", "dying", "-a", "web"], 5),
        (&["apps", "create", "taken"], 5),
        (&["apps", "list", "--api", "127.0.0.1:1"], 6),
        (&["machine", "wait", "never", "-a", "web", "--state", "started", "-w", "0"], 7),
        (&["machine", "exec", ID, "-a", "web", "--timeout", "0", "sleep 9"], 7),
        (&["machine", "exec", ID, "-a", "web", "-i", "no-program"], 126),
        (&["machine", "exec", ID, "-a", "web", "-i", "nowhere"], 127),
    ] {
        let ran = cli(args).await;
        assert_eq!(ran.code, code, "{args:?}: {}", ran.show());
        seen.insert(code);
    }
    let setup = Setup { broken_stdout: true, ..Setup::default() };
    seen.insert(cli_with(setup, &["apps", "list"]).await.code);
    let listed: std::collections::BTreeSet<u8> =
        cli::Exit::ALL.iter().map(|(exit, _)| exit.code()).collect();
    assert_eq!(seen, listed, "each code is shown by a command");
}

#[tokio::test]
async fn calls_and_warnings_are_shown() {
    let ran = cli(&["m", "create", "warned", "-a", "web", "--verbose"]).await;
    assert!(ran.err.contains("Warning: checks are not run yet\n"), "{}", ran.show());
    assert!(ran.err.contains("POST /v1/apps/web/machines: 200 in "), "{}", ran.show());
    let ran = cli(&["m", "create", "warned", "-a", "web"]).await;
    assert!(ran.err.contains("Warning: checks") && !ran.err.contains("POST"), "{}", ran.show());
    assert_eq!(cli(&["--debug", "apps", "list"]).await.code, 0);
}

#[tokio::test]
async fn version_and_completions() {
    let version = cli(&["version"]).await;
    assert!(version.out.starts_with("updraft v") && version.code == 0, "{}", version.show());
    let bash = cli(&["completions", "bash"]).await;
    // The script asks the program, which knows the names of apps and machines.
    assert!(bash.out.contains("COMPLETE=\"bash\"") && bash.code == 0, "{}", bash.out);
    assert!(bash.out.contains("complete") && bash.out.contains(" updraft"), "{}", bash.out);
}

#[tokio::test]
async fn a_reader_that_goes_away_is_no_news() {
    let setup = Setup { broken_stdout: true, ..Setup::default() };
    let ran = cli_with(setup, &["apps", "list"]).await;
    assert_eq!((ran.code, ran.err.as_str()), (141, ""));
}
