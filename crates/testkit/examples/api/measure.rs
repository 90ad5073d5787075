//! What is measured, in order.

use crate::client::Client;
use crate::{Failure, TOKEN};
use camino::Utf8Path;
use futures_util::future::try_join_all;
use host_api::{CallContext, Host};
use http_body_util::BodyExt;
use hyper::Method;
use model::id::MachineId;
use rt::Tasks;
use rusqlite::Connection;
use serde_json::{Value, json};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::time::Instant;

/// Rounds of commits and changes, by turns.
const ROUNDS: usize = 5;
/// Time of one measure of a round.
const SPAN: Duration = Duration::from_secs(2);
/// Callers at once.
const CALLERS: usize = 64;
/// Machines of the list.
const MACHINES: usize = 10_000;
/// Clients that watch.
const WATCHERS: usize = 1000;
/// Events that each watcher is sent.
const EVENTS: usize = 50;
/// Between two events: the watchers are idle again.
const PAUSE: Duration = Duration::from_millis(100);

const APP: &str = "/v1/apps/web/machines";

/// Everything, as JSON.
pub(crate) async fn all(
    dir: &Utf8Path,
    at: SocketAddr,
    host: &Arc<dyn Host>,
    tasks: &Tasks,
) -> Result<Value, Failure> {
    let mut client = Client::connect(at, tasks).await?;
    client.call(Method::POST, "/v1/apps", Some(&json!({ "app_name": "web" }))).await?;
    let changes = changes(dir, at, host, tasks).await?;
    let watch = watch(at, tasks, &mut client).await?;
    let list = list(at, tasks, &mut client).await?;
    Ok(json!({ "changes": changes, "watch": watch, "list": list }))
}

/// A machine that is down; its path.
async fn stopped(client: &mut Client) -> Result<String, Failure> {
    let config = json!({ "image": "app", "restart": { "policy": "no" } });
    let body = json!({ "skip_launch": true, "config": config });
    let machine = client.call(Method::POST, APP, Some(&body)).await?;
    let machine: Value = serde_json::from_slice(&machine)?;
    let path = format!("{APP}/{}", machine["id"].as_str().ok_or("a machine has an id")?);
    client.call(Method::GET, &format!("{path}/wait?state=stopped&timeout=60"), None).await?;
    Ok(path)
}

/// Commits and durable changes per second, by turns: so a disk that becomes slower does so for
/// all.
async fn changes(
    dir: &Utf8Path,
    at: SocketAddr,
    host: &Arc<dyn Host>,
    tasks: &Tasks,
) -> Result<Value, Failure> {
    let (mut of_host, mut of_api) = (Vec::new(), Vec::new());
    for _ in 0..CALLERS {
        let mut client = Client::connect(at, tasks).await?;
        let machine = stopped(&mut client).await?;
        let id = machine.rsplit('/').next().unwrap_or_default().parse()?;
        of_host.push(Caller::Host(host.clone(), id));
        of_api.push(Caller::Api(client, machine));
    }
    let mut rates: [Vec<f64>; 5] = Default::default();
    for _ in 0..ROUNDS {
        let path = dir.join("bare.db");
        rates[0].push(tokio::task::spawn_blocking(move || commits(&path)).await??);
        rates[1].push(rate(&mut of_host[..1]).await?);
        rates[2].push(rate(&mut of_host).await?);
        rates[3].push(rate(&mut of_api[..1]).await?);
        rates[4].push(rate(&mut of_api).await?);
    }
    let [bare, host_one, host_many, one, many] = rates.map(median);
    Ok(json!({
        "bare commits/s": bare,
        "host, one caller/s": host_one, "host, 64 callers/s": host_many,
        "API, one caller/s": one, "API, 64 callers/s": many,
        "host, one caller / bare": host_one / bare, "host, 64 callers / bare": host_many / bare,
        "API, one caller / bare": one / bare, "API, 64 callers / bare": many / bare,
    }))
}

/// Commits per second of one row, as durable as those of the platform.
fn commits(path: &Utf8Path) -> Result<f64, Failure> {
    let connection = Connection::open(path)?;
    connection.execute_batch(
        "PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL;
         CREATE TABLE IF NOT EXISTS row (id INTEGER PRIMARY KEY, value BLOB NOT NULL);",
    )?;
    let mut commit = connection
        .prepare("INSERT INTO row VALUES (1, ?1) ON CONFLICT DO UPDATE SET value = ?1")?;
    let (begun, mut count, mut value) = (Instant::now(), 0u32, [7u8; 512]);
    while begun.elapsed() < SPAN {
        // SQLite writes no page for a value that is there already.
        value[..4].copy_from_slice(&count.to_le_bytes());
        commit.execute([&value[..]])?;
        count += 1;
    }
    Ok(f64::from(count) / begun.elapsed().as_secs_f64())
}

/// One that changes a machine.
enum Caller {
    /// As control calls a host.
    Host(Arc<dyn Host>, MachineId),
    /// Over HTTP, by the machine's path.
    Api(Client, String),
}

impl Caller {
    /// Makes one durable change: the machine's place in the routing.
    async fn change(&mut self, cordon: bool) -> Result<(), Failure> {
        match self {
            Self::Host(host, machine) => {
                let context = CallContext::control(Duration::from_secs(10));
                host.cordon(context, *machine, cordon).await?;
            }
            Self::Api(client, machine) => {
                let what = if cordon { "cordon" } else { "uncordon" };
                client.call(Method::POST, &format!("{machine}/{what}"), None).await?;
            }
        }
        Ok(())
    }
}

/// Durable changes per second, with all callers at once.
async fn rate(callers: &mut [Caller]) -> Result<f64, Failure> {
    let begun = Instant::now();
    let each = callers.iter_mut().map(|caller| async move {
        let mut count = 0u32;
        while begun.elapsed() < SPAN {
            caller.change(count.is_multiple_of(2)).await?;
            count += 1;
        }
        Ok::<u32, Failure>(count)
    });
    let counts = try_join_all(each).await?;
    Ok(f64::from(counts.iter().sum::<u32>()) / begun.elapsed().as_secs_f64())
}

/// Milliseconds from the answer of a call to the arrival of its event: where every watcher gets
/// every event, and where each gets those of a machine of its own.
async fn watch(at: SocketAddr, tasks: &Tasks, client: &mut Client) -> Result<Value, Failure> {
    let machine = stopped(client).await?;
    let (arrived, mut arrivals) = mpsc::unbounded_channel();
    let same = Tasks::new();
    for _ in 0..WATCHERS {
        follow(at, "/v1/apps/web/watch", &same, arrived.clone()).await?;
    }
    let mut to_all = Vec::new();
    for _ in 0..EVENTS {
        let answered = changed(client, &machine).await?;
        for _ in 0..WATCHERS {
            let at = arrivals.recv().await.ok_or("a watch ended")?;
            to_all.push(at.saturating_duration_since(answered).as_secs_f64() * 1e3);
        }
        tokio::time::sleep(PAUSE).await;
    }
    same.stop();
    let own = Tasks::new();
    let (arrived, mut arrivals) = mpsc::unbounded_channel();
    let mut machines = Vec::new();
    for _ in 0..WATCHERS {
        let machine = stopped(client).await?;
        follow(at, &format!("{machine}/events/stream"), &own, arrived.clone()).await?;
        machines.push(machine);
    }
    let mut to_one = Vec::new();
    for machine in &machines {
        let answered = changed(client, machine).await?;
        let at = arrivals.recv().await.ok_or("a watch ended")?;
        to_one.push(at.saturating_duration_since(answered).as_secs_f64() * 1e3);
    }
    own.stop();
    tasks.spawn(async {}).await?;
    Ok(json!({ "every event to all, ms": spread(to_all), "own machine each, ms": spread(to_one) }))
}

/// Makes one event of a machine that is down; when it was answered.
async fn changed(client: &mut Client, machine: &str) -> Result<Instant, Failure> {
    let config = json!({ "image": "app", "restart": { "policy": "no" } });
    let body = json!({ "skip_launch": true, "config": config });
    client.call(Method::POST, machine, Some(&body)).await?;
    Ok(Instant::now())
}

/// A client that notes when each event arrives. It reads bytes from the socket, so that it takes
/// little of the CPU that it shares with the server.
async fn follow(
    at: SocketAddr,
    path: &str,
    tasks: &Tasks,
    arrived: mpsc::UnboundedSender<Instant>,
) -> Result<(), Failure> {
    let mut stream = TcpStream::connect(at).await?;
    let head =
        format!("GET {path} HTTP/1.1\r\nhost: bench\r\nauthorization: Bearer {TOKEN}\r\n\r\n");
    stream.write_all(head.as_bytes()).await?;
    let mut buffer = vec![0; 16 * 1024];
    let read = stream.read(&mut buffer).await?;
    if !buffer[..read].starts_with(b"HTTP/1.1 200") {
        return Err(format!("{path}: {}", String::from_utf8_lossy(&buffer[..read])).into());
    }
    tasks.spawn_until_stop(async move {
        while let Ok(read @ 1..) = stream.read(&mut buffer).await {
            let now = Instant::now();
            let part = &buffer[..read];
            let events = part.windows(6).filter(|window| window == b"\ndata:").count();
            // The receiver is dropped when everything is measured.
            for _ in 0..events {
                let _ = arrived.send(now);
            }
        }
    });
    Ok(())
}

/// Milliseconds of lists of many machines.
async fn list(at: SocketAddr, tasks: &Tasks, client: &mut Client) -> Result<Value, Failure> {
    let have: Vec<Value> = serde_json::from_slice(&client.call(Method::GET, APP, None).await?)?;
    let missing = MACHINES.saturating_sub(have.len());
    let begun = Instant::now();
    let each = (0..CALLERS).map(|number| async move {
        let mut client = Client::connect(at, tasks).await?;
        for _ in (number..missing).step_by(CALLERS) {
            stopped(&mut client).await?;
        }
        Ok::<(), Failure>(())
    });
    try_join_all(each).await?;
    let creates = missing as f64 / begun.elapsed().as_secs_f64();
    let (whole, size) = lists(client, APP).await?;
    let (summary, small) = lists(client, &format!("{APP}?summary=true")).await?;
    Ok(json!({
        "machines": MACHINES, "creates/s": creates, "whole, ms": whole, "whole, MB": size,
        "summary, ms": summary, "summary, MB": small,
    }))
}

async fn lists(client: &mut Client, path: &str) -> Result<(Value, f64), Failure> {
    let (mut times, mut size) = (Vec::new(), 0.0);
    for _ in 0..20 {
        let begun = Instant::now();
        let mut body = client.send(Method::GET, path, None).await?.into_body();
        let mut read = 0;
        while let Some(frame) = body.frame().await {
            read += frame?.data_ref().map_or(0, |part| part.len());
        }
        size = read as f64 / 1e6;
        times.push(begun.elapsed().as_secs_f64() * 1e3);
    }
    Ok((spread(times), size))
}

fn median(mut of: Vec<f64>) -> f64 {
    of.sort_by(f64::total_cmp);
    of[of.len() / 2]
}

fn spread(mut of: Vec<f64>) -> Value {
    of.sort_by(f64::total_cmp);
    let part = |part: f64| of[((of.len() - 1) as f64 * part) as usize];
    json!({ "median": part(0.5), "p99": part(0.99), "min": part(0.0), "max": part(1.0), "n": of.len() })
}
