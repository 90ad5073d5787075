//! How long the calls of a start take. Run by hand:
//! `cargo test -p host-linux --test timing -- --ignored --nocapture`

mod lab;

use camino::Utf8Path;
use host_linux::ScratchDisks;
use lab::{Host, can_run};
use std::time::{Duration, Instant};
use worker::ports::Network;

const ROUNDS: u16 = 40;

fn tell(what: &str, mut times: Vec<Duration>) {
    times.sort();
    let ms = |time: Duration| time.as_secs_f64() * 1e3;
    let (middle, last) = (times[times.len() / 2], times[times.len() - 1]);
    eprintln!("{what}: median {:.2} ms, max {:.2} ms", ms(middle), ms(last));
}

#[test]
#[ignore = "measures"]
fn attach() {
    if !can_run() {
        return;
    }
    let host = Host::new();
    host.prepare();
    let links: Vec<_> = (0..ROUNDS).map(|slot| host.link(slot, 1)).collect();
    host.net(move |net| async move {
        let (mut first, mut again, mut detach) = (Vec::new(), Vec::new(), Vec::new());
        let mut nics = Vec::new();
        for link in &links {
            let begun = Instant::now();
            nics.push(net.attach(*link).await.expect("attach"));
            first.push(begun.elapsed());
        }
        nics.clear();
        for link in &links {
            net.rest(link.slot).await;
            let begun = Instant::now();
            nics.push(net.attach(*link).await.expect("attach"));
            again.push(begun.elapsed());
        }
        for link in &links {
            let begun = Instant::now();
            net.detach(link.slot).await.expect("detach");
            detach.push(begun.elapsed());
        }
        tell("attach, first", first);
        tell("attach, after rest", again);
        tell("detach", detach);
    });
}

#[test]
#[ignore = "measures"]
fn scratch() {
    let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let dir = Utf8Path::from_path(dir.path()).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let disks = ScratchDisks::open(&dir.join("t")).unwrap();
    for mib in [1024, 8192] {
        let mut times = Vec::new();
        for round in 0..ROUNDS {
            let path = dir.join(format!("{mib}-{round}"));
            let begun = Instant::now();
            runtime.block_on(disks.create(&path, mib << 20)).unwrap();
            times.push(begun.elapsed());
            std::thread::sleep(Duration::from_millis(50));
        }
        times.remove(0);
        tell(&format!("scratch disk of {mib} MiB"), times);
    }
}
