//! Every route with tokens that must not be enough for it. The routes are those of the table,
//! so that a new one is tested as soon as it is there.

use crate::tokens::make;
use crate::world::{TestWorld, at, error, id, world};
use control::access::{Need, Subject};
use control::http_api::{HttpApi, Route};
use macaroon::{Action, Caveat, Macaroon, Resources};
use model::id::{AppId, OrgId};
use reqwest::Method;
use serde_json::{Value, json};
use store::records::TokenRecord;

/// All calls that need no token, and how they answer one without a body.
const OPEN: [(&str, &str, u16); 11] = [
    ("GET", "/openapi.json", 200),
    ("GET", "/docs", 200),
    ("GET", "/{org}/.well-known/openid-configuration", 200),
    ("GET", "/{org}/.well-known/jwks", 200),
    // These verify a header that is in their body.
    ("POST", "/v1/tokens/authenticate", 400),
    ("POST", "/v1/tokens/authorize", 400),
    // Who logs in has no token yet. The id of a login is as secret as its token.
    ("POST", "/api/v1/cli_sessions", 201),
    ("GET", "/api/v1/cli_sessions/{login}", 404),
    ("POST", "/api/v1/sessions", 400),
    ("GET", "/login/{login}", 404),
    ("POST", "/login/{login}", 404),
];

/// A token of the organization `personal`, which has the number 1.
fn token(kind: &str, apps: &[u32]) -> TokenRecord {
    TokenRecord {
        name: format!("my {kind}"),
        kind: kind.into(),
        org: Some(OrgId(1)),
        apps: apps.iter().copied().map(AppId).collect(),
        ..TokenRecord::default()
    }
}

/// Status and JSON of the answer to a call with this token.
async fn ask(w: &TestWorld, token: &str, method: Method, path: &str, body: Value) -> (u16, Value) {
    let mut request = w.client.request(method, format!("http://{}{path}", w.addr));
    if !token.is_empty() {
        request = request.header("authorization", format!("Bearer {token}"));
    }
    if !body.is_null() {
        request = request.json(&body);
    }
    let answer = request.send().await.unwrap();
    let status = answer.status().as_u16();
    // A watch does not end.
    if answer.headers().get("content-type").is_some_and(|kind| kind == "text/event-stream") {
        return (status, Value::Null);
    }
    let text = answer.text().await.unwrap();
    let json = serde_json::from_str(&text).unwrap_or(Value::String(text));
    if path == "/graphql" {
        return of_graphql(&json);
    }
    (status, json)
}

/// The first error of GraphQL, whose status is always 200, in the form of the other routes.
fn of_graphql(answer: &Value) -> (u16, Value) {
    let first = &answer["errors"][0];
    let status = match first["extensions"]["code"].as_str() {
        None => 200,
        Some("UNAUTHORIZED") => 401,
        Some("FORBIDDEN") => 403,
        Some(_) => 400,
    };
    (status, json!({ "error": first["message"] }))
}

/// A method and a path of the route, about the machine of the app `web`.
fn call(route: &Route, machine: &Value) -> (Method, String) {
    let parts = route.path.split('/').map(|part| match part {
        "{app}" => "web".to_owned(),
        "{machine}" => id(machine).to_string(),
        "{org}" => "personal".to_owned(),
        part if part.starts_with('{') => "x".to_owned(),
        part => part.to_owned(),
    });
    let path = parts.collect::<Vec<_>>().join("/");
    (route.method.clone().unwrap_or(Method::GET), path)
}

fn of_app(need: &Need) -> bool {
    matches!(need.subject, Subject::App | Subject::Machine | Subject::Volume)
}

async fn walk(w: &TestWorld, text: &str, check: impl Fn(&Route, &(u16, Value))) {
    w.app().await;
    let machine = w.machine(json!({})).await;
    let routes = HttpApi::routes();
    assert!(routes.len() > 30, "{}", routes.len());
    for route in routes {
        let (method, path) = call(&route, &machine);
        let answer = ask(w, text, method, &path, Value::Null).await;
        check(&route, &answer);
    }
    assert_eq!(w.get(&at(&machine, "")).await.1["state"], "started", "nothing has happened");
}

#[tokio::test]
async fn no_route_is_open_without_a_valid_token() {
    let w = world().await;
    let expired = TokenRecord { expires_ms: Some(w.clock.now_ms()), ..token("org", &[]) };
    w.put_token("old", expired).await;
    for (text, why) in [
        ("", "unauthorized: no token was given"),
        ("wrong", "unauthorized: the token is not valid"),
        ("old", "unauthorized: the token has expired"),
    ] {
        let machine = json!({ "id": "00000000000000" });
        for route in HttpApi::routes() {
            let (method, path) = call(&route, &machine);
            let answer = ask(&w, text, method, &path, Value::Null).await;
            if route.need.subject == Subject::Open {
                let method = route.method.as_ref().map_or("", Method::as_str);
                let is_it = |open: &&(&str, &str, u16)| (open.0, open.1) == (method, &route.path);
                let open = OPEN.iter().find(is_it).unwrap_or_else(|| panic!("{route:?}"));
                assert_eq!(answer.0, open.2, "{route:?}: {answer:?}");
                continue;
            }
            assert_eq!(error(&answer), (401, why), "{route:?}");
        }
    }
}

#[tokio::test]
async fn for_the_token_of_another_organization_nothing_is_there() {
    let w = world().await;
    let foreign = TokenRecord { org: Some(OrgId(99)), ..token("org", &[]) };
    w.put_token("foreign", foreign).await;
    walk(&w, "foreign", |route, answer| {
        let (code, why) = error(answer);
        match route.need.subject {
            Subject::Platform => assert_eq!(code, 403, "{route:?}: {why}"),
            Subject::Org => {
                assert_eq!((code, why), (404, "Could not find Organization \"personal\""));
            }
            _ if of_app(&route.need) => {
                assert_eq!((code, why), (404, "Could not find App \"web\""), "{route:?}");
            }
            _ => assert!(![401, 403].contains(&code), "{route:?}: {why}"),
        }
    })
    .await;
    let (code, apps) = ask(&w, "foreign", Method::GET, "/v1/apps", Value::Null).await;
    assert_eq!((code, &apps["apps"]), (200, &json!([])));
    let own = ask(&w, "foreign", Method::GET, "/v1/apps?org_slug=personal", Value::Null).await;
    assert_eq!(error(&own), (404, "Could not find Organization \"personal\""));
    let new = json!({ "app_name": "new" });
    let (code, _) = ask(&w, "foreign", Method::POST, "/v1/apps", new).await;
    assert_eq!(code, 404);
}

#[tokio::test]
async fn a_macaroon_for_another_machine_permits_no_route() {
    let w = world().await;
    let token = make(&w, json!({ "type": "org", "macaroon": true })).await;
    let mut narrowed = Macaroon::parse(&token).unwrap();
    let machines = Resources::of(["00000000000000".to_owned()], Action::ALL);
    narrowed.attenuate(Caveat::Machines { machines }).unwrap();
    let text = narrowed.to_text();
    walk(&w, &text, |route, answer| {
        let (code, why) = error(answer);
        match route.need.subject {
            Subject::Open | Subject::Token | Subject::Several => assert_ne!(code, 401, "{route:?}"),
            _ => assert_eq!(code, 403, "{route:?}: {why}"),
        }
    })
    .await;
    let (_, apps) = ask(&w, &text, Method::GET, "/v1/apps", Value::Null).await;
    assert_eq!(apps["apps"], json!([]));
}

#[tokio::test]
async fn the_token_of_another_app_does_not_find_the_app() {
    let w = world().await;
    w.put_token("other", token("deploy", &[99])).await;
    walk(&w, "other", |route, answer| {
        let (code, why) = error(answer);
        if of_app(&route.need) {
            assert_eq!((code, why), (404, "Could not find App \"web\""), "{route:?}");
        }
    })
    .await;
}

#[tokio::test]
async fn a_token_for_reading_reads_and_is_refused_all_else_with_the_missing_permission() {
    let w = world().await;
    w.put_token("reader", token("readonly", &[])).await;
    walk(&w, "reader", |route, answer| {
        let (code, why) = error(answer);
        let words = route.need.action.words();
        match route.need.subject {
            Subject::Platform => {
                let why_not = why.contains("may not") && why.contains("needs an admin token");
                assert!(code == 403 && why_not, "{route:?}: {code} {why}");
            }
            Subject::Open | Subject::Token | Subject::Several => {}
            _ if words == "read" => assert!(![401, 403].contains(&code), "{route:?}: {why}"),
            _ => {
                let begins = format!("forbidden: token \"my readonly\" may not {words} ");
                let lacks = format!("it lacks the permission to {words}");
                assert_eq!(code, 403, "{route:?}: {why}");
                assert!(why.starts_with(&begins) && why.contains(&lacks), "{route:?}: {why}");
            }
        }
    })
    .await;
    let new = json!({ "app_name": "new" });
    let refused = ask(&w, "reader", Method::POST, "/v1/apps", new).await;
    let why = "forbidden: token \"my readonly\" may not create apps in organization \"personal\": \
               it lacks the permission to create";
    assert_eq!(error(&refused), (403, why));
}

#[tokio::test]
async fn lists_have_what_the_token_may_read() {
    let w = world().await;
    w.app().await;
    w.post("/v1/apps", json!({ "app_name": "api" })).await;
    w.put_token("web", token("deploy", &[1])).await;
    w.put_token("all", token("org", &[])).await;
    for (text, expected) in [("web", json!(["web"])), ("all", json!(["api", "web"]))] {
        let (_, list) = ask(&w, text, Method::GET, "/v1/apps", Value::Null).await;
        let names: Vec<_> =
            list["apps"].as_array().unwrap().iter().map(|app| app["name"].clone()).collect();
        assert_eq!(json!(names), expected, "{text}");
        assert_eq!(list["total_apps"], names.len());
    }
    // Two tokens in one header permit what either does.
    let (code, _) = ask(&w, "web,all", Method::GET, "/v1/apps/api", Value::Null).await;
    assert_eq!(code, 200);
    let (_, current) = ask(&w, "web", Method::GET, "/v1/tokens/current", Value::Null).await;
    let current = &current["tokens"][0];
    assert_eq!(
        (&current["type"], &current["org_slug"], &current["apps"]),
        (&json!("deploy"), &json!("personal"), &json!([{ "name": "web" }]))
    );
}

#[tokio::test]
async fn a_token_for_commands_runs_those() {
    let w = world().await;
    w.app().await;
    let machine = w.machine(json!({})).await;
    let rule = |args: &[&str], exact| wire::tokens::CommandRule {
        args: args.iter().map(ToString::to_string).collect(),
        exact,
    };
    let commands = vec![rule(&["echo"], false), rule(&["cat", "x"], true)];
    w.put_token("some", TokenRecord { commands, ..token("machine-exec", &[1]) }).await;
    w.put_token("ssh", token("ssh", &[1])).await;
    let exec = async |text: &str, ask_for: Value| {
        ask(&w, text, Method::POST, &at(&machine, "/exec"), ask_for).await
    };
    let (code, done) = exec("some", json!({ "cmd": "echo -n a" })).await;
    assert_eq!((code, &done["exit_code"]), (200, &json!(0)), "{done}");
    let refused = exec("some", json!({ "command": ["cat", "x", "y"] })).await;
    let (code, why) = error(&refused);
    assert_eq!(code, 403, "{why}");
    assert!(why.ends_with(r#"it permits the command "echo" …, "cat x" only"#), "{why}");
    assert_eq!(exec("ssh", json!({ "command": ["exit", "0"] })).await.0, 200);
    // They read, and change nothing.
    for text in ["some", "ssh"] {
        let get = ask(&w, text, Method::GET, &at(&machine, ""), Value::Null).await;
        assert_eq!(get.0, 200, "{text}");
        let stop = ask(&w, text, Method::POST, &at(&machine, "/stop"), Value::Null).await;
        assert_eq!(stop.0, 403, "{text}");
    }
}
