//! What mutations change, and how they are recorded.

use super::documents::{document, with_machine};
use super::{ask, data, failure};
use crate::world::{TOKEN, world};
use macaroon::{Caveat, Macaroon};
use serde_json::{Value, json};
use std::time::Duration;

pub(super) fn create_token(profile: &str, params: Value) -> Value {
    json!({ "name": "ci", "organizationId": "personal", "profile": profile,
            "profileParams": params, "expiry": "2h" })
}

#[tokio::test]
async fn a_token_is_a_macaroon_that_is_listed_and_revoked() {
    let (w, _) = with_machine().await;
    let create = document("CreateLimitedAccessToken");
    for (profile, params) in
        [("deploy", json!({ "app_id": "web" })), ("deploy_organization", json!({}))]
    {
        let made = data(&w, &create, create_token(profile, params)).await;
        let header = &made["createLimitedAccessToken"]["limitedAccessToken"]["tokenHeader"];
        let header = header.as_str().unwrap();
        let text = header.strip_prefix("FlyV1 ").unwrap();
        assert!(Macaroon::parse(text).is_ok(), "{header}");
        let seen = ask(&w, header, &document("AppCompact"), json!({ "appName": "web" })).await;
        assert_eq!(seen["data"]["appcompact"]["id"], "web", "{seen}");
        let (list, root) = match profile {
            "deploy" => ("AppTokens", "appLimitedAccessTokens"),
            _ => ("OrgTokens", "orgLimitedAccessTokens"),
        };
        let variables = json!({ "appName": "web", "slug": "personal" });
        let listed = data(&w, &document(list), variables.clone()).await;
        let nodes = listed[root]["limitedAccessTokens"]["nodes"].as_array().unwrap().clone();
        let shown = nodes.last().unwrap();
        assert_eq!(
            (&shown["name"], &shown["expiresAt"], &shown["user"]["email"]),
            (&json!("ci"), &json!("2023-11-15T00:13:20.000Z"), &json!(""))
        );
        assert!(!listed.to_string().contains(text));
        let input = json!({ "input": { "id": shown["id"] } });
        data(&w, &document("DeleteToken"), input).await;
        let answer = ask(&w, header, &document("Viewer"), Value::Null).await;
        assert_eq!(failure(&answer), ("UNAUTHORIZED", "unauthorized: the token is not valid"));
        assert_eq!(answer["data"], Value::Null);
    }
    for (variables, code, why) in [
        (create_token("litefs", json!({})), "UNSUPPORTED", "profile: \"litefs\" is not one of"),
        (create_token("deploy", Value::Null), "INVALID", "profileParams.app_id: is required"),
        (create_token("deploy", json!({ "app_id": "x" })), "NOT_FOUND", "Could not find App \"x\""),
    ] {
        let answer = ask(&w, TOKEN, &create, variables).await;
        let (is, text) = failure(&answer);
        assert!(is == code && text.starts_with(why), "{answer}");
    }
}

#[tokio::test]
async fn a_token_is_revoked_by_its_text_and_only_by_those_who_may() {
    let (w, _) = with_machine().await;
    let make = async |profile| {
        let variables = create_token(profile, json!({ "app_id": "web" }));
        let made = data(&w, &document("CreateLimitedAccessToken"), variables).await;
        let token = &made["createLimitedAccessToken"]["limitedAccessToken"]["tokenHeader"];
        token.as_str().unwrap().to_owned()
    };
    let (deploy, org) = (make("deploy").await, make("deploy_organization").await);
    let revoke = |text: &str| json!({ "input": { "token": text } });
    let answer = ask(&w, &deploy, &document("DeleteToken"), revoke(&org)).await;
    assert!(["FORBIDDEN", "NOT_FOUND"].contains(&failure(&answer).0), "{answer}");
    let answer = ask(&w, &deploy, &document("DeleteToken"), revoke("x")).await;
    assert_eq!(failure(&answer), ("NOT_FOUND", "there is no token of this text"));
    let answer = ask(&w, TOKEN, &document("DeleteToken"), json!({ "input": {} })).await;
    assert_eq!(failure(&answer), ("INVALID", "id: is required"));
    data(&w, &document("DeleteToken"), revoke(&deploy)).await;
    let answer = ask(&w, &deploy, &document("Viewer"), Value::Null).await;
    assert_eq!(failure(&answer).0, "UNAUTHORIZED");
    assert_eq!(failure(&ask(&w, &org, "{ x }", Value::Null).await).0, "INVALID", "it is valid");
}

#[tokio::test]
async fn apps_organizations_and_members_are_made_and_deleted_and_recorded() {
    let w = world().await;
    let input = |input: Value| json!({ "input": input });
    let org = data(&w, &document("CreateOrg"), input(json!({ "name": "Acme" }))).await;
    assert_eq!(org["createOrganization"]["organization"]["slug"], "acme");
    let ask_app = input(json!({ "organizationId": "acme", "name": "web", "appRoleId": "" }));
    let app = data(&w, &document("CreateApp"), ask_app.clone()).await;
    assert_eq!(
        app["createApp"]["app"],
        json!({ "id": "web", "name": "web", "organization": { "slug": "acme" },
                "config": { "definition": {} }, "regions": [] })
    );
    let taken = ask(&w, TOKEN, &document("CreateApp"), ask_app).await;
    let text = "Validation failed: Name has already been taken";
    assert_eq!(failure(&taken), ("NAME_TAKEN", text));
    assert_eq!(taken["data"], json!({ "createApp": null }));
    let member = json!({ "organizationId": "acme", "email": "Ann@Example.com" });
    let invited = data(&w, &document("Invite"), input(member)).await;
    assert_eq!(
        invited["createOrganizationInvitation"]["invitation"],
        json!({ "id": "ann@example.com", "email": "ann@example.com", "redeemed": true,
                "createdAt": "2023-11-14T22:13:20.000Z", "organization": { "slug": "acme" } })
    );
    let member = json!({ "organizationId": "acme", "userId": "ann@example.com" });
    data(&w, &document("DeleteMembership"), input(member)).await;
    assert_eq!(w.get("/v1/orgs/acme/members").await.1["members"], json!([]));
    data(&w, &document("DeleteApp"), json!({ "appId": "web" })).await;
    w.reconcile().await;
    let (_, page) = w.get("/v1/orgs/acme/audit").await;
    let entries = page["entries"].as_array().unwrap().iter().rev();
    let shown: Vec<String> =
        entries.map(|entry| format!("{} {}", entry["path"], entry["status"])).collect();
    assert_eq!(
        shown,
        [
            "\"/graphql createOrganization\" 200",
            "\"/graphql createApp\" 200",
            "\"/graphql createOrganizationInvitation\" 200",
            "\"/graphql deleteOrganizationMembership\" 200",
            "\"/graphql deleteApp\" 200",
        ]
    );
    let deleted = input(json!({ "organizationId": "acme" }));
    data(&w, &document("DeleteOrg"), deleted).await;
    assert_eq!(w.get("/v1/orgs/acme").await.0, 404);
}

#[tokio::test]
async fn the_fields_of_a_mutation_are_carried_out_in_their_order() {
    let w = world().await;
    let two = "mutation {
        first: createApp(input: { organizationId: \"personal\", name: \"a\" }) { app { name } }
        again: createApp(input: { organizationId: \"personal\", name: \"a\" }) { app { name } }
        last: createApp(input: { organizationId: \"personal\", name: \"b\" }) { app { name } }
    }";
    let answer = ask(&w, TOKEN, two, Value::Null).await;
    assert_eq!(failure(&answer).0, "NAME_TAKEN");
    assert_eq!(answer["errors"][0]["path"], json!(["again"]));
    let app = |name| json!({ "app": { "name": name } });
    assert_eq!(answer["data"], json!({ "first": app("a"), "again": null, "last": app("b") }));
}

#[tokio::test]
async fn a_mutation_with_an_idempotency_key_is_carried_out_once() {
    let w = world().await;
    let url = format!("http://{}/graphql", w.addr);
    let variables = json!({ "input": { "name": "Acme" } });
    let body = json!({ "query": document("CreateOrg"), "variables": variables });
    let send = async || {
        let request = w.client.post(&url).bearer_auth(TOKEN).header("idempotency-key", "k");
        let answer = request.json(&body).send().await.unwrap();
        assert_eq!(answer.status(), 200);
        answer.json::<Value>().await.unwrap()
    };
    assert_eq!(send().await["data"]["createOrganization"]["organization"]["slug"], "acme");
    // It may have a token, and is not kept.
    let again = send().await;
    assert_eq!(failure(&again).0, "CONFLICT");
    assert!(failure(&again).1.contains("carried out before"), "{again}");
    assert_eq!(w.get("/v1/orgs").await.1["orgs"].as_array().unwrap().len(), 2);
}

/// The client leaves while the app's machine is being destroyed.
#[tokio::test]
async fn a_mutation_ends_and_is_recorded_when_its_client_leaves() {
    let (w, _) = with_machine().await;
    let hold = w.host.pause_next("destroy");
    let two = "mutation {
        deleteApp(appId: \"web\") { organization { id } }
        createApp(input: { organizationId: \"personal\", name: \"new\" }) { app { name } }
    }";
    tokio::select! {
        answer = ask(&w, TOKEN, two, Value::Null) => panic!("it has been answered: {answer}"),
        () = hold.reached() => {}
    }
    hold.release();
    for _ in 0..500 {
        let (_, page) = w.get("/v1/orgs/personal/audit?limit=1").await;
        let entry = &page["entries"][0];
        if entry["path"] == "/graphql deleteApp,createApp" {
            assert_eq!(entry["status"], 200, "{entry}");
            assert_eq!(w.get("/v1/apps/new").await.0, 200);
            assert_eq!(w.get("/v1/apps/web").await.0, 404);
            return;
        }
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    panic!("it is not recorded");
}

/// As clients narrow tokens for sessions over SSH.
#[tokio::test]
async fn a_token_may_be_limited_to_some_mutations() {
    let (w, _) = with_machine().await;
    let made = create_token("deploy_organization", json!({}));
    let made = data(&w, &document("CreateLimitedAccessToken"), made).await;
    let header = &made["createLimitedAccessToken"]["limitedAccessToken"]["tokenHeader"];
    let mut token = Macaroon::parse(header.as_str().unwrap().trim_start_matches("FlyV1 ")).unwrap();
    token.attenuate(Caveat::Mutations { mutations: vec!["createApp".into()] }).unwrap();
    let header = format!("FlyV1 {}", token.to_text());
    let app = json!({ "input": { "organizationId": "personal", "name": "new" } });
    let answer = ask(&w, &header, &document("CreateApp"), app).await;
    assert_eq!(answer["data"]["createApp"]["app"]["id"], "new", "{answer}");
    for (name, variables) in [
        ("DeleteApp", json!({ "appId": "web" })),
        ("AppCompact", json!({ "appName": "web" })),
        ("Invite", json!({ "input": { "organizationId": "personal", "email": "a@b" } })),
    ] {
        let answer = ask(&w, &header, &document(name), variables).await;
        assert_eq!(failure(&answer).0, "FORBIDDEN", "{name}: {answer}");
    }
}
