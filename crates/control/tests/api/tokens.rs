//! Tokens: made, narrowed, listed, revoked.

use crate::world::{TestWorld, at, error, world};
use macaroon::{Action, Caveat, CommandRule, Kind, Macaroon, Resources};
use model::id::{AppId, OrgId};
use reqwest::Method;
use serde_json::{Value, json};
use std::time::Duration;
use store::records::{self, TokenRecord};
use store::{Op, Store, Txn};

/// Status and JSON of the answer to a call with this token.
pub(crate) async fn ask(
    w: &TestWorld,
    token: &str,
    method: Method,
    path: &str,
    body: Value,
) -> (u16, Value) {
    let url = format!("http://{}{path}", w.addr);
    let mut request = w.client.request(method, url).header("authorization", token);
    if !body.is_null() {
        request = request.json(&body);
    }
    let answer = request.send().await.unwrap();
    let (status, text) = (answer.status().as_u16(), answer.text().await.unwrap());
    (status, serde_json::from_str(&text).unwrap_or(Value::String(text)))
}

pub(crate) async fn get(w: &TestWorld, token: &str, path: &str) -> (u16, Value) {
    ask(w, token, Method::GET, path, Value::Null).await
}

pub(crate) async fn post(w: &TestWorld, token: &str, path: &str, body: Value) -> (u16, Value) {
    ask(w, token, Method::POST, path, body).await
}

/// The text of a new token of the organization `personal`.
pub(crate) async fn make(w: &TestWorld, body: Value) -> String {
    let (code, made) = w.post("/v1/orgs/personal/tokens", body).await;
    assert_eq!(code, 201, "{made}");
    made["token"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn a_token_is_made_used_listed_and_revoked() {
    let w = world().await;
    w.app().await;
    let body = json!({ "type": "deploy", "app": "web", "name": "ci", "expiry": "2h" });
    let (code, made) = w.post("/v1/orgs/personal/tokens", body).await;
    assert_eq!(code, 201, "{made}");
    let token = made["token"].as_str().unwrap();
    assert!(token.starts_with("updraft_") && token.len() > 48, "{}", token.len());
    assert_eq!(made["expires_at"], "2023-11-15T00:13:20.000Z");
    assert_eq!(get(&w, token, "/v1/apps/web").await.0, 200);
    let (_, list) = w.get("/v1/orgs/personal/tokens").await;
    let shown = &list["tokens"][0];
    assert_eq!(
        (&shown["name"], &shown["type"], &shown["app"]),
        (&json!("ci"), &json!("deploy"), &json!("web"))
    );
    assert!(!list.to_string().contains(token));
    let id = shown["id"].as_str().unwrap();
    // The use is noted in the background.
    for _ in 0..500 {
        let (_, list) = w.get("/v1/apps/web/tokens").await;
        if !list["tokens"][0]["last_used_at"].is_null() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    let (_, list) = w.get("/v1/apps/web/tokens").await;
    assert_eq!(list["tokens"][0]["last_used_at"], "2023-11-14T22:13:20.000Z");
    assert_eq!(w.delete(&format!("/v1/orgs/personal/tokens/{id}")).await.0, 200);
    assert_eq!(get(&w, token, "/v1/apps/web").await.0, 401);
    let again = w.delete(&format!("/v1/orgs/personal/tokens/{id}")).await;
    let why = format!("there is no token {id:?} in organization \"personal\"");
    assert_eq!(error(&again), (404, &*why));
    // The text is not in the store.
    let all = Store::range(&*w.store, store::KeyRange::prefix("/"), None, None).await.unwrap();
    let secret = token.strip_prefix("updraft_").unwrap();
    let found =
        all.entries.iter().any(|entry| String::from_utf8_lossy(&entry.value).contains(secret));
    assert!(!found);
}

#[tokio::test]
async fn a_token_ends() {
    let w = world().await;
    w.app().await;
    let (code, made) = w.post("/v1/apps/web/deploy_token", json!({ "expiry": "1h" })).await;
    assert_eq!(code, 200, "{made}");
    let token = made["token"].as_str().unwrap();
    assert_eq!(get(&w, token, "/v1/apps/web").await.0, 200);
    w.clock.advance(Duration::from_secs(3599));
    assert_eq!(get(&w, token, "/v1/apps/web").await.0, 200);
    w.clock.advance(Duration::from_secs(1));
    let ended = get(&w, token, "/v1/apps/web").await;
    assert_eq!(error(&ended), (401, "unauthorized: the token has expired"));
}

#[tokio::test]
async fn requests_for_tokens_that_are_refused() {
    let w = world().await;
    w.app().await;
    for (body, expected) in [
        (
            json!({ "type": "root" }),
            "type: must be one of org, deploy, readonly, ssh, machine-exec",
        ),
        (json!({ "type": "deploy" }), "app: is required for a token of type deploy"),
        (json!({ "type": "org", "app": "web" }), "app: cannot be given for a token of type org"),
        (
            json!({ "type": "org", "expiry": "soon" }),
            "expiry: must be a duration such as \"720h\", from 1s to 175200h",
        ),
        (
            json!({ "type": "org", "expiry": "175201h" }),
            "expiry: must be a duration such as \"720h\", from 1s to 175200h",
        ),
        (
            json!({ "type": "org", "expiry": "0" }),
            "expiry: must be a duration such as \"720h\", from 1s to 175200h",
        ),
        (
            json!({ "type": "org", "name": "x".repeat(101) }),
            "name: at most 100 characters, no control characters",
        ),
        (
            json!({ "type": "org", "commands": [{ "args": ["ls"] }] }),
            "commands: are for tokens of type machine-exec only",
        ),
        (
            json!({ "type": "machine-exec", "app": "web", "commands": [{ "args": [] }] }),
            "commands: a rule without words permits nothing of its own",
        ),
        (
            json!({ "type": "org", "member": "a@b" }),
            "member: organization \"personal\" has no member a@b",
        ),
    ] {
        let refused = w.post("/v1/orgs/personal/tokens", body.clone()).await;
        assert_eq!(error(&refused), (400, expected), "{body}");
    }
    let none = w.post("/v1/orgs/personal/tokens", json!({ "type": "deploy", "app": "x" })).await;
    assert_eq!(error(&none), (404, "Could not find App \"x\""));
    let unknown = w.post("/v1/orgs/personal/tokens", json!({ "type": "org", "x": 1 })).await;
    assert_eq!(unknown.0, 400, "{unknown:?}");
}

#[tokio::test]
async fn the_answer_with_a_token_is_not_kept_for_a_repetition() {
    let w = world().await;
    w.app().await;
    for path in ["/v1/orgs/personal/tokens", "/v1/apps/web/deploy_token"] {
        let send = async || {
            let request = w.request(Method::POST, path).header("idempotency-key", path);
            let answer = request.json(&json!({ "type": "org" })).send().await.unwrap();
            (answer.status().as_u16(), answer.json::<Value>().await.unwrap())
        };
        let (code, made) = send().await;
        assert!((200..300).contains(&code), "{path}: {made}");
        let (code, refused) = send().await;
        assert_eq!(code, 409, "{path}: {refused}");
        assert!(refused["error"].as_str().unwrap().contains("is not kept"), "{refused}");
        let entries = store::KeyRange::prefix(records::REQUESTS);
        let kept = Store::range(&*w.store, entries, None, None).await.unwrap().entries;
        let token = made["token"].as_str().unwrap();
        let has_it = |value: &[u8]| String::from_utf8_lossy(value).contains(token);
        assert!(!kept.is_empty() && !kept.iter().any(|kept| has_it(&kept.value)));
    }
    let (_, list) = w.get("/v1/orgs/personal/tokens").await;
    assert_eq!(list["tokens"].as_array().unwrap().len(), 2, "each was made once: {list}");
}

#[tokio::test]
async fn a_token_makes_no_token_that_can_do_more_or_lives_longer() {
    let w = world().await;
    w.app().await;
    w.post("/v1/apps", json!({ "app_name": "api" })).await;
    let deploy = make(&w, json!({ "type": "deploy", "app": "web", "expiry": "1h" })).await;
    let path = "/v1/orgs/personal/tokens";
    let (code, child) = post(&w, &deploy, path, json!({ "type": "deploy", "app": "web" })).await;
    assert_eq!(code, 201, "{child}");
    assert_eq!(child["expires_at"], "2023-11-14T23:13:20.000Z", "as its maker");
    let longer = json!({ "type": "readonly", "app": "web", "expiry": "2h" });
    let (code, why) = post(&w, &deploy, path, longer).await;
    assert_eq!(code, 403, "{why}");
    assert!(why["error"].as_str().unwrap().contains("would live longer"), "{why}");
    for body in [
        json!({ "type": "org" }),
        json!({ "type": "readonly" }),
        json!({ "type": "deploy", "app": "api" }),
    ] {
        assert_eq!(post(&w, &deploy, path, body.clone()).await.0, 403, "{body}");
    }
    // Each of these tokens makes none.
    for kind in ["readonly", "ssh", "machine-exec"] {
        let token = make(&w, json!({ "type": kind, "app": "web" })).await;
        for body in
            [json!({ "type": "readonly", "app": "web" }), json!({ "type": kind, "app": "web" })]
        {
            let (code, why) = post(&w, &token, path, body).await;
            assert_eq!(code, 403, "{kind}: {why}");
        }
        assert_eq!(post(&w, &token, "/v1/apps/web/deploy_token", json!({})).await.0, 403, "{kind}");
    }
    // Nor does a macaroon that its holder has narrowed make one that is not.
    for caveat in [
        Caveat::Action(Action::ALL.without(Action::DELETE)),
        Caveat::AppFeatureSet { features: Resources::of(["tokens".to_owned()], Action::ALL) },
        Caveat::FromMachineSource { id: "m".into() },
        Caveat::Machines { machines: Resources::of(["m".to_owned()], Action::ALL) },
        Caveat::IfPresent {
            ifs: vec![Caveat::Machines { machines: Resources::of(["m".to_owned()], Action::READ) }],
            otherwise: Action::ALL,
        },
    ] {
        let token = make(&w, json!({ "type": "deploy", "app": "web", "macaroon": true })).await;
        let mut narrowed = Macaroon::parse(&token).unwrap();
        narrowed.attenuate(caveat.clone()).unwrap();
        let body = json!({ "type": "deploy", "app": "web" });
        let (code, why) = post(&w, &narrowed.to_text(), path, body).await;
        assert_eq!(code, 403, "{caveat:?}: {why}");
    }
    // One that is only shorter makes tokens, which live no longer.
    let token = make(&w, json!({ "type": "deploy", "app": "web", "macaroon": true })).await;
    let mut shorter = Macaroon::parse(&token).unwrap();
    let window = Caveat::ValidityWindow { not_before: 0, not_after: 1_700_000_099 };
    shorter.attenuate(window).unwrap();
    let body = json!({ "type": "deploy", "app": "web" });
    let (code, child) = post(&w, &shorter.to_text(), path, body).await;
    assert_eq!((code, &child["expires_at"]), (201, &json!("2023-11-14T22:15:00.000Z")), "{child}");
}

#[tokio::test]
async fn the_holder_of_a_macaroon_narrows_it() {
    let w = world().await;
    w.app().await;
    let machine = w.machine(json!({})).await;
    let body = json!({ "type": "deploy", "app": "web", "macaroon": true, "expiry": "10h" });
    let token = make(&w, body).await;
    assert!(token.starts_with("fm2_"));
    let (own, stop) = (at(&machine, ""), at(&machine, "/stop"));
    for scheme in ["", "Bearer ", "FlyV1 ", "Bearer FlyV1 "] {
        assert_eq!(get(&w, &format!("{scheme}{token}"), &own).await.0, 200, "{scheme}");
    }
    let narrowed = |caveat: Caveat| {
        let mut token = Macaroon::parse(&token).unwrap();
        token.attenuate(caveat).unwrap();
        token.to_text()
    };
    let reader = narrowed(Caveat::Action(Action::READ));
    assert_eq!(get(&w, &reader, &own).await.0, 200);
    let (code, why) = post(&w, &reader, &stop, Value::Null).await;
    assert_eq!(code, 403);
    assert!(
        why["error"].as_str().unwrap().ends_with("it lacks the permission to control"),
        "{why}"
    );
    let ls = CommandRule { args: vec!["echo".into()], exact: false };
    let exec = narrowed(Caveat::IfPresent {
        ifs: vec![Caveat::Commands(vec![ls])],
        otherwise: Action::READ,
    });
    let run =
        async |cmd: &str| post(&w, &exec, &at(&machine, "/exec"), json!({ "cmd": cmd })).await.0;
    assert_eq!((run("echo a").await, run("exit 1").await), (200, 403));
    // Another machine, another time.
    let other =
        narrowed(Caveat::Machines { machines: Resources::of(["00".to_owned()], Action::ALL) });
    assert_eq!(get(&w, &other, &own).await.0, 403);
    let early =
        narrowed(Caveat::ValidityWindow { not_before: 1_700_000_100, not_after: 1_700_000_200 });
    assert_eq!(get(&w, &early, &own).await.0, 401);
    w.clock.advance(Duration::from_secs(100));
    assert_eq!(get(&w, &early, &own).await.0, 200);
    w.clock.advance(Duration::from_secs(101));
    assert_eq!(get(&w, &early, &own).await.0, 401);
    // What has not been narrowed, what another platform has made, and what is broken.
    let forged = Macaroon::mint(
        b"key",
        Macaroon::parse(&token).unwrap().key_id(),
        [0; 16],
        macaroon::LOCATION,
    );
    assert_eq!(get(&w, &forged.to_text(), &own).await.0, 401);
    assert_eq!(get(&w, &token[..token.len() - 8], &own).await.0, 401);
    let mut unknown = Macaroon::parse(&token).unwrap();
    assert!(unknown.attenuate(Caveat::Unknown(Kind(17))).is_err());
    // The revocation of the token is that of all that were made from it.
    let (_, list) = w.get("/v1/apps/web/tokens").await;
    let id = list["tokens"][0]["id"].as_str().unwrap();
    assert_eq!(list["tokens"][0]["macaroon"], true);
    assert_eq!(w.delete(&format!("/v1/apps/web/tokens/{id}")).await.0, 200);
    for token in [&token, &reader, &exec] {
        assert_eq!(get(&w, token, &own).await.0, 401);
    }
}

#[tokio::test]
async fn the_tokens_of_an_app_end_with_it() {
    let w = world().await;
    w.app().await;
    let token = make(&w, json!({ "type": "deploy", "app": "web" })).await;
    let org = make(&w, json!({ "type": "org" })).await;
    assert_eq!(w.delete("/v1/apps/web").await.0, 202);
    w.reconcile().await;
    w.app().await;
    assert_eq!(get(&w, &token, "/v1/apps/web").await.0, 401);
    assert_eq!(get(&w, &org, "/v1/apps/web").await.0, 200);
}

/// Puts the records of tokens of the organization `personal` into the store.
async fn put_tokens(w: &TestWorld, count: usize, apps: &[u32], expires_ms: Option<u64>) {
    for first in (0..count).step_by(50) {
        let ops = (first..count.min(first + 50)).flat_map(|n| {
            let sha256 = format!("{apps:?}-{expires_ms:?}-{n}");
            let record = TokenRecord {
                kind: "deploy".into(),
                sha256: sha256.clone(),
                org: Some(OrgId(1)),
                apps: apps.iter().copied().map(AppId).collect(),
                expires_ms,
                ..TokenRecord::default()
            };
            let index = records::org_token_key(OrgId(1), &sha256);
            [
                Op::put(records::token_key(&sha256), records::encode(&record)),
                Op::put(index, records::encode(&())),
            ]
        });
        let txn = Txn { then: ops.collect(), ..Txn::default() };
        Store::txn(&*w.store, txn).await.unwrap();
    }
}

#[tokio::test]
async fn only_tokens_that_have_not_expired_count_and_an_app_has_a_share() {
    let w = world().await;
    w.app().await;
    let now = w.clock.now_ms();
    put_tokens(&w, 60, &[], Some(now)).await;
    put_tokens(&w, 250, &[1], None).await;
    let refused =
        w.post("/v1/orgs/personal/tokens", json!({ "type": "deploy", "app": "web" })).await;
    assert_eq!(error(&refused), (409, "the app has 250 tokens, which is the most"));
    put_tokens(&w, 749, &[2], None).await;
    make(&w, json!({ "type": "org" })).await;
    let refused = w.post("/v1/orgs/personal/tokens", json!({ "type": "org" })).await;
    let why = "organization \"personal\" has 1000 tokens, which is the most";
    assert_eq!(error(&refused), (409, why));
    // A week after their end the records of the expired ones are removed.
    let count =
        async || w.get("/v1/orgs/personal/tokens").await.1["tokens"].as_array().unwrap().len();
    w.clock.advance(Duration::from_secs(7 * 24 * 3600 - 1));
    w.reconcile().await;
    assert_eq!(count().await, 1060);
    w.clock.advance(Duration::from_secs(1));
    w.reconcile().await;
    assert_eq!(count().await, 1000);
}

#[tokio::test]
async fn the_apps_that_a_token_may_read() {
    let w = world().await;
    w.app().await;
    w.post("/v1/apps", json!({ "name": "other" })).await;
    let readable = async |token: &str| w.api.readable_apps(&format!("Bearer {token}")).await;
    assert_eq!(readable(crate::world::TOKEN).await.unwrap(), control::apps::Readable::All);
    let of_app = make(&w, json!({ "type": "deploy", "app": "web" })).await;
    let control::apps::Readable::Apps(apps) = readable(&of_app).await.unwrap() else { panic!() };
    assert_eq!(apps.len(), 1);
    let of_org = make(&w, json!({ "type": "readonly" })).await;
    let control::apps::Readable::Apps(apps) = readable(&of_org).await.unwrap() else { panic!() };
    assert_eq!(apps.len(), 2);
    assert_eq!(readable("wrong").await.unwrap_err().kind, control::Kind::Unauthorized);
}
