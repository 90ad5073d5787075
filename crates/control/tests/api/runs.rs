//! Schedules and runs.

use crate::world::{at, error, world};
use serde_json::json;

#[tokio::test]
async fn a_scheduled_machine_has_runs_and_can_be_run_by_hand() {
    let w = world().await;
    w.app().await;
    let plain = w.machine(json!({})).await;
    let (code, refused) = w.post(&at(&plain, "/runs"), json!(null)).await;
    assert_eq!((code, refused["error"].as_str().unwrap()), (409, "the machine has no schedule"));
    let config = json!({ "image": "nginx", "schedule": "0 9 * * MON-FRI",
                         "schedule_options": { "timezone": "Europe/Berlin", "overlap": "skip" } });
    let body = json!({ "config": config, "skip_launch": true });
    let (code, machine) = w.post("/v1/apps/web/machines", body).await;
    assert_eq!(code, 200, "{machine}");
    assert_eq!(machine["config"]["schedule_options"]["timezone"], "Europe/Berlin");
    assert_eq!(w.get(&at(&machine, "/runs")).await, (200, json!([])));
    let (code, run) = w.post(&at(&machine, "/runs"), json!(null)).await;
    assert_eq!((code, &run["status"], &run["trigger"]), (200, &json!("running"), &json!("manual")));
    assert_eq!(w.get(&at(&machine, "/runs?limit=1")).await.1, json!([run]));
    assert_eq!(w.post(&at(&machine, "/runs"), json!(null)).await.0, 409);
    assert_eq!(w.get(&at(&machine, "/runs?limit=x")).await.0, 400);
    assert_eq!(w.get("/v1/apps/web/machines/lost/runs").await.0, 404);
}

#[tokio::test]
async fn schedules_that_are_refused() {
    let w = world().await;
    w.app().await;
    for (schedule, options, why) in [
        ("every day", json!(null), "config.schedule: must be hourly"),
        ("61 * * * *", json!(null), "config.schedule: \"61 * * * *\" is no cron expression"),
        ("0 0 31 2 *", json!(null), "config.schedule: \"0 0 31 2 *\" never comes about"),
        ("daily", json!({ "timezone": "CEST?" }), "config.schedule_options.timezone: must be"),
        ("daily", json!({ "overlap": 1 }), "config.schedule_options.overlap: invalid type"),
    ] {
        let config = json!({ "image": "nginx", "schedule": schedule, "schedule_options": options });
        let answer = w.post("/v1/apps/web/machines", json!({ "config": config })).await;
        let (code, text) = error(&answer);
        assert_eq!(code, 400, "{text}");
        assert!(text.starts_with(why), "{text}");
    }
}
