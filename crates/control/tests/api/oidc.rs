//! OpenID Connect tokens of machines, verified as another service does.

use crate::world::{TOKEN, TestWorld, error, id, world};
use aws_lc_rs::signature::{RSA_PKCS1_2048_8192_SHA256, RsaPublicKeyComponents};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use control::guest_api::GuestApi;
use reqwest::Method;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// An answer without a token.
async fn public(w: &TestWorld, path: &str) -> (u16, Value) {
    let answer = w.client.get(format!("http://{}{path}", w.addr)).send().await.unwrap();
    (answer.status().as_u16(), answer.json().await.unwrap())
}

/// Status and body of a request that comes out of a machine.
async fn from_machine(w: &TestWorld, machine: &Value, body: &Value, more: &str) -> (u16, String) {
    let (mut guest, host) = tokio::io::duplex(64 * 1024);
    GuestApi::new(&w.api).serve(id(machine), host_api::GuestListener::Socket, host);
    let body = body.to_string();
    let text = format!(
        "POST /v1/tokens/oidc HTTP/1.1\r\nhost: flaps\r\nconnection: close\r\n{more}content-length: {}\r\n\r\n{body}",
        body.len()
    );
    guest.write_all(text.as_bytes()).await.unwrap();
    let mut answer = String::new();
    guest.read_to_string(&mut answer).await.unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    (head.split(' ').nth(1).unwrap().parse().unwrap(), body.to_owned())
}

/// The claims of a token, if a key of the issuer has signed it.
async fn verified(w: &TestWorld, token: &str) -> Value {
    let decode = |part: &str| URL_SAFE_NO_PAD.decode(part).unwrap();
    let json = |part: &str| serde_json::from_slice::<Value>(&decode(part)).unwrap();
    let parts: Vec<&str> = token.split('.').collect();
    let (header, claims) = (json(parts[0]), json(parts[1]));
    let (_, found) = public(w, "/personal/.well-known/openid-configuration").await;
    assert_eq!(found["issuer"], claims["iss"]);
    let jwks =
        found["jwks_uri"].as_str().unwrap().strip_prefix("https://oidc.example.com").unwrap();
    let (code, keys) = public(w, jwks).await;
    assert_eq!(code, 200);
    let key = keys["keys"].as_array().unwrap().iter().find(|key| key["kid"] == header["kid"]);
    let key = key.expect("the key is published");
    assert_eq!((&header["alg"], &key["kty"]), (&json!("RS256"), &json!("RSA")));
    let part = |name: &str| decode(key[name].as_str().unwrap());
    let public = RsaPublicKeyComponents { n: part("n"), e: part("e") };
    let signed = token.rsplit_once('.').unwrap().0;
    let signature = decode(parts[2]);
    public.verify(&RSA_PKCS1_2048_8192_SHA256, signed.as_bytes(), &signature).expect("signed");
    claims
}

#[tokio::test]
async fn a_machine_proves_what_it_is() {
    let w = world().await;
    w.app().await;
    let machine = w.machine(json!({ "name": "front" })).await;
    let (code, token) = from_machine(&w, &machine, &json!({}), "").await;
    assert_eq!(code, 200, "{token}");
    let claims = verified(&w, &token).await;
    assert_eq!(claims["iss"], "https://oidc.example.com/personal");
    assert_eq!(claims["aud"], "https://oidc.example.com/personal");
    assert_eq!(claims["sub"], "personal:web:front");
    assert_eq!(claims["machine_id"], machine["id"]);
    assert_eq!(claims["machine_version"], machine["instance_id"]);
    assert_eq!(
        (&claims["app_name"], &claims["org_name"], &claims["region"]),
        (&json!("web"), &json!("personal"), &json!("local"))
    );
    assert_eq!((&claims["iat"], &claims["exp"]), (&json!(1_700_000_000), &json!(1_700_000_600)));
    assert_eq!(claims["jti"].as_str().unwrap().len(), 36);
    let ask = json!({ "aud": "sts.amazonaws.com", "aws_principal_tags": ["app_name", "region"] });
    let (_, token) = from_machine(&w, &machine, &ask, "").await;
    let claims = verified(&w, &token).await;
    assert_eq!(claims["aud"], "sts.amazonaws.com");
    let tags = json!({ "principal_tags": { "app_name": ["web"], "region": ["local"] } });
    assert_eq!(claims["https://aws.amazon.com/tags"], tags);
    let bad = from_machine(&w, &machine, &json!({ "aws_principal_tags": ["iss"] }), "").await;
    assert_eq!(bad.0, 400, "{}", bad.1);
    // A machine without a token names no other.
    let other = json!({ "app_name": "web", "machine_id": "front" });
    assert_eq!(from_machine(&w, &machine, &other, "").await.0, 400);
}

#[tokio::test]
async fn a_token_of_the_api_names_the_machine() {
    let w = world().await;
    w.app().await;
    let machine = w.machine(json!({ "name": "front" })).await;
    let ask = json!({ "app_name": "web", "machine_id": "front" });
    let answer = w.request(Method::POST, "/v1/tokens/oidc").json(&ask).send().await.unwrap();
    assert_eq!(answer.headers()["content-type"], "text/plain; charset=utf-8");
    let claims = verified(&w, &answer.text().await.unwrap()).await;
    assert_eq!(claims["machine_id"], machine["id"]);
    let with_token = format!("authorization: Bearer {TOKEN}\r\n");
    assert_eq!(from_machine(&w, &machine, &ask, &with_token).await.0, 200);
    let none = w.post("/v1/tokens/oidc", json!({})).await;
    assert_eq!(error(&none), (400, "app_name: is required with a token"));
    // It takes the permission to change the machine.
    let (_, made) = w.post("/v1/orgs/personal/tokens", json!({ "type": "readonly" })).await;
    let url = format!("http://{}/v1/tokens/oidc", w.addr);
    let reader = w.client.post(url).header("authorization", made["token"].as_str().unwrap());
    assert_eq!(reader.json(&ask).send().await.unwrap().status(), 403);
    for path in ["/none/.well-known/jwks", "/none/.well-known/openid-configuration"] {
        assert_eq!(public(&w, path).await.0, 404, "{path}");
    }
}

#[tokio::test]
async fn another_service_verifies_a_token() {
    let w = world().await;
    w.app().await;
    let body = json!({ "type": "machine-exec", "app": "web", "commands": [{ "args": ["ls"] }], "macaroon": true });
    let (_, made) = w.post("/v1/orgs/personal/tokens", body).await;
    let header = format!("FlyV1 {}", made["token"].as_str().unwrap());
    let machine = w.machine(json!({})).await;
    // Without a token of its own, as clients of the platform ask.
    let ask = async |path: &str, body: &Value| {
        let request = w.client.post(format!("http://{}{path}", w.addr)).json(body);
        let answer = request.send().await.unwrap();
        (answer.status().as_u16(), answer.json::<Value>().await.unwrap())
    };
    let (code, list) = ask("/v1/tokens/authenticate", &json!({ "header": header })).await;
    assert_eq!((code, list.as_array().map(Vec::len)), (200, Some(1)), "{list}");
    assert_eq!(format!("fm2_{}", list[0]["permission_token"].as_str().unwrap()), made["token"]);
    assert_eq!(list[0]["type"], "machine-exec");
    let kinds: Vec<_> = list[0]["caveats"].as_array().unwrap().iter().map(|c| &c["type"]).collect();
    assert_eq!(kinds, ["Organization", "Apps", "IfPresent", "ValidityWindow"], "{list}");
    for (header, why) in [
        ("FlyV1 fm2_x", "unauthorized: the token is not valid"),
        ("", "unauthorized: no token was given"),
    ] {
        let body = json!({ "header": header, "access": { "action": "r" } });
        for path in ["/v1/tokens/authenticate", "/v1/tokens/authorize"] {
            let body = if path.ends_with("authorize") {
                body.clone()
            } else {
                json!({ "header": header })
            };
            assert_eq!(error(&ask(path, &body).await), (401, why), "{path}");
        }
    }
    let on = |mut access: Value, more: Value| {
        access.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        json!({ "header": header, "access": access })
    };
    let app = json!({ "action": "r", "org_slug": "personal", "app_name": "web" });
    let exec = json!({ "action": "wC", "machine_id": machine["id"], "command": ["ls", "-l"] });
    w.post("/v1/apps", json!({ "app_name": "api" })).await;
    for (access, more, expected) in [
        (&app, json!({}), 200),
        (&app, json!({ "action": "w" }), 403),
        (&app, json!({ "action": "*" }), 403),
        (&exec, json!({}), 200),
        (&exec, json!({ "app_name": "web" }), 200),
        (&exec, json!({ "command": ["rm"] }), 403),
        // The machine is of another app, or there is none.
        (&exec, json!({ "app_name": "api" }), 403),
        (&exec, json!({ "org_slug": "none" }), 403),
        (&exec, json!({ "machine_id": "00000000000000" }), 403),
        (&exec, json!({ "machine_id": "m" }), 403),
        (&app, json!({ "app_name": "none" }), 403),
        (&app, json!({ "app_name": "api" }), 403),
        (&app, json!({ "org_slug": "none" }), 403),
    ] {
        let body = on(access.clone(), more);
        let (code, verdict) = ask("/v1/tokens/authorize", &body).await;
        assert_eq!(code, expected, "{body}: {verdict}");
        if code == 200 {
            let access = &verdict["access"];
            assert_eq!((&access["orgid"], &access["appid"]), (&json!(1), &json!(1)), "{verdict}");
            let token = verdict["verified_token"]["permission_token"].as_str().unwrap();
            assert_eq!(format!("fm2_{token}"), made["token"]);
        }
    }
    // An answer does not reveal whether there is an app.
    let refused = async |name: &str| {
        let body = on(app.clone(), json!({ "app_name": name }));
        error(&ask("/v1/tokens/authorize", &body).await).1.to_owned()
    };
    assert_eq!(refused("api").await, refused("none").await);
    let all = ask("/v1/tokens/authorize", &on(app.clone(), json!({ "action": "*" }))).await;
    assert!(error(&all).1.contains("it lacks the permission to write, create"), "{all:?}");
    for (more, why) in [
        (json!({ "action": "x" }), "access.action: must be letters of rwcdC, or *"),
        (
            json!({ "command": ["ls"] }),
            "access.machine_id: is required with a command or a feature of a machine",
        ),
    ] {
        let refused = ask("/v1/tokens/authorize", &on(app.clone(), more)).await;
        assert_eq!(error(&refused), (400, why));
    }
}
