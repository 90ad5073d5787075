//! Commands in a machine.

use crate::fake::{ID, Setup, cli, cli_with};
use expect_test::expect;

fn input(input: &'static str) -> Setup {
    Setup { input, ..Setup::default() }
}

#[tokio::test]
async fn exec_ends_with_the_command_s_exit_code() {
    expect![[r#""#]].assert_eq(&cli(&["m", "exec", ID, "ls '-l a'", "-a", "web"]).await.show());
    expect![[r#""#]].assert_eq(&cli(&["m", "exec", "-a", "web", ID, "ls", "-l"]).await.show());
}

#[tokio::test]
async fn exec_passes_input_on_and_shows_output_as_it_comes() {
    let args = ["m", "exec", "-i", "-a", "web", ID, "cat"];
    expect![[r#""#]].assert_eq(&cli_with(input("hello\n"), &args).await.show());
    let args = ["m", "exec", "-i", "-a", "web", ID, "nowhere"];
    let ran = cli_with(input(""), &args).await;
    assert!(ran.code == 1 && ran.err.contains("nowhere: not found"), "{}", ran.show());
    assert_eq!(cli(&["m", "exec", "--tty", "-a", "web", ID, "sh"]).await.code, 2);
}

#[tokio::test]
async fn a_shell_s_machine_is_gone_afterwards() {
    let args = ["m", "run", "--shell", "web:1", "--command", "/bin/sh -i"];
    expect![[r#""#]].assert_eq(&cli_with(input("ls\n"), &args).await.show());
    let args = ["m", "run", "--shell", "web:1", "--command", "nowhere", "-a", "web"];
    let ran = cli_with(input(""), &args).await;
    assert!(ran.code == 1 && ran.err.contains("--command /bin/sh"), "{}", ran.show());
    let last = ran.asked.lines().last().unwrap();
    assert_eq!(last, format!("DELETE /v1/apps/web/machines/{ID}?force=true"));
}
