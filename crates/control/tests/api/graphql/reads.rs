//! What queries answer, to whom.

use super::documents::{document, with_machine};
use super::{ask, data, failure};
use crate::tokens::make;
use crate::world::{TOKEN, world};
use host_api::HostError;
use serde_json::{Value, json};

#[tokio::test]
async fn the_caller_is_the_member_of_its_token_else_the_token() {
    let w = world().await;
    let member = json!({ "email": "ann@example.com", "role": "admin" });
    assert_eq!(w.post("/v1/orgs/personal/members", member).await.0, 200);
    let own = make(&w, json!({ "type": "org", "member": "ann@example.com" })).await;
    let macaroon = make(&w, json!({ "type": "org", "name": "ci", "macaroon": true })).await;
    let user = |email: &str| json!({ "id": email, "email": email, "enablePaidHobby": false });
    for (header, expected) in [
        (TOKEN.to_owned(), user("admin")),
        (format!("Bearer {own}"), user("ann@example.com")),
        (format!("FlyV1 {macaroon}"), json!({ "email": "ci" })),
        (format!("FlyV1 {macaroon},{own}"), json!({ "email": "ci" })),
    ] {
        let answer = ask(&w, &header, &document("Viewer"), Value::Null).await;
        assert_eq!(answer, json!({ "data": { "viewer": expected } }), "{header}");
    }
}

#[tokio::test]
async fn organizations_have_the_fields_in_the_forms_that_clients_read() {
    let w = world().await;
    let (_, acme) = w.post("/v1/orgs", json!({ "name": "Acme Inc." })).await;
    let orgs = data(&w, &document("Orgs"), json!({ "admin": false })).await;
    let number = acme["internal_numeric_id"].to_string();
    assert_eq!(
        orgs["organizations"]["nodes"][0],
        json!({
            "id": "acme-inc", "slug": "acme-inc", "rawSlug": "acme-inc", "name": "Acme Inc.",
            "type": "SHARED", "paidPlan": true, "billable": true, "viewerRole": "admin",
            "internalNumericId": number,
        })
    );
    assert_eq!(orgs["organizations"]["nodes"][1]["type"], "PERSONAL");
    let member = json!({ "email": "ann@example.com" });
    assert_eq!(w.post("/v1/orgs/acme-inc/members", member).await.0, 200);
    let shown = data(&w, &document("OrgDetails"), json!({ "slug": "acme-inc" })).await;
    let user =
        json!({ "id": "ann@example.com", "email": "ann@example.com", "name": "ann@example.com" });
    assert_eq!(
        shown["organizationdetails"]["members"]["edges"],
        json!([{
            "cursor": "ann@example.com", "joinedAt": "2023-11-14T22:13:20.000Z",
            "role": "member", "node": user,
        }])
    );
    let own = make(&w, json!({ "type": "readonly" })).await;
    let seen = ask(&w, &own, &document("Orgs"), json!({ "admin": false })).await;
    let nodes = seen["data"]["organizations"]["nodes"].as_array().unwrap();
    assert_eq!((nodes.len(), &nodes[0]["viewerRole"]), (1, &json!("member")));
    for slug in ["acme-inc", "none", "No Slug", ""] {
        let answer = ask(&w, &own, &document("Org"), json!({ "slug": slug })).await;
        let expected = match slug {
            "" => ("INVALID", "name: is required".to_owned()),
            slug => ("NOT_FOUND", format!("Could not find Organization {slug:?}")),
        };
        assert_eq!(failure(&answer), (expected.0, &*expected.1));
    }
}

#[tokio::test]
async fn an_app_without_machines_has_no_release_and_one_with_machines_the_release_0() {
    let w = world().await;
    w.app().await;
    let web = json!({ "appName": "web", "limit": 25 });
    let shown = data(&w, &document("CurrentRelease"), web.clone()).await;
    assert_eq!(shown, json!({ "app": { "currentRelease": null } }));
    let shown = data(&w, &document("Releases"), web.clone()).await;
    assert_eq!(shown, json!({ "app": { "releases": { "nodes": [] } } }));
    w.machine(json!({ "name": "older" })).await;
    w.clock.advance(std::time::Duration::from_secs(60));
    let newest = w.machine(json!({ "config": { "image": "app:2" } })).await;
    let expected = json!({
        "id": "web-v0", "version": 0, "reason": "", "status": "complete", "stable": true,
        "description": "Derived from the app's newest machine", "imageRef": "app:2",
        "createdAt": newest["created_at"],
        "user": { "id": "updraft", "email": "updraft", "name": "updraft" },
    });
    let shown = data(&w, &document("CurrentRelease"), web.clone()).await;
    assert_eq!(shown["app"]["currentRelease"], expected);
    let shown = data(&w, &document("Releases"), web.clone()).await;
    assert_eq!(shown["app"]["releases"]["nodes"], json!([expected]));
    let shown = data(&w, &document("FlyctlConfigCurrentRelease"), web).await;
    assert_eq!(shown["app"]["currentReleaseUnprocessed"]["configDefinition"], Value::Null);
    // In a list the machines of all apps are read at once.
    w.post("/v1/apps", json!({ "app_name": "empty" })).await;
    let shown = data(&w, &document("Apps"), Value::Null).await;
    let release = |n: usize| shown["apps"]["nodes"][n]["currentRelease"].clone();
    assert_eq!(release(0), Value::Null);
    assert_eq!(release(1), json!({ "createdAt": newest["created_at"], "status": "complete" }));
}

#[tokio::test]
async fn apps_are_listed_page_by_page() {
    let w = world().await;
    for name in ["a", "b", "c"] {
        let role = if name == "b" { "db" } else { "" };
        let (code, _) = w.post("/v1/apps", json!({ "app_name": name, "app_role_id": role })).await;
        assert_eq!(code, 201);
    }
    let query = "query($first: Int, $after: String, $role: String, $type: String, $org: ID) {
        apps(first: $first, after: $after, role: $role, type: $type, organizationId: $org) {
            pageInfo { hasNextPage endCursor } nodes { name }
        }
    }";
    for (variables, names, end) in [
        (json!({ "after": "" }), "abc", json!([false, "c"])),
        (json!({ "first": 2 }), "ab", json!([true, "b"])),
        (json!({ "first": 2, "after": "b" }), "c", json!([false, "c"])),
        (json!({ "first": 0 }), "", json!([true, null])),
        (json!({ "after": "c" }), "", json!([false, null])),
        (json!({ "role": "db" }), "b", json!([false, "b"])),
        (json!({ "role": "", "org": "personal" }), "abc", json!([false, "c"])),
        (json!({ "type": "container" }), "abc", json!([false, "c"])),
        (json!({ "type": "function" }), "", json!([false, null])),
    ] {
        let apps = &data(&w, query, variables.clone()).await["apps"];
        let nodes = apps["nodes"].as_array().unwrap();
        let listed: String = nodes.iter().map(|app| app["name"].as_str().unwrap()).collect();
        let page = &apps["pageInfo"];
        assert_eq!((&*listed, json!([page["hasNextPage"], page["endCursor"]])), (names, end));
    }
    let refused = ask(&w, TOKEN, query, json!({ "first": -1 })).await;
    assert_eq!(failure(&refused), ("INVALID", "first: must not be negative"));
    let none = ask(&w, TOKEN, query, json!({ "org": "none" })).await;
    assert_eq!(failure(&none), ("NOT_FOUND", "Could not find Organization \"none\""));
}

#[tokio::test]
async fn an_app_is_found_by_name_and_number_and_never_null() {
    let (w, machine) = with_machine().await;
    let app = data(&w, &document("AppCompact"), json!({ "appName": "web" })).await;
    assert_eq!(
        app["appcompact"],
        json!({
            "id": "web", "internalNumericId": 1, "name": "web", "hostname": "web.localhost:8080",
            "cnameTarget": "web.localhost", "deployed": true, "network": "default",
            "status": "deployed", "appUrl": "http://web.localhost:8080",
            "platformVersion": "machines", "postgresAppRole": null,
            "organization":
                { "id": "personal", "internalNumericId": "1", "slug": "personal", "paidPlan": true },
        })
    );
    let whole = data(&w, &document("WholeApp"), json!({ "appName": "1" })).await;
    let shown = &whole["app"]["machines"]["nodes"][0];
    assert_eq!(
        (&shown["id"], &shown["config"]["image"], &shown["app"]["name"]),
        (&json!(machine), &json!("nginx"), &json!("web"))
    );
    assert_eq!(shown["ips"]["nodes"][0]["kind"], "privatenet");
    assert_eq!(whole["app"]["imageDetails"]["repository"], "nginx");
    let by_number = "{ app(internalId: \"1\") { name } }";
    assert_eq!(data(&w, by_number, Value::Null).await["app"]["name"], "web");
    for name in ["none", "2", "No Name", "x\u{1f600}"] {
        let answer = ask(&w, TOKEN, &document("AppBasic"), json!({ "appName": name })).await;
        let expected = format!("Could not find App {name:?}");
        assert_eq!(failure(&answer), ("NOT_FOUND", &*expected));
        assert_eq!(answer["data"], json!({ "appbasic": null }));
    }
}

/// Organization, app and machine that a token is not for do not exist for it; what it may not do
/// is refused with the missing permission, and the rest of the answer stays.
#[tokio::test]
async fn rights_are_those_of_the_token() {
    let (w, machine) = with_machine().await;
    w.post("/v1/orgs", json!({ "name": "acme" })).await;
    w.post("/v1/apps", json!({ "app_name": "other" })).await;
    let (_, foreign) = w.post("/v1/orgs/acme/tokens", json!({ "type": "org" })).await;
    let foreign = foreign["token"].as_str().unwrap();
    let deploy = make(&w, json!({ "type": "deploy", "app": "other" })).await;
    for token in [foreign, &*deploy] {
        let none = ("NOT_FOUND", "Could not find App \"web\"");
        for name in ["AppCompact", "GetApp", "AppTokens", "CanBluegreen", "ResolveImage"] {
            let variables = json!({ "appName": "web", "name": "web", "imageRef": "demo:1" });
            let answer = ask(&w, token, &document(name), variables).await;
            assert_eq!(failure(&answer), none, "{name}");
        }
        let by_number = ask(&w, token, "{ app(internalId: 1) { name } }", Value::Null).await;
        assert_eq!(failure(&by_number).0, "INVALID", "a number is no text");
        let by_number = ask(&w, token, "{ app(internalId: \"1\") { name } }", Value::Null).await;
        assert_eq!(failure(&by_number), ("NOT_FOUND", "Could not find App \"1\""));
        let answer = ask(&w, token, &document("Machine"), json!({ "machineId": machine })).await;
        let expected = format!("Could not find Machine {machine:?}");
        assert_eq!(failure(&answer), ("NOT_FOUND", &*expected));
        let answer = ask(&w, token, &document("DeleteApp"), json!({ "appId": "web" })).await;
        assert_eq!(failure(&answer), none);
        let answer = ask(&w, token, &document("Apps"), json!({ "org": "personal" })).await;
        assert!(!answer.to_string().contains("web"), "{answer}");
    }
    let reader = make(&w, json!({ "type": "readonly", "name": "my reader" })).await;
    for (name, variables) in [
        ("DeleteApp", json!({ "appId": "web" })),
        ("CreateApp", json!({ "input": { "organizationId": "personal", "name": "new" } })),
        ("CreateOrg", json!({ "input": { "name": "new" } })),
        ("Invite", json!({ "input": { "organizationId": "personal", "email": "a@b" } })),
        ("DeleteOrg", json!({ "input": { "organizationId": "personal" } })),
        (
            "CreateLimitedAccessToken",
            json!({ "name": "x", "organizationId": "personal", "profile": "deploy_organization",
                    "expiry": "" }),
        ),
    ] {
        let answer = ask(&w, &reader, &document(name), variables).await;
        let (code, why) = failure(&answer);
        assert!(code == "FORBIDDEN" && why.contains("\"my reader\" may not"), "{name}: {answer}");
    }
    assert_eq!(w.get("/v1/apps/web").await.0, 200, "nothing has happened");
    // A machine of the own app, whose fields need no more.
    let own = make(&w, json!({ "type": "deploy", "app": "web" })).await;
    let answer = ask(&w, &own, &document("Machine"), json!({ "machineId": machine })).await;
    assert_eq!(answer["data"]["gqlmachine"]["app"]["organization"]["slug"], "personal");
    let both = "{ app(name: \"web\") { name organization { slug members { edges { role } } } } }";
    let answer = ask(&w, &own, both, Value::Null).await;
    assert_eq!(failure(&answer).0, "FORBIDDEN", "{answer}");
}

#[tokio::test]
async fn an_image_is_one_of_the_platform_else_one_of_a_registry() {
    let (w, _) = with_machine().await;
    let digest = format!("sha256:{:064x}", 5);
    for reference in ["demo:1", "docker.io/library/demo:1", &format!("demo:1@{digest}")] {
        let variables = json!({ "appName": "web", "imageRef": reference });
        let app = data(&w, &document("ResolveImage"), variables).await;
        assert_eq!(
            app["app"]["image"],
            json!({ "id": digest, "digest": digest, "ref": reference, "compressedSize": "5",
                    "manifest": null })
        );
    }
    let shown = data(&w, &document("LatestImageDetails"), json!({ "image": "demo:1" })).await;
    assert_eq!(shown["latestImageDetails"]["digest"], digest);
    let none = json!({ "appName": "web", "imageRef": "demo:2" });
    let answer = ask(&w, TOKEN, &document("ResolveImage"), none).await;
    let why = "could not find image \"demo:2\": no image demo:2";
    assert_eq!(failure(&answer), ("NOT_FOUND", why));
    assert_eq!(answer["data"], json!({ "app": { "id": "web", "image": null } }));
    // Of a registry, whose image has no size until it is pulled.
    let foreign = json!({ "appName": "web", "imageRef": "nginx:1" });
    let app = data(&w, &document("ResolveImage"), foreign.clone()).await;
    let image = &app["app"]["image"];
    assert_eq!((&image["ref"], &image["compressedSize"]), (&json!("nginx:1"), &json!("0")));
    let reader = make(&w, json!({ "type": "readonly" })).await;
    let answer = ask(&w, &reader, &document("ResolveImage"), foreign.clone()).await;
    assert_eq!(failure(&answer).0, "FORBIDDEN");
    let broken = HostError::Internal("the registry is broken".into());
    w.host.fail_next("resolve_image", broken);
    let answer = ask(&w, TOKEN, &document("ResolveImage"), foreign).await;
    assert_eq!(failure(&answer).0, "BAD_GATEWAY");
    let answer = ask(&w, TOKEN, &document("LatestImageDetails"), json!({ "image": "nginx" })).await;
    assert_eq!(failure(&answer), ("NOT_FOUND", "Unknown repository \"nginx\""));
}

#[tokio::test]
async fn regions_are_those_of_the_hosts() {
    let w = world().await;
    let shown = data(&w, &document("PlatformRegions"), Value::Null).await;
    assert_eq!(
        shown["platform"],
        json!({ "requestRegion": "local", "regions": [{
            "name": "local", "code": "local", "latitude": null, "longitude": null,
            "gatewayAvailable": true, "requiresPaidPlan": false, "deprecated": false,
        }] })
    );
    let nearest = data(&w, &document("NearestRegion"), Value::Null).await;
    assert_eq!(nearest["nearestRegion"]["code"], "local");
}
