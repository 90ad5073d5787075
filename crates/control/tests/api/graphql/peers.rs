//! WireGuard peers of Fly's command line client.

use super::documents::document;
use super::mutations::create_token;
use super::{ask, data, failure};
use crate::world::{TOKEN, TestWorld, world};
use macaroon::{Action, Caveat, Macaroon, Resources};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::net::Ipv6Addr;
use store::records::{self, WireGuardPeerRecord};

const KEY: &str = "BwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwc=";
const OTHER_KEY: &str = "CAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAg=";

fn peer(name: &str, more: Value) -> Value {
    let mut input = json!({ "organizationId": "personal", "name": name, "pubkey": KEY });
    let (Value::Object(to), Value::Object(from)) = (&mut input, more) else { unreachable!() };
    to.extend(from);
    json!({ "input": input })
}

async fn add(w: &TestWorld, token: &str, name: &str, more: Value) -> Value {
    ask(w, token, &document("AddPeer"), peer(name, more)).await
}

fn address(answer: &Value) -> String {
    let address = answer["data"]["addWireGuardPeer"]["peerip"].as_str();
    address.unwrap_or_else(|| panic!("{answer}")).to_owned()
}

/// The addresses that are those of peers.
async fn valid(w: &TestWorld, token: &str, addresses: &[&str]) -> Vec<String> {
    let variables = json!({ "input": { "peerIps": addresses } });
    let answer = ask(w, token, &document("ValidatePeers"), variables).await;
    let invalid = &answer["data"]["validateWireGuardPeers"]["invalidPeerIps"];
    let invalid = invalid.as_array().unwrap_or_else(|| panic!("{answer}"));
    let valid = addresses.iter().filter(|address| !invalid.contains(&json!(address)));
    valid.map(|address| (*address).to_owned()).collect()
}

async fn peers(w: &TestWorld, org: &str) -> Vec<Value> {
    let listed = data(w, &document("Peers"), json!({ "slug": org })).await;
    listed["organization"]["wireGuardPeers"]["nodes"].as_array().unwrap().clone()
}

#[tokio::test]
async fn a_peer_is_added_listed_validated_and_removed() {
    let w = world().await;
    let made = add(&w, TOKEN, "interactive-a", json!({ "network": "default" })).await;
    assert_eq!(
        made["data"]["addWireGuardPeer"],
        json!({ "peerip": "fdaa:0:1:8000:0:0:1:2", "endpointip": "127.0.0.43",
                "pubkey": "WireGuard key of the gateway" })
    );
    // Sent again, since the answer was lost.
    assert_eq!(add(&w, TOKEN, "interactive-a", json!({})).await, made);
    let other = add(&w, TOKEN, "interactive-a", json!({ "pubkey": OTHER_KEY })).await;
    assert_eq!(failure(&other).0, "NAME_TAKEN", "{other}");
    let shown = json!({ "id": "interactive-a", "name": "interactive-a", "pubkey": KEY,
                        "region": "local", "peerip": "fdaa:0:1:8000:0:0:1:2" });
    assert_eq!(peers(&w, "personal").await, std::slice::from_ref(&shown));
    let one = json!({ "slug": "personal", "name": "interactive-a" });
    let one = data(&w, &document("Peer"), one).await;
    assert_eq!(one["organization"]["wireGuardPeer"], shown);
    let address = address(&made);
    let asked = [address.as_str(), "fdaa:0:1:8000:0:0:2:2", "fdaa:0:1::3", "::1", "x", ""];
    assert_eq!(valid(&w, TOKEN, &asked).await, [address.as_str()]);
    let remove = json!({ "input": { "organizationId": "personal", "name": "interactive-a" } });
    let removed = data(&w, &document("RemovePeer"), remove.clone()).await;
    assert_eq!(removed["removeWireGuardPeer"]["organization"]["id"], "personal");
    assert!(valid(&w, TOKEN, &asked).await.is_empty() && peers(&w, "personal").await.is_empty());
    let again = ask(&w, TOKEN, &document("RemovePeer"), remove).await;
    assert_eq!(failure(&again).0, "NOT_FOUND");
    // An address is never used again.
    let next = add(&w, TOKEN, "interactive-a", json!({})).await;
    assert_eq!(self::address(&next), "fdaa:0:1:8000:0:0:2:2");
    let (_, page) = w.get("/v1/orgs/personal/audit").await;
    assert!(page.to_string().contains("/graphql removeWireGuardPeer"), "{page}");
}

#[tokio::test]
async fn peers_that_are_refused() {
    let w = world().await;
    for (name, more, code, why) in [
        ("a/b", json!({}), "INVALID", "name: must be 1 to 400 letters"),
        ("laptop", json!({}), "NOT_IMPLEMENTED", "tunnels that carry data are not supported"),
        ("interactive-a", json!({ "pubkey": "AAAA" }), "INVALID", "pubkey: must be a WireGuard"),
        ("interactive-a", json!({ "region": "xyz" }), "INVALID", "region: \"xyz\" is no region"),
        (
            "interactive-a",
            json!({ "network": "x" }),
            "NOT_FOUND",
            "organization \"personal\" has no",
        ),
        ("interactive-a", json!({ "network": "../x" }), "NOT_FOUND", "organization \"personal\""),
        ("interactive-a", json!({ "organizationId": "x" }), "NOT_FOUND", "Could not find Org"),
        ("interactive-a", json!({ "nats": true }), "UNSUPPORTED", "nats: is not supported"),
        ("interactive-a", json!({ "ephemeral": true }), "UNSUPPORTED", "ephemeral: is not"),
    ] {
        let answer = add(&w, TOKEN, name, more).await;
        let (is, text) = failure(&answer);
        assert!(is == code && text.starts_with(why), "{answer}");
    }
    assert!(peers(&w, "personal").await.is_empty());
    let many = vec!["::1"; 1001];
    let variables = json!({ "input": { "peerIps": many } });
    let answer = ask(&w, TOKEN, &document("ValidatePeers"), variables).await;
    assert_eq!(failure(&answer), ("INVALID", "peerIps: must be at most 1000"));
}

#[tokio::test]
async fn peers_that_are_added_at_once_share_no_address() {
    let w = world().await;
    let names: Vec<String> = (0..24).map(|n| format!("interactive-{n}")).collect();
    let added = names.iter().map(|name| add(&w, TOKEN, name, json!({})));
    let added = futures_util::future::join_all(added).await;
    let addresses: BTreeSet<String> = added.iter().map(address).collect();
    assert_eq!(addresses.len(), names.len());
    let all: Vec<&str> = addresses.iter().map(String::as_str).collect();
    assert_eq!(valid(&w, TOKEN, &all).await.len(), names.len());
}

#[tokio::test]
async fn peers_go_with_their_organization() {
    let w = world().await;
    let app = json!({ "app_name": "web", "org_slug": "acme", "network": "other" });
    assert_eq!(w.post("/v1/orgs", json!({ "name": "acme" })).await.0, 201);
    assert_eq!(w.post("/v1/apps", app).await.0, 201);
    let mut all = Vec::new();
    for network in ["", "other"] {
        let more = json!({ "organizationId": "acme", "network": network });
        all.push(address(&add(&w, TOKEN, &format!("interactive-{network}"), more).await));
    }
    all.push(address(&add(&w, TOKEN, "interactive-a", json!({})).await));
    let all: Vec<&str> = all.iter().map(String::as_str).collect();
    assert_eq!(valid(&w, TOKEN, &all).await, all);
    w.delete("/v1/apps/web").await;
    w.reconcile().await;
    assert_eq!(w.delete("/v1/orgs/acme").await.0, 200);
    assert_eq!(valid(&w, TOKEN, &all).await, all[2..]);
    let left = store::KeyRange::prefix("/wireguard-");
    let left = store::Store::range(&*w.store, left, None, None).await.unwrap().entries;
    assert_eq!(left.len(), 2, "{left:?}");
}

#[tokio::test]
async fn the_oldest_peer_makes_room_once_it_is_a_month_old() {
    let w = world().await;
    let old = address(&add(&w, TOKEN, "interactive-old", json!({})).await);
    w.clock.advance(std::time::Duration::from_secs(1));
    let record = |n: u16| WireGuardPeerRecord {
        name: format!("interactive-{n}"),
        public_key: KEY.into(),
        network: model::id::NetworkId(1),
        address: Ipv6Addr::new(0xfdaa, 0, 1, 0xffff, 0, 0, n, 2),
        region: "local".into(),
        created_ms: w.clock.now_ms(),
        created_by: None,
    };
    let puts = (0..999).map(record).map(|peer| {
        let key = records::wireguard_peer_key(model::id::OrgId(1), &peer.name);
        store::Op::put(key, records::encode(&peer))
    });
    for some in puts.collect::<Vec<_>>().chunks(100) {
        let txn = store::Txn { then: some.to_vec(), ..store::Txn::default() };
        store::Store::txn(&*w.store, txn).await.unwrap();
    }
    let refused = add(&w, TOKEN, "interactive-new", json!({})).await;
    let text = "organization \"personal\" has 1000 WireGuard peers, which is the most";
    assert_eq!(failure(&refused), ("CONFLICT", text));
    w.clock.advance(std::time::Duration::from_secs(30 * 24 * 3600));
    let new = address(&add(&w, TOKEN, "interactive-new", json!({})).await);
    assert_eq!(valid(&w, TOKEN, &[&old, &new]).await, [new.as_str()]);
    assert_eq!(peers(&w, "personal").await.len(), 1000);
}

#[tokio::test]
async fn tokens_add_peers_where_they_may() {
    let w = world().await;
    let app = |name: &str, network: &str| json!({ "app_name": name, "network": network });
    assert_eq!(w.post("/v1/apps", app("web", "default")).await.0, 201);
    assert_eq!(w.post("/v1/apps", app("far", "other")).await.0, 201);
    let make = async |profile: &str| {
        let variables = create_token(profile, json!({ "app_id": "web" }));
        let made = data(&w, &document("CreateLimitedAccessToken"), variables).await;
        let token = &made["createLimitedAccessToken"]["limitedAccessToken"]["tokenHeader"];
        token.as_str().unwrap().to_owned()
    };
    let narrowed = |header: &str, caveat: Caveat| {
        let mut token = Macaroon::parse(header.trim_start_matches("FlyV1 ")).unwrap();
        token.attenuate(caveat).unwrap();
        format!("FlyV1 {}", token.to_text())
    };
    let (org, deploy) = (make("deploy_organization").await, make("deploy").await);
    let read = |header: &str| narrowed(header, Caveat::Action(Action::READ));
    let only = |header: &str, name: &str| {
        narrowed(header, Caveat::Mutations { mutations: vec![name.into()] })
    };
    let wg = Resources::of(["wg".to_owned()], Action::ALL);
    let wg = narrowed(&org, Caveat::FeatureSet { features: wg });
    let domain = Resources::of(["domain".to_owned()], Action::ALL);
    let domain = narrowed(&org, Caveat::FeatureSet { features: domain });
    for (number, (token, network, code)) in [
        (org.clone(), "", None),
        (wg.clone(), "other", None),
        // As clients narrow tokens for sessions over SSH.
        (only(&org, "addWireGuardPeer"), "", None),
        (only(&deploy, "addWireGuardPeer"), "", None),
        // It can make machines in the network.
        (deploy.clone(), "default", None),
        (deploy.clone(), "other", Some("FORBIDDEN")),
        (domain, "", Some("FORBIDDEN")),
        (only(&org, "issueCertificate"), "", Some("FORBIDDEN")),
        (read(&org), "", Some("FORBIDDEN")),
        (read(&deploy), "", Some("FORBIDDEN")),
    ]
    .into_iter()
    .enumerate()
    {
        let name = format!("interactive-{number}");
        let answer = add(&w, &token, &name, json!({ "network": network })).await;
        match code {
            None => assert!(answer["errors"].is_null(), "{number}: {answer}"),
            Some(code) => assert_eq!(failure(&answer).0, code, "{number}: {answer}"),
        }
        // An agent cannot be brought up without.
        assert!(valid(&w, &token, &["x"]).await.is_empty());
    }
    let remove = json!({ "input": { "organizationId": "personal", "name": "interactive-0" } });
    for token in [&deploy, &read(&org)] {
        let answer = ask(&w, token, &document("RemovePeer"), remove.clone()).await;
        assert_eq!(failure(&answer).0, "FORBIDDEN", "{answer}");
    }
    let answer = ask(&w, &wg, &document("RemovePeer"), remove).await;
    let org = json!({ "organization": { "id": "personal" } });
    assert_eq!(answer["data"]["removeWireGuardPeer"], org, "{answer}");
    assert!(!peers(&w, "personal").await.iter().any(|peer| peer["name"] == "interactive-0"));
    let none = ask(&w, "", &document("ValidatePeers"), json!({ "input": { "peerIps": [] } })).await;
    assert_eq!(failure(&none).0, "UNAUTHORIZED");
}
