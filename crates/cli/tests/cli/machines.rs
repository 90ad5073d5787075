//! Machines, status and logs.

use crate::fake::{ID, Setup, cli, cli_with};
use expect_test::expect;

fn terminal(input: &'static str) -> Setup {
    Setup { terminal: true, input, ..Setup::default() }
}

#[tokio::test]
async fn list_and_status() {
    expect![[r#""#]].assert_eq(&cli(&["m", "list", "-a", "web"]).await.show());
    expect![[r#""#]].assert_eq(&cli(&["m", "list", "-a", "empty"]).await.show());
    expect![[r#""#]].assert_eq(&cli(&["m", "status", ID, "-a", "web", "-d"]).await.show());
    expect![[r#""#]].assert_eq(&cli(&["status", "-a", "web"]).await.show());
    let json = cli(&["status", "-a", "web", "--json"]).await;
    let json: serde_json::Value = serde_json::from_str(&json.out).unwrap();
    let keys: Vec<_> = json.as_object().unwrap().keys().cloned().collect();
    expect![[r#""#]].assert_eq(&keys.join(" "));
    let list = cli(&["m", "list", "-a", "web", "--json"]).await;
    let list: Vec<wire::machines::Machine> = serde_json::from_str(&list.out).unwrap();
    assert_eq!(list.len(), 2);
}

#[tokio::test]
async fn run_and_create() {
    let args = ["m", "run", "web:1", "-a", "web", "-p", "80:8080/tcp:http", "sh", "-c", "x"];
    expect![[r#""#]].assert_eq(&cli(&args).await.show());
    expect![[r#""#]].assert_eq(&cli(&["m", "create", "web:1", "-a", "web", "--rm"]).await.show());
    expect![[r#""#]].assert_eq(&cli(&["m", "run", "missing", "-a", "web"]).await.show());
    expect![[r#""#]].assert_eq(&cli(&["m", "run", "web:1", "-a", "gone"]).await.show());
    let config = r#"{"image":"web:1","restart":{"policy":"no"},"future":1}"#;
    let args = ["m", "run", "-a", "web", "--detach", "--machine-config", config, "--memory", "1gb"];
    expect![[r#""#]].assert_eq(&cli(&args).await.asked);
}

#[tokio::test]
async fn start_stop_and_the_like() {
    expect![[r#""#]].assert_eq(&cli(&["m", "start", ID, "dying", "-a", "web"]).await.show());
    let args = ["m", "stop", ID, "-a", "web", "--signal", "SIGINT", "--timeout", "9", "-w", "1m"];
    expect![[r#""#]].assert_eq(&cli(&args).await.show());
    let args = ["m", "restart", ID, "-a", "web", "--time", "3", "--force"];
    expect![[r#""#]].assert_eq(&cli(&args).await.show());
    expect![[r#""#]].assert_eq(&cli(&["m", "kill", ID, "-a", "web"]).await.show());
    expect![[r#""#]].assert_eq(&cli(&["m", "cordon", ID, "broken", "-a", "web"]).await.show());
    expect![[r#""#]].assert_eq(&cli(&["m", "destroy", "dying", "-a", "web"]).await.show());
    let args = ["m", "destroy", "-f", "--image", "web:1", "-a", "web"];
    expect![[r#""#]].assert_eq(&cli(&args).await.show());
}

#[tokio::test]
async fn waiting_is_bounded() {
    expect![[r#""#]].assert_eq(&cli(&["m", "wait", ID, "-a", "web"]).await.show());
    let ran = cli(&["m", "wait", "never", "-a", "web", "--state", "started", "-w", "0"]).await;
    expect![[r#""#]].assert_eq(&ran.show());
}

#[tokio::test]
async fn machines_are_chosen_from_a_list() {
    let ran = cli_with(terminal("2\n"), &["m", "start", "-a", "web"]).await;
    expect![[r#""#]].assert_eq(&ran.show());
    let ran = cli_with(terminal("1 7\n"), &["m", "start", "-a", "web"]).await;
    assert!(ran.code == 2 && ran.err.contains("\"7\" is not in the list"), "{}", ran.show());
    expect![[r#""#]].assert_eq(&cli(&["m", "start", "-a", "web"]).await.show());
}

#[tokio::test]
async fn update_shows_what_changes_and_asks() {
    let args = ["m", "update", ID, "-a", "web", "-e", "A=2", "--detach"];
    expect![[r#""#]].assert_eq(&cli_with(terminal("y\n"), &args).await.show());
    let ran = cli_with(terminal("n\n"), &args).await;
    assert!(ran.code == 0 && ran.err.ends_with("Nothing was changed.\n"), "{}", ran.show());
    assert!(!ran.asked.contains("POST"), "{}", ran.show());
    assert_eq!(cli(&args).await.code, 2);
    let same = cli(&["m", "update", ID, "-a", "web", "-e", "A=1"]).await;
    assert_eq!(same.err, format!("Nothing to change on machine {ID}\n"));
}

#[tokio::test]
async fn logs() {
    expect![[r#""#]].assert_eq(&cli(&["logs", "-n", "-a", "web", "-i", ID]).await.show());
    let json = cli(&["logs", "-n", "-a", "web", "--json"]).await;
    assert_eq!(json.out.lines().count(), 2);
    expect![[r#""#]].assert_eq(&cli(&["logs", "-a", "gone"]).await.show());
}
