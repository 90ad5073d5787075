//! Every document of `documents.graphql` is valid, and answered as its client needs it.

use super::{ask, failure};
use crate::world::{TOKEN, TestWorld, world};
use apollo_compiler::{ExecutableDocument, Schema};
use reqwest::Method;
use serde_json::{Value, json};

const SDL: &str = include_str!("../../../src/graphql/schema.graphql");
const DOCUMENTS: &str = include_str!("documents.graphql");

/// An operation by its name, with the fragments that it spreads.
pub(super) fn document(name: &str) -> String {
    let blocks: Vec<&str> = DOCUMENTS.split("\n\n").collect();
    let begins = |block: &&&str, kind: &str, name: &str| {
        let rest = block.strip_prefix(kind).and_then(|rest| rest.strip_prefix(name));
        rest.is_some_and(|rest| rest.starts_with([' ', '(']))
    };
    let operation = blocks
        .iter()
        .find(|block| begins(block, "query ", name) || begins(block, "mutation ", name));
    let mut text = (*operation.unwrap_or_else(|| panic!("there is no document {name}"))).to_owned();
    loop {
        let spread = text.split("...").skip(1).filter_map(|rest| rest.split([' ', '}']).next());
        let missing = spread
            .map(str::trim)
            .find(|name| !name.is_empty() && !text.contains(&format!("fragment {name} on")));
        let Some(missing) = missing.map(str::to_owned) else { return text };
        let fragment = blocks.iter().find(|block| begins(block, "fragment ", &missing)).unwrap();
        text = format!("{text} {fragment}");
    }
}

#[test]
fn every_document_is_valid() {
    let schema = Schema::parse_and_validate(SDL, "schema.graphql").unwrap();
    let all = ExecutableDocument::parse_and_validate(&schema, DOCUMENTS, "documents.graphql");
    let all = all.unwrap_or_else(|err| panic!("{err}"));
    assert!(all.operations.len() > 60, "{}", all.operations.len());
    let sent: Vec<&str> = cases("x").into_iter().map(|(name, _, _)| name).collect();
    for name in all.operations.named.keys() {
        assert!(sent.contains(&name.as_str()), "{name} is not sent by the test below");
    }
}

/// Code and beginning of the message of an error; `None`: there is none.
type Expected = Option<(&'static str, &'static str)>;

/// Documents, variables, and the code and the beginning of the error's message, if one is
/// expected. The app `web` has a machine.
fn cases(machine: &str) -> Vec<(&'static str, Value, Expected)> {
    let web = || json!({ "appName": "web" });
    let org = || json!({ "slug": "personal" });
    let input = |input: Value| json!({ "input": input });
    let unbuilt = |text| Some(("NOT_IMPLEMENTED", text));
    let no_volume = || Some(("NOT_FOUND", "Could not find Volume \"vol_1\""));
    let ips = || unbuilt("IP addresses of apps are not supported yet");
    let egress = || unbuilt("egress IP addresses are not supported yet");
    let peer = || {
        let pubkey = "BwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwc=";
        input(json!({ "organizationId": "personal", "name": "interactive-x", "pubkey": pubkey }))
    };
    let no_peer = Some(("NOT_FOUND", "organization \"personal\" has no WireGuard peer \"x\""));
    let postgres = || unbuilt("Postgres clusters are not supported yet");
    let unknown = || Some(("NOT_FOUND", "Unknown repository \"flyio/postgres\""));
    vec![
        ("Viewer", Value::Null, None),
        ("AgreedToProviderTos", json!({ "provider": "x" }), None),
        ("Orgs", json!({ "admin": false }), None),
        ("Org", org(), None),
        ("OrgDetails", org(), None),
        ("Apps", json!({ "org": "personal", "after": "" }), None),
        ("WholeApp", web(), None),
        ("AppCompact", web(), None),
        ("AppBasic", web(), None),
        ("AppNetwork", web(), None),
        ("AppCname", web(), None),
        ("AppNameAvailable", web(), None),
        ("ResolveImage", json!({ "appName": "web", "imageRef": "demo:1" }), None),
        ("LatestImageDetails", json!({ "image": "demo:1", "flyVersion": "1" }), None),
        ("LatestImageTag", json!({ "repository": "flyio/postgres" }), unknown()),
        // Clients send more variables than they declare.
        ("Releases", json!({ "appName": "web", "limit": 25, "status": "x" }), None),
        ("CurrentRelease", web(), None),
        ("FlyctlConfigCurrentRelease", web(), None),
        ("LatestImage", web(), None),
        ("Ips", web(), None),
        ("AppEgress", web(), None),
        ("MachineEgress", web(), None),
        ("Machine", json!({ "machineId": machine }), None),
        ("VolumeApp", json!({ "id": "vol_1" }), no_volume()),
        ("VolumeSnapshots", json!({ "id": "vol_1" }), no_volume()),
        ("PlatformRegions", Value::Null, None),
        ("NearestRegion", Value::Null, None),
        ("NearestGateway", Value::Null, None),
        ("CanBluegreen", web(), None),
        ("HostIssues", web(), None),
        ("GetOrganization", org(), None),
        ("GetApp", json!({ "name": "web" }), None),
        ("GetAppWithAddons", json!({ "name": "web", "addOnType": "redis" }), None),
        ("GetAppsByRole", json!({ "role": "", "organizationId": "personal" }), None),
        ("ListOrganizationAddOns", json!({ "orgSlug": "personal", "addOnType": "tigris" }), None),
        ("OrgTokens", org(), None),
        ("AppTokens", web(), None),
        ("Peers", org(), None),
        ("Peer", json!({ "slug": "personal", "name": "x" }), no_peer),
        ("LoggedCertificates", org(), None),
        ("PostgresAttachments", json!({ "appName": "web", "postgresAppName": "p" }), postgres()),
        ("GetAddOn", json!({ "name": "x" }), unbuilt("extensions are not supported yet")),
        (
            "CreateLimitedAccessToken",
            json!({
                "name": "t",
                "organizationId": "personal",
                "profile": "deploy",
                "profileParams": { "app_id": "web" },
                "expiry": "175200h0m0s",
            }),
            None,
        ),
        (
            "DeleteToken",
            input(json!({ "id": "x" })),
            Some(("NOT_FOUND", "there is no token \"x\"")),
        ),
        ("CreateOrg", input(json!({ "name": "Acme" })), None),
        ("DeleteOrg", input(json!({ "organizationId": "acme", "clientMutationId": "" })), None),
        ("Invite", input(json!({ "organizationId": "personal", "email": "a@b.test" })), None),
        (
            "DeleteMembership",
            input(json!({ "organizationId": "personal", "userId": "a@b.test" })),
            None,
        ),
        ("LogOut", Value::Null, None),
        ("CreateApp", input(json!({ "organizationId": "personal", "name": "new" })), None),
        ("DeleteApp", json!({ "appId": "new" }), None),
        (
            "MoveApp",
            input(json!({ "appId": "web", "organizationId": "x" })),
            unbuilt("moves of apps are not supported yet"),
        ),
        ("LockApp", input(json!({ "appId": "web" })), unbuilt("locks of apps are")),
        ("AllocateIp", input(json!({ "appId": "web", "type": "v6" })), ips()),
        ("AllocateSharedIp", input(json!({ "appId": "web", "type": "shared_v4" })), ips()),
        ("ReleaseIp", input(json!({ "appId": "web", "ip": "192.0.2.1" })), ips()),
        ("AllocateEgress", input(json!({ "appId": "web", "machineId": "" })), egress()),
        ("ReleaseEgress", input(json!({ "appId": "web", "machineId": "x" })), egress()),
        ("AddPeer", peer(), None),
        (
            "RemovePeer",
            input(json!({ "organizationId": "personal", "name": "interactive-x" })),
            None,
        ),
        ("ValidatePeers", input(json!({ "peerIps": [] })), None),
        (
            "IssueCertificate",
            input(json!({ "organizationId": "personal", "principals": ["root"] })),
            unbuilt("SSH certificates are not supported yet"),
        ),
        ("EnableConsul", input(json!({ "appId": "web" })), unbuilt("Consul is not supported yet")),
        (
            "AttachPostgres",
            input(json!({ "appId": "web", "postgresClusterAppId": "p" })),
            postgres(),
        ),
        (
            "SetSecrets",
            input(json!({ "appId": "web", "secrets": [{ "key": "A", "value": "b" }] })),
            None,
        ),
        ("UnsetSecrets", input(json!({ "appId": "web", "keys": ["A"] })), None),
        (
            "CreateRelease",
            input(json!({ "appId": "web", "definition": {}, "image": "demo:1",
                          "platformVersion": "machines", "strategy": "ROLLING" })),
            None,
        ),
        (
            "UpdateRelease",
            input(json!({ "releaseId": "x", "status": "running" })),
            Some(("NOT_FOUND", "there is no release \"x\"")),
        ),
        (
            "CreateBuild",
            input(json!({ "appName": "web", "builderType": "local", "strategiesAvailable": [] })),
            None,
        ),
        (
            "FinishBuild",
            input(json!({ "appName": "web", "buildId": "1", "status": "completed",
                          "timings": { "buildMs": "5" } })),
            Some(("NOT_FOUND", "app \"web\" has no build 1")),
        ),
    ]
}

/// A world with the app `web`, a machine of it, whose id is answered, and the image `demo:1`.
pub(super) async fn with_machine() -> (TestWorld, String) {
    let w = world().await;
    w.app().await;
    let import = w.request(Method::POST, "/v1/images/import?name=demo:1").body("a tar");
    assert!(import.send().await.unwrap().text().await.unwrap().contains("done"));
    let machine = w.machine(json!({})).await;
    let id = machine["id"].as_str().unwrap().to_owned();
    (w, id)
}

#[tokio::test]
async fn every_document_is_answered() {
    let (w, machine) = with_machine().await;
    for (name, variables, expected) in cases(&machine) {
        let answer = ask(&w, TOKEN, &document(name), variables).await;
        match expected {
            None => {
                assert!(
                    answer["errors"].is_null() && answer["data"].is_object(),
                    "{name}: {answer}"
                );
            }
            Some((code, message)) => {
                let failed = failure(&answer);
                assert!(failed.0 == code && failed.1.starts_with(message), "{name}: {answer}");
                assert!(answer["errors"][0]["path"].is_array(), "{name}: {answer}");
            }
        }
    }
}
