//! The machines of an organization: pages, filters, hosts that are away.

use crate::world::{TestWorld, at, error, world, world_of};
use serde_json::{Value, json};
use std::time::Duration;
use testkit::Reach;

const LIST: &str = "/v1/orgs/personal/machines";

async fn machine(w: &TestWorld, app: &str, name: &str) -> Value {
    let ask = json!({ "name": name, "config": { "image": "nginx" } });
    let (code, machine) = w.post(&format!("/v1/apps/{app}/machines"), ask).await;
    assert_eq!(code, 200, "{machine}");
    machine
}

fn names(page: &Value) -> Vec<&str> {
    page["machines"].as_array().unwrap().iter().map(|m| m["name"].as_str().unwrap()).collect()
}

/// Two apps with the machines a, c, e and b, d.
async fn five() -> TestWorld {
    let w = world().await;
    w.app().await;
    w.post("/v1/apps", json!({ "app_name": "api" })).await;
    for (app, name) in [("web", "a"), ("api", "b"), ("web", "c"), ("api", "d"), ("web", "e")] {
        machine(&w, app, name).await;
    }
    w
}

#[tokio::test]
async fn pages_list_every_machine_of_all_apps_once() {
    let w = five().await;
    let (code, all) = w.get(LIST).await;
    assert_eq!((code, names(&all)), (200, vec!["a", "b", "c", "d", "e"]), "{all}");
    assert_eq!((&all["next_cursor"], &all["error_regions"]), (&json!(""), &json!([])));
    assert_eq!(all["machines"][1]["app_name"], "api");
    assert_eq!(all["last_machine_id"], all["machines"][4]["id"]);
    // The next list of what has changed begins a little before this one did.
    let since = all["last_updated_at"].as_str().unwrap();
    assert!(since < all["machines"][0]["updated_at"].as_str().unwrap(), "{all}");
    let (_, again) = w.get(&format!("{LIST}?updated_after={since}")).await;
    assert_eq!(names(&again), ["a", "b", "c", "d", "e"]);
    let (_, page) = w.get(&format!("{LIST}?limit=4")).await;
    w.clock.advance(Duration::from_secs(60));
    // As of the first page: a host may have been late with a change that is before its cursor.
    let cursor = page["next_cursor"].as_str().unwrap();
    let (_, rest) = w.get(&format!("{LIST}?cursor={cursor}")).await;
    assert_eq!((names(&rest), rest["last_updated_at"].as_str().unwrap()), (vec!["e"], since));
    let (_, settled) = w.get(LIST).await;
    assert_eq!(settled["last_updated_at"], settled["machines"][4]["updated_at"]);
    let (mut cursor, mut seen) = (String::new(), Vec::new());
    for expected in [2, 2, 1] {
        let (_, page) = w.get(&format!("{LIST}?limit=2&cursor={cursor}&summary=true")).await;
        assert_eq!(page["machines"].as_array().unwrap().len(), expected, "{page}");
        assert!(page["machines"][0].get("config").is_none(), "{page}");
        seen.extend(names(&page).into_iter().map(str::to_owned));
        cursor = page["next_cursor"].as_str().unwrap().to_owned();
    }
    assert_eq!((seen.join(""), cursor.as_str()), ("abcde".to_owned(), ""));
    let third = all["machines"][2]["updated_at"].as_str().unwrap();
    let (_, later) = w.get(&format!("{LIST}?updated_after={third}")).await;
    assert_eq!(names(&later), ["d", "e"]);
}

#[tokio::test]
async fn filters_of_the_list() {
    let w = five().await;
    let (_, all) = w.get(LIST).await;
    assert_eq!(w.post(&at(&all["machines"][0], "/stop"), Value::Null).await.0, 200);
    assert_eq!(w.delete(&at(&all["machines"][2], "?force=true")).await.0, 200);
    for (query, listed) in [
        ("", "abde"),
        ("?include_deleted=true", "abcde"),
        ("?state=stopped", "a"),
        ("?state=started&region=local", "bde"),
        ("?region=ams", ""),
    ] {
        let (code, page) = w.get(&format!("{LIST}{query}")).await;
        let mut names = names(&page);
        names.sort_unstable();
        assert_eq!((code, names.concat().as_str()), (200, listed), "{query}");
    }
    for (query, why) in [
        ("?state=asleep", "state: there is no state \"asleep\""),
        ("?limit=0", "limit: must be from 1 to 1000"),
        ("?limit=1001", "limit: must be from 1 to 1000"),
        ("?limit=x", "limit: must be a number in range"),
        ("?cursor=x", "cursor: must be `next_cursor` of an earlier page"),
        (
            "?updated_after=today",
            "updated_after: must be a moment such as 2026-11-20T10:00:00Z (RFC 3339)",
        ),
    ] {
        assert_eq!(error(&w.get(&format!("{LIST}{query}")).await), (400, why));
    }
    assert_eq!(w.get("/v1/orgs/nowhere/machines").await.0, 404);
    w.delete("/v1/apps/api").await;
    assert_eq!(names(&w.get(&format!("{LIST}?include_deleted=1")).await.1).len(), 3);
}

#[tokio::test]
async fn the_regions_of_hosts_that_are_away_are_named() {
    let w = world_of(2).await;
    w.app().await;
    machine(&w, "web", "a").await;
    machine(&w, "web", "b").await;
    w.other.as_ref().unwrap().set_reach(Reach::Away);
    let (code, page) = w.get(LIST).await;
    assert_eq!((code, names(&page)), (200, vec!["a"]), "{page}");
    assert_eq!(page["error_regions"], json!(["local"]));
}
