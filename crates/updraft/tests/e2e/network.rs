//! Who reaches whom: the edge, neighbours, other networks, the host, the world.

use super::Test;
use crate::platform::{App, Context, Outcome, sh};
use anyhow::{Context as _, Result, ensure};
use reqwest::Method;
use serde_json::json;
use std::path::Path;
use std::process::{Child, Command, Stdio};

pub(crate) const TESTS: &[(&str, Test)] = &[
    ("neighbours_meet_and_strangers_do_not", neighbours),
    ("a_guest_reaches_the_world_but_not_the_host", world),
];

/// The web server of the image on all addresses.
fn web() -> serde_json::Value {
    json!({"services": [{"protocol": "tcp", "internal_port": 8080,
                         "ports": [{"port": 80, "handlers": ["http"]}]}]})
}

/// Fetches from inside a guest: what came. By `nc`, since a static busybox's
/// `wget` needs a C library to look names up.
fn fetch(app: &App<'_>, id: &str, host: &str, port: &str, path: &str) -> Result<String> {
    let line = format!("printf 'GET {path} HTTP/1.0\\r\\n\\r\\n' | nc -w 3 {host} {port}");
    Ok(app.exec(id, &["sh", "-c", &line])?.1)
}

fn ping(app: &App<'_>, id: &str, args: &str) -> Result<bool> {
    let line = format!("ping -c 1 -W 3 {args}");
    Ok(app.exec(id, &["sh", "-c", &line])?.0 == 0)
}

fn address(app: &App<'_>, id: &str, field: &str) -> Result<String> {
    let machine = app.get(id, "")?;
    Ok(machine[field].as_str().with_context(|| format!("{field} in {machine}"))?.to_owned())
}

fn neighbours(cx: &Context) -> Outcome {
    let platform = cx.shared();
    let app = platform.app("neighbours")?;
    let other = json!({"app_name": "strangers", "org_slug": "personal", "network": "other"});
    platform.ok(Method::POST, "/apps", Some(other))?;
    let strangers = App { platform, name: "strangers".into() };
    let (a, b) = (app.create("a", web())?, app.create("b", web())?);
    let c = strangers.create("c", web())?;
    for (app, id) in [(&app, &a), (&app, &b), (&strangers, &c)] {
        app.wait(id, "started")?;
    }
    for name in ["neighbours", "strangers"] {
        let text = platform.get(name, "/")?.text()?;
        ensure!(text == "hello from busybox\n", "through the edge to {name}: {text}");
    }
    let ip6 = |app: &App<'_>, id| address(app, id, "private_ip");
    let (a6, b6, c6) = (ip6(&app, &a)?, ip6(&app, &b)?, ip6(&strangers, &c)?);
    let (b4, c4) = (address(&app, &b, "private_ipv4")?, address(&strangers, &c, "private_ipv4")?);
    ensure!(a6[..10] == b6[..10] && a6[..10] != c6[..10], "networks: {a6} {b6} {c6}");
    let text = fetch(&app, &a, &b6, "8080", "/")?;
    ensure!(text.ends_with("hello from busybox\n"), "a to b: {text}");
    ensure!(ping(&app, &b, &a6)?, "b pings a");
    for target in [&c6, &c4, &b4] {
        let text = fetch(&app, &a, target, "8080", "/")?;
        ensure!(!text.contains("hello"), "a must not reach {target}: {text}");
    }
    ensure!(!ping(&app, &a, &c6)? && !ping(&app, &a, &c4)?, "nor ping c");
    ensure!(!ping(&strangers, &c, &a6)?, "nor c a");

    app.post(&a, "/stop", json!({}))?;
    app.wait(&a, "stopped")?;
    let text = fetch(&app, &b, &a6, "8080", "/")?;
    ensure!(!text.contains("hello"), "a stopped machine does not answer");
    app.post(&a, "/start", json!({}))?;
    app.wait(&a, "started")?;
    ensure!(ip6(&app, &a)? == a6, "the address is the machine's for life");
    let (_, text) = app.exec(&a, &["ip", "-6", "addr"])?;
    let own = a6.parse::<std::net::Ipv6Addr>()?;
    ensure!(text.contains(&format!("{own}/")), "and it has it: {text}");
    ensure!(ping(&app, &b, &a6)?, "b pings a again");
    Ok(())
}

/// Addresses of the world beyond the host; the last two are a cloud's metadata service.
const WORLD: [&str; 4] =
    ["192.0.2.10/32", "2001:db8:1::10/128", "169.254.169.254/32", "100.100.100.200/32"];

/// Another network namespace that plays the world, with a web server that answers
/// who asks. The namespace lives as long as the server, the cable as long as both.
struct World(Child);

impl World {
    fn new(dir: &Path) -> Result<Self> {
        std::fs::create_dir_all(dir.join("cgi-bin"))?;
        let script = dir.join("cgi-bin/who");
        let who =
            "#!/bin/sh\nprintf 'Content-Type: text/plain\\r\\n\\r\\n'\necho from $REMOTE_ADDR\n";
        std::fs::write(&script, who)?;
        sh(&format!("chmod 755 {}", script.display()))?;
        let mut command = Command::new("unshare");
        command.args(["--net", "busybox", "httpd", "-f", "-p", "80", "-h"]).arg(dir);
        let child = command.stdin(Stdio::null()).spawn().context("start the world")?;
        let world = Self(child);
        let pid = world.0.id();
        // Once it is the web server, it has left our namespace.
        sh(&format!(
            "until grep -q httpd /proc/{pid}/cmdline && \
             [ \"$(readlink /proc/{pid}/ns/net)\" != \"$(readlink /proc/self/ns/net)\" ]; do \
             sleep 0.05; done"
        ))?;
        sh(&format!(
            "ip link add wan0 type veth peer name wan1 netns {pid} && ip link set wan0 up && \
             ip addr add 198.51.100.1/24 dev wan0 && \
             ip addr add 2001:db8::1/64 dev wan0 nodad && \
             ip route add default via 198.51.100.2 && ip -6 route add default via 2001:db8::2"
        ))?;
        let inside = |line: &str| sh(&format!("nsenter -t {pid} -n {line}"));
        inside("ip link set lo up")?;
        inside("ip link set wan1 up")?;
        inside("ip addr add 198.51.100.2/24 dev wan1")?;
        inside("ip addr add 2001:db8::2/64 dev wan1 nodad")?;
        for address in WORLD {
            inside(&format!("ip addr add {address} dev lo"))?;
        }
        Ok(world)
    }
}

impl Drop for World {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
        // The far end went with its namespace, mostly before this.
        let _ = sh("ip link del wan0 2>/dev/null; true");
    }
}

fn world(cx: &Context) -> Outcome {
    let platform = cx.shared();
    let _world = World::new(&cx.dir("world"))?;
    // A service of the host on all its addresses, as a careless operator has it.
    let mut service = Command::new("busybox")
        .args(["httpd", "-f", "-p", "[::]:9099", "-h"])
        .arg(cx.dir("world"))
        .spawn()?;
    let outcome = from_inside(platform);
    let _ = service.kill();
    let _ = service.wait();
    outcome
}

fn from_inside(platform: &crate::platform::Platform) -> Outcome {
    let app = platform.app("out")?;
    let id = app.run("one", json!({}))?;
    for (target, from) in [("192.0.2.10", "198.51.100.1"), ("2001:db8:1::10", "2001:db8::1")] {
        let text = fetch(&app, &id, target, "80", "/cgi-bin/who")?;
        let seen = text.contains("from ") && text.contains(from);
        ensure!(seen, "to {target} as {from}: {text}");
    }
    for target in ["169.254.169.254", "100.100.100.200"] {
        sh(&format!(
            "printf 'GET / HTTP/1.0\\r\\n\\r\\n' | busybox nc -w 10 {target} 80 | grep HTTP"
        ))
        .context("the host itself reaches it")?;
        let text = fetch(&app, &id, target, "80", "/cgi-bin/who")?;
        ensure!(!text.contains("HTTP/"), "metadata at {target}: {text}");
    }

    let (_, route) = app.exec(&id, &["sh", "-c", "ip route | sed -n 's/default via //p'"])?;
    let gateway = route.split_whitespace().next().unwrap_or_default().to_owned();
    ensure!(ping(&app, &id, &gateway)?, "the gateway answers a ping: {route}");
    let api = platform.api();
    let port = api.rsplit(':').next().unwrap_or_default();
    sh("printf 'GET / HTTP/1.0\\r\\n\\r\\n' | busybox nc -w 10 198.51.100.1 9099 | grep HTTP")
        .context("the host's service is there")?;
    // A network that the host is connected to is closed, too.
    let text = fetch(&app, &id, "198.51.100.2", "80", "/cgi-bin/who")?;
    ensure!(!text.contains("HTTP/"), "a network of the host: {text}");
    for (host, port) in [(gateway.as_str(), "9099"), ("198.51.100.1", "9099"), (&gateway, port)] {
        let text = fetch(&app, &id, host, port, "/cgi-bin/who")?;
        ensure!(!text.contains("HTTP/"), "the host's {host}:{port}: {text}");
    }

    let (_, own) = app.exec(&id, &["sh", "-c", "ip route get 192.0.2.10 2>&1 || ip route"])?;
    let spoof = "ip addr add 172.30.255.77/32 dev eth0 && \
                 ip -6 addr add fdaa:0:1:0:0:0:fff:2/128 dev eth0";
    let (code, text) = app.exec(&id, &["sh", "-c", spoof])?;
    ensure!(code == 0, "{text} {own}");
    ensure!(ping(&app, &id, "192.0.2.10")?, "its own address still works");
    ensure!(!ping(&app, &id, "-I 172.30.255.77 192.0.2.10")?, "a false IPv4 source is dropped");
    // Each by name: the guest's kernel may prefer either.
    let own = app.get(&id, "")?["private_ip"].as_str().unwrap_or_default().to_owned();
    let six = |from: &str| ping(&app, &id, &format!("-I {from} 2001:db8:1::10"));
    ensure!(six(&own)?, "its own IPv6 address still works");
    ensure!(!six("fdaa:0:1:0:0:0:fff:2")?, "a false IPv6 source is dropped");
    Ok(())
}
