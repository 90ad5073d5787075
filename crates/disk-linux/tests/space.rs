//! Bookings, the reserve and the low-water mark on a file system of 64 MiB.

// Test code, which clippy does not recognise outside of `#[test]` functions.
#![allow(clippy::unwrap_used)]

mod mount;

use camino::Utf8Path;
use disk_linux::{Space, SpaceConfig};
use mount::{can_mount, with_tmpfs};
use std::fs::{self, File};
use std::io::Write;
use std::time::Duration;

fn config(dir: &Utf8Path) -> SpaceConfig {
    SpaceConfig {
        overcommit: 2,
        reserve: 8 << 20,
        low_water: 16 << 20,
        min_growth: 2 << 20,
        interval: Duration::from_millis(1),
        ..SpaceConfig::new(dir.to_owned())
    }
}

/// Runs `work` with a small file system, on a runtime of one thread. Blocking
/// work needs a thread that sees the mount, so the runtime is made inside.
fn on_64_mib(work: impl AsyncFnOnce(&Utf8Path) + Send) {
    if !can_mount() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let dir = Utf8Path::from_path(dir.path()).unwrap();
    with_tmpfs(dir, "64m", || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        runtime.block_on(work(dir));
    });
}

#[test]
fn a_disk_beyond_the_free_space_times_the_factor_is_refused_with_the_numbers() {
    on_64_mib(async |dir| {
        let space = Space::open(SpaceConfig { reserve: 0, ..config(dir) }).unwrap();
        let [a, b] = ["a", "b"].map(|name| dir.join(name));
        space.book(&a, 100 << 20).await.unwrap();
        let refused = rt::chain(&space.book(&b, 29 << 20).await.unwrap_err());
        for number in ["book 29 MiB", "by 29 MiB", "by 100 MiB", "2 times the 64 MiB"] {
            assert!(refused.contains(number), "{number}: {refused}");
        }
        space.book(&b, 28 << 20).await.unwrap();
        // A disk that is booked again is counted once.
        space.book(&a, 100 << 20).await.unwrap();
        space.unbook(&a);
        space.book(&b, 128 << 20).await.unwrap();
        // Space that a disk has taken already is no growth.
        File::create(&a).unwrap().write_all(&vec![1; 10 << 20]).unwrap();
        space.unbook(&b);
        space.book(&a, 118 << 20).await.unwrap();
        space.book(&a, 119 << 20).await.unwrap_err();
    });
}

#[test]
fn the_reserve_lets_a_full_disk_be_written_and_comes_back() {
    on_64_mib(async |dir| {
        let space = Space::open(config(dir)).unwrap();
        let fill = dir.join("fill");
        let mut file = File::create(&fill).unwrap();
        while file.write_all(&[1; 4096]).is_ok() {}
        let database = dir.join("database");
        fs::write(&database, [1; 4096]).unwrap_err();
        assert!(space.release_reserve().await.unwrap());
        fs::write(&database, [1; 4096]).unwrap();
        assert!(!space.release_reserve().await.unwrap(), "there is only one");
        // While it is full there is no reserve; with space it is made again.
        drop(file);
        fs::remove_file(&fill).unwrap();
        let reserve = dir.join("reserve");
        let waited = tokio::time::timeout(Duration::from_secs(10), async {
            tokio::select! {
                low = space.low_space() => panic!("{low:?}"),
                () = async { while !reserve.exists() { tokio::task::yield_now().await } } => {}
            }
        });
        waited.await.expect("the reserve comes back");
    });
}

#[test]
fn below_the_low_water_mark_the_disk_that_grew_most_is_named() {
    on_64_mib(async |dir| {
        let space = Space::open(config(dir)).unwrap();
        let [a, b] = ["a", "b"].map(|name| dir.join(name));
        // The larger one is not the one that grows.
        fs::write(&a, vec![1; 20 << 20]).unwrap();
        for disk in [&a, &b] {
            space.book(disk, 30 << 20).await.unwrap();
        }
        fs::write(&b, vec![1; 12 << 20]).unwrap();
        File::options().append(true).open(&a).unwrap().write_all(&vec![1; 9 << 20]).unwrap();
        let low = tokio::time::timeout(Duration::from_secs(10), space.low_space()).await.unwrap();
        assert_eq!((low.disk, low.grown), (b, 12 << 20));
        assert!(low.free < 16 << 20, "{}", low.free);
        // Neither is named for the same growth, nor for a growth that explains nothing.
        File::options().append(true).open(&a).unwrap().write_all(&vec![1; 1 << 20]).unwrap();
        let again = tokio::time::timeout(Duration::from_millis(100), space.low_space()).await;
        assert_eq!(again.ok(), None);
        File::options().append(true).open(&a).unwrap().write_all(&vec![1; 1 << 20]).unwrap();
        let low = tokio::time::timeout(Duration::from_secs(10), space.low_space()).await.unwrap();
        assert_eq!((low.disk, low.grown), (a, 2 << 20));
    });
}

#[test]
fn the_growth_of_a_disk_that_replaced_a_larger_one_is_measured_from_its_making() {
    on_64_mib(async |dir| {
        let space = Space::open(config(dir)).unwrap();
        let disk = dir.join("a");
        fs::write(&disk, vec![1; 30 << 20]).unwrap();
        space.book(&disk, 60 << 20).await.unwrap();
        // The next boot's disk takes the place of the earlier one's.
        fs::write(&disk, vec![1; 1 << 20]).unwrap();
        space.note_created(&disk).await;
        File::options().append(true).open(&disk).unwrap().write_all(&vec![1; 20 << 20]).unwrap();
        fs::write(dir.join("other"), vec![1; 20 << 20]).unwrap();
        let low = tokio::time::timeout(Duration::from_secs(10), space.low_space()).await.unwrap();
        assert_eq!((low.disk, low.grown), (disk, 20 << 20));
    });
}
