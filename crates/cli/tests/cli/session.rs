//! Commands in a machine.

use crate::fake::{ID, Setup, cli, cli_with};
use expect_test::expect;

fn input(input: &'static str) -> Setup {
    Setup { input, ..Setup::default() }
}

#[tokio::test]
async fn exec_ends_with_the_command_s_exit_code() {
    expect![[r#"
        exit 3
        --- asked
        POST /v1/apps/web/machines/3d8d413b29d089/exec {"command":["ls","-l a"]}
        --- stdout
        out
        --- stderr
        err
    "#]]
    .assert_eq(&cli(&["m", "exec", ID, "ls '-l a'", "-a", "web"]).await.show());
    expect![[r#"
        exit 2
        --- stderr
        error: unexpected argument '-l' found

          tip: to pass '-l' as a value, use '-- -l'

        Usage: updraft machine exec [OPTIONS] <ID> [COMMAND]...

        For more information, try '--help'.
    "#]]
    .assert_eq(&cli(&["m", "exec", "-a", "web", ID, "ls", "-l"]).await.show());
}

#[tokio::test]
async fn exec_passes_input_on_and_shows_output_as_it_comes() {
    let args = ["m", "exec", "-i", "-a", "web", ID, "cat"];
    expect![[r#"
        exit 7
        --- asked
        GET /v1/apps/web/machines/3d8d413b29d089/exec/stream
        ws {"argv":["cat"],"user":null,"env":[],"tty":null,"timeout_ms":null}
        ws {"eof":true}
        --- stdout
        HELLO
        --- stderr
        6 bytes
    "#]]
    .assert_eq(&cli_with(input("hello\n"), &args).await.show());
    let args = ["m", "exec", "-i", "-a", "web", ID, "nowhere"];
    let ran = cli_with(input(""), &args).await;
    assert!(ran.code == 127 && ran.err.contains("nowhere: not found"), "{}", ran.show());
    assert_eq!(cli(&["m", "exec", "--tty", "-a", "web", ID, "sh"]).await.code, 2);
}

#[tokio::test]
async fn a_shell_s_machine_is_gone_afterwards() {
    let args = ["m", "run", "--shell", "web:1", "--command", "/bin/sh -i"];
    expect![[r#"
        exit 7
        --- asked
        GET /v1/apps/updraft-interactive-shells
        POST /v1/apps {"app_name":"updraft-interactive-shells"}
        POST /v1/apps/updraft-interactive-shells/machines {"config":{"image":"web:1","init":{"exec":["/bin/sleep","inf"]},"restart":{"policy":"no"},"auto_destroy":true}}
        GET /v1/apps/updraft-interactive-shells/machines/3d8d413b29d089/wait?timeout=60&state=started%2Cstopped%2Cfailed%2Cdestroyed
        GET /v1/apps/updraft-interactive-shells/machines/3d8d413b29d089/exec/stream
        ws {"argv":["/bin/sh","-i"],"user":"root","env":[],"tty":null,"timeout_ms":null}
        ws {"eof":true}
        DELETE /v1/apps/updraft-interactive-shells/machines/3d8d413b29d089?force=true
        --- stdout
        LS
        --- stderr
        Machine 3d8d413b29d089 is temporary and gone when the shell ends
        Waiting for the machine to start...
        3 bytes
    "#]].assert_eq(&cli_with(input("ls\n"), &args).await.show());
    // Without --command: bash, or sh where there is none.
    let ran = cli_with(input(""), &["m", "run", "--shell", "web:1", "-a", "web"]).await;
    let shell = r#"["/bin/sh","-c","if [ -x /bin/bash ]; then exec /bin/bash; fi; exec /bin/sh"]"#;
    assert!(ran.asked.contains(shell), "{}", ran.show());
    let args = ["m", "run", "--shell", "web:1", "--command", "nowhere", "-a", "web"];
    let ran = cli_with(input(""), &args).await;
    assert!(ran.code == 127 && ran.err.contains("--command /bin/sh"), "{}", ran.show());
    let last = ran.asked.lines().last().unwrap();
    assert_eq!(last, format!("DELETE /v1/apps/web/machines/{ID}?force=true"));
}

#[tokio::test]
async fn ambiguous_arguments_are_refused() {
    let ran = cli(&["m", "exec", "-a", "web", ID, "sh", "-c", "x"]).await;
    assert!(ran.code == 2 && ran.err.contains("'-- -c'"), "{}", ran.show());
    let ran = cli(&["m", "exec", "-a", "web", ID, "--", "sh", "-c", "x y"]).await;
    assert!(ran.asked.contains(r#"["sh","-c","x y"]"#), "{}", ran.show());
}
