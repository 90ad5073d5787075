//! What clients of Fly.io find beside the API: tunnels, and the API under Fly.io's host names.

use super::Test;
use crate::platform::{Context, Outcome, Platform};
use anyhow::{Context as _, Result, ensure};
use reqwest::Method;
use reqwest::blocking::{Client, ClientBuilder};
use serde_json::{Value, json};
use std::net::SocketAddr;

pub(crate) const TESTS: &[(&str, Test)] = &[
    ("the_api_is_served_under_the_host_names_of_fly", host_names),
    ("a_taken_address_of_tunnels_stops_no_daemon", taken_address),
];

const ADD: &str = "mutation($input: AddWireGuardPeerInput!) { addWireGuardPeer(input: $input) { \
                   peerip endpointip pubkey } }";

/// A daemon that makes no VMs.
fn control(cx: &Context, name: &str, args: &[&str]) -> Result<Platform> {
    let args = ["--roles", "control"].iter().chain(args).map(|&arg| arg.to_owned());
    Platform::start_plain(&cx.dir(name), &args.collect::<Vec<_>>())
}

fn add_peer(platform: &Platform, name: &str) -> Result<Value> {
    let input = json!({ "organizationId": "personal", "name": name, "region": "",
                        "pubkey": "BwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwc=" });
    let body = json!({ "query": ADD, "variables": { "input": input } });
    let url = format!("{}/graphql", platform.api());
    let client = Client::builder().no_proxy().build()?;
    Ok(client.post(url).bearer_auth(platform.token()).json(&body).send()?.json()?)
}

fn client() -> ClientBuilder {
    Client::builder().no_proxy().tls_certs_only([])
}

fn host_names(cx: &Context) -> Outcome {
    let off = cx.shared();
    let (status, answer) = off.call(Method::GET, "/platform/host-names", None)?;
    ensure!(status == 404 && answer["hint"].to_string().contains("--fly-host-names"), "{answer}");
    let (code, _, text) = off.cli_raw(&["flyctl-env", "--hosts"])?;
    ensure!(code == 3 && text.contains("flyctl.host_names"), "{code}: {text}");

    let args = ["--tunnel", "127.0.0.43:0", "--fly-host-names", "true"];
    let platform = control(cx, "host-names", &args)?;
    let known = platform.ok(Method::GET, "/platform/host-names", None)?;
    let port = u16::try_from(known["port"].as_u64().context("a port")?)?;
    let address: SocketAddr = format!("127.0.0.43:{port}").parse()?;
    ensure!(known["address"] == "127.0.0.43", "{known}");
    let shown: Value =
        serde_json::from_str(&platform.cli(&["flyctl-env", "--hosts", "--json"])?)?;
    let pem = std::fs::read(shown["ca_certificate"].as_str().context("a file")?)?;
    let ca = reqwest::Certificate::from_pem(&pem)?;
    let names = ["api.fly.io", "api.machines.dev"];
    ensure!(known["names"] == json!(names) && shown["names"] == json!(names), "{known} {shown}");

    let trusting =
        |name: &str| client().tls_certs_only([ca.clone()]).resolve(name, address).build();
    for name in names {
        let client = trusting(name)?;
        let url = format!("https://{name}:{port}");
        let apps = client.get(format!("{url}/v1/apps?org_slug=personal"));
        let apps = apps.bearer_auth(platform.token()).send()?;
        ensure!(apps.status() == 200 && apps.json::<Value>()?["apps"].is_array(), "{name}");
        let query = json!({ "query": "{ viewer { __typename } }" });
        let answer = client.post(format!("{url}/graphql")).json(&query);
        let answer: Value = answer.bearer_auth(platform.token()).send()?.json()?;
        ensure!(answer["data"]["viewer"].is_object(), "{name}: {answer}");
        let denied = client.get(format!("{url}/v1/apps")).send()?;
        ensure!(denied.status() == 401, "{name}: {}", denied.status());
        ensure!(client.get(format!("{url}/metrics")).send()?.status() == 401, "{name}");
    }
    // Another name is no business of the authority, nor is another authority trusted.
    let url = format!("https://example.com:{port}/v1/apps");
    ensure!(trusting("example.com")?.get(url).send().is_err(), "example.com is certified");
    let url = format!("https://api.fly.io:{port}/v1/apps");
    let stranger = client().resolve("api.fly.io", address).build()?;
    ensure!(stranger.get(url).send().is_err(), "the authority is trusted without being named");
    // It stays the same from start to start.
    platform.end(rustix::process::Signal::TERM)?;
    platform.up()?;
    let again = platform.ok(Method::GET, "/platform/host-names", None)?;
    ensure!(again["ca_certificate"] == known["ca_certificate"], "{again}");
    platform.end(rustix::process::Signal::TERM)
}

fn taken_address(cx: &Context) -> Outcome {
    let first = control(cx, "tunnel-first", &["--tunnel", "127.0.0.45:0"])?;
    let pid = first.pid();
    ensure!(pid > 0);
    let listening = std::net::TcpListener::bind("127.0.0.46:0")?;
    let taken = listening.local_addr()?.to_string();
    let second = control(cx, "tunnel-second", &["--tunnel", &taken])?;
    let refused = add_peer(&second, "interactive-a")?;
    let error = &refused["errors"][0];
    ensure!(error["extensions"]["code"] == "CONFLICT", "{refused}");
    ensure!(error["message"].to_string().contains("cannot listen on 127.0.0.46"), "{refused}");
    // Where nothing stands in the way there is a peer, but for the region: no host answers here.
    let shared = cx.shared();
    let refused = add_peer(shared, "interactive-a")?;
    ensure!(refused.to_string().contains("no address is set"), "the shared one is off: {refused}");
    first.end(rustix::process::Signal::TERM)?;
    second.end(rustix::process::Signal::TERM)
}
