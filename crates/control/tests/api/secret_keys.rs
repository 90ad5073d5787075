//! Secret keys of apps.

use crate::world::{TestWorld, error, world};
use serde_json::{Value, json};

const PATH: &str = "/v1/apps/web/secretkeys";

async fn post(w: &TestWorld, rest: &str, body: Value) -> (u16, Value) {
    w.post(&format!("{PATH}{rest}"), body).await
}

const TYPES: [&str; 9] = [
    "es256",
    "hs256",
    "hs384",
    "hs512",
    "nacl_auth",
    "nacl_box",
    "nacl_secretbox",
    "nacl_sign",
    "xaes256gcm",
];

#[tokio::test]
async fn keys_of_every_type_are_generated_and_used() {
    let w = world().await;
    w.app().await;
    assert_eq!(w.get(&format!("{PATH}/types")).await.1, json!({ "types": TYPES }));
    for kind in TYPES {
        // As flyctl sends it.
        let (code, made) =
            post(&w, &format!("/{kind}v0/generate"), json!({ "type": kind, "value": null })).await;
        assert_eq!(
            (code, &made["type"], &made["name"]),
            (201, &json!(kind), &json!(format!("{kind}v0")))
        );
        assert!(made["version"].is_u64(), "{made}");
        let has_public = matches!(kind, "es256" | "nacl_box" | "nacl_sign");
        assert_eq!(made["public_key"].is_string(), has_public, "{made}");
        let signs = !matches!(kind, "nacl_box" | "nacl_secretbox" | "xaes256gcm");
        let message = json!({ "plaintext": "aGVsbG8=" });
        if signs {
            let (code, signed) = post(&w, &format!("/{kind}v0/sign"), message).await;
            assert_eq!(code, 200, "{signed}");
            let verify =
                json!({ "plaintext": [104, 101, 108, 108, 111], "signature": signed["signature"] });
            assert_eq!(post(&w, &format!("/{kind}v0/verify"), verify).await, (204, Value::Null));
            let other = json!({ "plaintext": "aGFsbG8=", "signature": signed["signature"] });
            let refused = post(&w, &format!("/{kind}v0/verify"), other).await;
            let why = "signature: is not a signature of this key for the plaintext";
            assert_eq!(error(&refused), (400, why));
            let refused =
                post(&w, &format!("/{kind}v0/encrypt"), json!({ "plaintext": "aGk=" })).await;
            assert_eq!(error(&refused).1, format!("name: a key of type {kind} cannot encrypt"));
        } else {
            let (code, encrypted) = post(&w, &format!("/{kind}v0/encrypt"), message).await;
            assert_eq!(code, 200, "{encrypted}");
            let decrypt = json!({ "ciphertext": encrypted["ciphertext"] });
            let decrypted = post(&w, &format!("/{kind}v0/decrypt"), decrypt).await;
            assert_eq!(decrypted, (200, json!({ "plaintext": "aGVsbG8=" })));
            let broken = json!({ "ciphertext": "aGVsbG8=" });
            let refused = post(&w, &format!("/{kind}v0/decrypt"), broken).await;
            assert!(
                error(&refused).1.starts_with("ciphertext: it was not encrypted"),
                "{refused:?}"
            );
        }
    }
    let (_, list) = w.get(&format!("{PATH}?types=hs256,nacl_box")).await;
    let names: Vec<_> =
        list["secret_keys"].as_array().unwrap().iter().map(|k| k["name"].clone()).collect();
    assert_eq!(names, ["hs256v0", "nacl_boxv0"]);
    assert_eq!(w.get(PATH).await.1["secret_keys"].as_array().unwrap().len(), TYPES.len());
    let (code, gone) = w.delete(&format!("{PATH}/hs256v0")).await;
    assert_eq!((code, gone.as_object().unwrap().len()), (200, 1));
    assert_eq!(w.get(&format!("{PATH}/hs256v0")).await.0, 404);
    assert_eq!(w.delete(&format!("{PATH}/hs256v0")).await.0, 404);
}

#[tokio::test]
async fn a_key_that_is_set_is_never_shown_and_kept_sealed() {
    let w = world().await;
    w.app().await;
    let value = json!(vec![0x0b; 32]);
    let (code, made) = post(&w, "/k", json!({ "type": "nacl_auth", "value": value })).await;
    assert_eq!((code, made.get("value")), (201, None), "{made}");
    assert_eq!(w.get(&format!("{PATH}/k")).await.1, json!({ "name": "k", "type": "nacl_auth" }));
    let range = store::KeyRange::prefix("/secret-keys/");
    let entries = store::Store::range(&*w.store, range, None, None).await.unwrap().entries;
    let text = String::from_utf8_lossy(&entries[0].value).into_owned();
    assert!(text.contains("nacl_auth") && !text.contains("CwsLCwsL"), "{text}");
    w.delete("/v1/apps/web").await;
    let range = store::KeyRange::prefix("/secret-keys/");
    let left = store::Store::range(&*w.store, range, None, None).await.unwrap().entries;
    assert!(left.is_empty(), "keys go with their app");
}

#[tokio::test]
async fn what_is_no_key_is_refused_without_being_quoted() {
    let w = world().await;
    w.app().await;
    post(&w, "/box/generate", json!({ "type": "nacl_box" })).await;
    for (rest, body, expected) in [
        ("/k", json!({ "type": "hs256" }), "value: is required"),
        (
            "/k",
            json!({ "type": "hs256", "value": "aGk=" }),
            "value: a key of type hs256 has 32 to 1024 bytes",
        ),
        (
            "/k",
            json!({ "type": "xaes256gcm", "value": vec![1; 31] }),
            "value: a key of type xaes256gcm has 32 bytes",
        ),
        (
            "/k",
            json!({ "type": "es256", "value": vec![0; 32] }),
            "value: a key of type es256 has 32 bytes: a scalar",
        ),
        ("/k", json!({ "type": "rs256", "value": "aGk=" }), "type: must be one of es256, hs256"),
        ("/k", json!({ "type": "hs256", "value": "4711!" }), "value: must be base64"),
        ("/k", json!({ "type": "hs256", "value": [4711] }), "must be numbers from 0 to 255"),
        ("/k/generate", json!({ "type": "hs256", "value": "aGk=" }), "value: must be left out"),
        ("/types/generate", json!({ "type": "hs256" }), "name: must not be \"types\""),
        ("/a%20b/generate", json!({ "type": "hs256" }), "name: must be 1 to 255 letters"),
        (
            "/box/encrypt",
            json!({ "plaintext": "aGk=", "associated_data": "aGk=" }),
            "associated_data: a key of type nacl_box takes no associated data",
        ),
    ] {
        let answer = post(&w, rest, body.clone()).await;
        let (code, why) = error(&answer);
        assert_eq!(code, 400, "{body}: {why}");
        assert!(why.contains(expected) && !why.contains("4711"), "{body}: {why}");
    }
    assert_eq!(post(&w, "/none/sign", json!({ "plaintext": "aGk=" })).await.0, 404);
    assert_eq!(w.get("/v1/apps/other/secretkeys").await.0, 404);
    assert_eq!(w.get(&format!("{PATH}?types=rs256")).await.0, 400);
}

#[tokio::test]
async fn the_earlier_form_of_secrets_and_keys() {
    let w = world().await;
    w.app().await;
    let at = |rest: &str| format!("/v1/apps/web/secrets/{rest}");
    let text = json!({ "value": [104, 105] });
    let set = json!({ "label": "A", "type": "AppSecret", "publickey": [] });
    assert_eq!(w.post(&at("A/type/AppSecret"), text.clone()).await, (201, set));
    let (_, shown) = w.get("/v1/apps/web/secrets/A?show_secrets=1").await;
    assert_eq!(shown["value"], "hi");
    let bytes = json!({ "value": [255, 254] });
    assert_eq!(error(&w.post(&at("A/type/AppSecret"), bytes).await), (400, "value: must be UTF-8"));
    assert_eq!(w.post(&at("K/type/SECRET_TYPE_KMS_HS256/generate"), Value::Null).await.0, 201);
    assert_eq!(w.get(&format!("{PATH}/K")).await.1["type"], "hs256");
    let (_, box_key) = w.post(&at("B/type/nacl_box/generate"), Value::Null).await;
    assert_eq!((&box_key["label"], &box_key["type"]), (&json!("B"), &json!("nacl_box")));
    assert_eq!(box_key["publickey"].as_array().map(Vec::len), Some(32), "bytes as numbers");
    assert_eq!(w.post(&at("G/type/AppSecret/generate"), Value::Null).await.0, 201);
    let (_, shown) = w.get("/v1/apps/web/secrets/G?show_secrets=1").await;
    assert_eq!(shown["value"].as_str().unwrap().len(), 64);
    let volume = w.post(&at("V/type/VolumeEncryptionKey"), text.clone()).await;
    assert_eq!(error(&volume), (422, "type: volumes and their keys are not supported yet"));
    assert_eq!(w.post(&at("V/type/other"), text).await.0, 400);
}
