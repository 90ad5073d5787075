//! How long it takes to make a scratch disk. Run by hand:
//! `cargo test -p disk-linux --test timing -- --ignored --nocapture`

use camino::Utf8Path;
use disk_linux::ScratchDisks;
use std::time::{Duration, Instant};
use testkit::timing::report;

const ROUNDS: u16 = 40;

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
            // The pool of prepared disks is refilled before the next measurement.
            std::thread::sleep(Duration::from_millis(50));
        }
        times.remove(0);
        report(&format!("scratch disk of {mib} MiB"), &times);
    }
}
