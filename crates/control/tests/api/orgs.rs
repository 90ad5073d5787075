//! Organizations and their members: made, listed, deleted, and what a crash leaves of them.

use crate::tokens::{ask, get, make, post};
use crate::world::{at, error, world};
use model::id::OrgId;
use reqwest::Method;
use serde_json::{Value, json};
use std::time::Duration;
use store::records;
use store::{Op, Store, Txn};

#[tokio::test]
async fn organizations_are_apart() {
    let w = world().await;
    w.app().await;
    let (code, org) = w.post("/v1/orgs", json!({ "name": "Acme Inc." })).await;
    assert_eq!(
        (code, &org["slug"], &org["type"]),
        (201, &json!("acme-inc"), &json!("SHARED")),
        "{org}"
    );
    let taken = w.post("/v1/orgs", json!({ "name": "x", "slug": "acme-inc" })).await;
    assert_eq!(taken.0, 422);
    let (code, made) = w.post("/v1/orgs/acme-inc/tokens", json!({ "type": "org" })).await;
    assert_eq!(code, 201);
    let token = made["token"].as_str().unwrap();
    let (code, app) =
        post(&w, token, "/v1/apps", json!({ "app_name": "api", "org_slug": "acme-inc" })).await;
    assert_eq!(code, 201, "{app}");
    assert_eq!(app["organization"]["slug"], "acme-inc");
    let elsewhere =
        post(&w, token, "/v1/apps", json!({ "app_name": "b", "org_slug": "personal" })).await;
    assert_eq!(error(&elsewhere), (404, "Could not find Organization \"personal\""));
    let (_, list) = get(&w, token, "/v1/apps").await;
    assert_eq!((&list["total_apps"], &list["apps"][0]["name"]), (&json!(1), &json!("api")));
    let (_, orgs) = get(&w, token, "/v1/orgs").await;
    assert_eq!(orgs["orgs"].as_array().unwrap().len(), 1);
    assert_eq!(w.get("/v1/orgs").await.1["orgs"].as_array().unwrap().len(), 2);
    assert_ne!(app["network_cidr"], w.get("/v1/apps/web").await.1["network_cidr"]);
    // One with apps stays, and so does the one that every platform has.
    let refused = w.delete("/v1/orgs/acme-inc").await;
    assert_eq!(error(&refused), (409, "organization \"acme-inc\" has apps: api"));
    assert_eq!(w.delete("/v1/orgs/personal").await.0, 409);
    assert_eq!(w.delete("/v1/apps/api").await.0, 202);
    w.reconcile().await;
    assert_eq!(w.delete("/v1/orgs/acme-inc").await.0, 200);
    assert_eq!(get(&w, token, "/v1/orgs").await.0, 401, "its tokens are gone");
    assert_eq!(w.get("/v1/orgs/acme-inc").await.0, 404);
}

#[tokio::test]
async fn the_role_of_a_member_bounds_its_tokens() {
    let w = world().await;
    w.app().await;
    let machine = w.machine(json!({})).await;
    let (tokens, members) = ("/v1/orgs/personal/tokens", "/v1/orgs/personal/members");
    let role = async |role: &str| {
        let body = json!({ "email": "Ann@Example.com", "role": role });
        let (code, member) = w.post(members, body).await;
        assert_eq!((code, &member["email"]), (200, &json!("ann@example.com")), "{member}");
    };
    role("admin").await;
    let token = make(&w, json!({ "type": "org", "member": "ann@example.com" })).await;
    let (_, current) = get(&w, &token, "/v1/tokens/current").await;
    assert_eq!(current["tokens"][0]["user"], "ann@example.com");
    let bob = json!({ "email": "bob@example.com" });
    assert_eq!(post(&w, &token, members, bob.clone()).await.0, 200);
    role("member").await;
    let (code, why) = post(&w, &token, members, bob).await;
    assert_eq!(code, 403, "{why}");
    assert!(why["error"].as_str().unwrap().ends_with("the call needs the role admin"), "{why}");
    assert_eq!(get(&w, &token, members).await.1["members"].as_array().unwrap().len(), 2);
    assert_eq!(post(&w, &token, &at(&machine, "/stop"), Value::Null).await.0, 200);
    // Its own tokens are bound to it, and it revokes those only.
    let (code, own) = post(&w, &token, tokens, json!({ "type": "org" })).await;
    assert_eq!((code, &own["member"]), (201, &json!("ann@example.com")), "{own}");
    let (_, other) = w.post(tokens, json!({ "type": "org" })).await;
    let id = |made: &Value| format!("{tokens}/{}", made["id"].as_str().unwrap());
    assert_eq!(ask(&w, &token, Method::DELETE, &id(&other), Value::Null).await.0, 403);
    assert_eq!(ask(&w, &token, Method::DELETE, &id(&own), Value::Null).await.0, 200);
    // The same holds for the tokens of an app, where a token for the app may revoke them, too.
    let of_app = async |id: &Value, token: &str| {
        let path = format!("/v1/apps/web/tokens/{}", id.as_str().unwrap());
        ask(&w, token, Method::DELETE, &path, Value::Null).await.0
    };
    let deploy = json!({ "type": "deploy", "app": "web" });
    let (_, first) = w.post(tokens, deploy.clone()).await;
    let (_, second) = w.post(tokens, deploy.clone()).await;
    let (_, own) = post(&w, &token, tokens, deploy).await;
    assert_eq!(of_app(&first["id"], &token).await, 403);
    assert_eq!(of_app(&own["id"], &token).await, 200);
    assert_eq!(of_app(&first["id"], second["token"].as_str().unwrap()).await, 200);
    assert_eq!(of_app(&second["id"], second["token"].as_str().unwrap()).await, 200, "itself");
    for (method, path) in [(Method::DELETE, "/v1/orgs/personal"), (Method::POST, "/v1/orgs")] {
        assert_eq!(ask(&w, &token, method, path, json!({ "name": "x" })).await.0, 403, "{path}");
    }
    role("readonly").await;
    assert_eq!(get(&w, &token, "/v1/apps/web").await.0, 200);
    assert_eq!(post(&w, &token, &at(&machine, "/start"), Value::Null).await.0, 403);
    assert_eq!(post(&w, &token, tokens, json!({ "type": "readonly" })).await.0, 403);
    // Without the member its tokens are none, even if the address is added again.
    assert_eq!(w.delete("/v1/orgs/personal/members/ann@example.com").await.0, 200);
    assert_eq!(get(&w, &token, "/v1/apps/web").await.0, 401);
    role("admin").await;
    assert_eq!(get(&w, &token, "/v1/apps/web").await.0, 401);
    let unknown = w.delete("/v1/orgs/personal/members/eve@example.com").await;
    assert_eq!(error(&unknown), (404, "organization \"personal\" has no member eve@example.com"));
    let bad = w.post(members, json!({ "email": "x@y", "role": "owner" })).await;
    assert_eq!(error(&bad), (400, "role: must be one of admin, member, readonly"));
}

#[tokio::test]
async fn a_removal_of_a_member_that_failed_half_way_is_finished_by_a_repetition() {
    let w = world().await;
    w.app().await;
    let members = "/v1/orgs/personal/members";
    let ann = json!({ "email": "ann@example.com", "role": "admin" });
    assert_eq!(w.post(members, ann.clone()).await.0, 200);
    let token = make(&w, json!({ "type": "org", "member": "ann@example.com" })).await;
    // The first half: the record of the member is gone, its tokens are there.
    let key = records::member_key(OrgId(1), "ann@example.com");
    let txn = Txn { then: vec![Op::delete(key)], ..Txn::default() };
    Store::txn(&*w.store, txn).await.unwrap();
    let path = format!("{members}/ann@example.com");
    // Added again in between, the address does not bring them back.
    w.clock.advance(Duration::from_secs(1));
    assert_eq!(w.post(members, ann).await.0, 200);
    assert_eq!(get(&w, &token, "/v1/apps/web").await.0, 401);
    assert_eq!(w.delete(&path).await.0, 200);
    assert_eq!(w.get("/v1/orgs/personal/tokens").await.1["tokens"], json!([]));
    assert_eq!(w.delete(&path).await.0, 404);
}

#[tokio::test]
async fn a_deletion_of_an_organization_is_finished_after_a_crash() {
    let w = world().await;
    let create = async || w.post("/v1/orgs", json!({ "name": "acme" })).await;
    let (code, org) = create().await;
    assert_eq!(code, 201, "{org}");
    let (_, made) = w.post("/v1/orgs/acme/tokens", json!({ "type": "org" })).await;
    let token = made["token"].as_str().unwrap().to_owned();
    let mark = async |deleting: bool| {
        let key = records::org_key("acme");
        let stored: Option<records::Stored<records::OrgRecord>> =
            records::get(&*w.store, &key).await.unwrap();
        let record = records::OrgRecord { deleting, ..stored.unwrap().record };
        let txn = Txn { then: vec![Op::put(key, records::encode(&record))], ..Txn::default() };
        Store::txn(&*w.store, txn).await.unwrap();
        // A list reads the store: from then on this process has seen the mark.
        assert_eq!(w.get("/v1/orgs").await.0, 200);
    };
    // With a network of its own, as an app that has been deleted leaves behind.
    let app = json!({ "app_name": "api", "org_slug": "acme", "network": "private" });
    assert_eq!(w.post("/v1/apps", app).await.0, 201);
    // One that has an app stays.
    mark(true).await;
    w.reconcile().await;
    assert_eq!(w.get("/v1/orgs/acme").await.0, 200);
    assert_eq!(w.delete("/v1/apps/api").await.0, 202);
    w.reconcile().await;
    // As a crash after the mark leaves it: nothing is made in it, and its slug is taken.
    mark(true).await;
    assert_eq!(w.get("/v1/orgs/acme").await.0, 404);
    let app = json!({ "app_name": "late", "org_slug": "acme" });
    assert_eq!(w.post("/v1/apps", app).await.0, 404);
    assert_eq!(create().await.0, 422);
    assert_eq!(w.get("/v1/orgs").await.1["orgs"].as_array().unwrap().len(), 1);
    w.reconcile().await;
    assert_eq!(get(&w, &token, "/v1/orgs").await.0, 401, "its tokens are gone");
    let range = store::KeyRange::prefix(&records::networks_of("acme"));
    assert_eq!(Store::range(&*w.store, range, None, None).await.unwrap().entries.len(), 0);
    assert_eq!(create().await.0, 201);
}

#[tokio::test]
async fn an_organization_that_cannot_be_read_takes_no_other_apps_out_of_the_list() {
    let w = world().await;
    w.app().await;
    assert_eq!(w.post("/v1/orgs", json!({ "name": "acme" })).await.0, 201);
    let app = json!({ "app_name": "api", "org_slug": "acme" });
    assert_eq!(w.post("/v1/apps", app).await.0, 201);
    let broken = Op::put(records::org_key("acme"), records::encode(&"no record"));
    let txn = Txn { then: vec![broken], ..Txn::default() };
    Store::txn(&*w.store, txn).await.unwrap();
    let (code, list) = w.get("/v1/apps").await;
    assert_eq!((code, &list["apps"][0]["name"]), (200, &json!("web")), "{list}");
    assert_eq!(list["total_apps"], 1);
}

#[tokio::test]
async fn organizations_as_flyctl_asks_for_them() {
    let w = world().await;
    w.post("/v1/orgs", json!({ "name": "Acme Inc." })).await;
    let (code, made) = w.post("/v1/orgs/acme-inc/tokens", json!({ "type": "org" })).await;
    assert_eq!(code, 201);
    let token = made["token"].as_str().unwrap();
    let (code, own) = get(&w, token, "/api/v1/organizations/acme-inc").await;
    let own = &own["organization"];
    assert_eq!((code, &own["id"], &own["raw_slug"]), (200, &json!("acme-inc"), &json!("acme-inc")));
    assert_eq!((&own["name"], &own["personal"]), (&json!("Acme Inc."), &json!(false)));
    // A number, and not its digits as elsewhere.
    assert!(own["internal_numeric_id"].is_i64(), "{own}");
    assert_eq!((&own["billable"], &own["billing_status"]), (&json!(true), &json!("CURRENT")));
    let (_, list) = get(&w, token, "/api/v1/organizations?admin=true").await;
    assert_eq!(list["organizations"], json!([own]));
    let (_, all) = w.get("/api/v1/organizations").await;
    let personal: Vec<bool> = all["organizations"]
        .as_array()
        .unwrap()
        .iter()
        .map(|org| org["personal"].as_bool().unwrap())
        .collect();
    assert_eq!(personal, [false, true]);
    // A token for one app finds its organization, as the app's own answers show it.
    post(&w, token, "/v1/apps", json!({ "app_name": "api", "org_slug": "acme-inc" })).await;
    let (_, made) = post(&w, token, "/v1/apps/api/deploy_token", json!({})).await;
    let deploy = made["token"].as_str().unwrap();
    let (code, seen) = get(&w, deploy, "/api/v1/organizations/acme-inc").await;
    assert_eq!((code, &seen["organization"]), (200, own));
    let (_, list) = get(&w, deploy, "/api/v1/organizations").await;
    assert_eq!(list["organizations"], json!([own]));
    let other = get(&w, token, "/api/v1/organizations/personal").await;
    assert_eq!(error(&other), (404, "Could not find Organization \"personal\""));
}
