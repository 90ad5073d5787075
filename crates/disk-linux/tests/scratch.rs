//! Scratch disks on file systems that are too small, and the pool of disks.

mod mount;

use camino::Utf8Path;
use disk_linux::ScratchDisks;
use mount::{can_mount, with_tmpfs};

fn names(dir: &Utf8Path) -> Vec<String> {
    let entries = dir.read_dir_utf8().expect("list");
    entries.map(|entry| entry.expect("an entry").file_name().to_owned()).collect()
}

#[test]
fn a_full_disk_is_named_and_nothing_is_left() {
    if !can_mount() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let dir = Utf8Path::from_path(dir.path()).unwrap();
    let (big, small) = (dir.join("big"), dir.join("small"));
    std::fs::create_dir(&small).unwrap();
    with_tmpfs(&small, "16k", || {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let create = |templates: &Utf8Path, disk: &str| {
            let disks = ScratchDisks::open(templates).unwrap();
            runtime.block_on(disks.create(&small.join(disk), 0)).map_err(|err| rt::chain(&err))
        };
        // The disk does not fit, then not even its template.
        let error = create(&big, "disk").unwrap_err();
        assert!(error.contains("the disk is full"), "{error}");
        assert_eq!(names(&small), [""; 0]);
        assert_eq!(names(&big), ["template-16m.ext4"]);
        let error = create(&small.join("t"), "disk").unwrap_err();
        assert!(error.contains("make template"), "{error}");
        assert_eq!(names(&small), ["t"]);
        assert_eq!(names(&small.join("t")), [""; 0]);
    });
    // Two file systems with room: the copy goes the long way.
    with_tmpfs(&small, "4m", || {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let disks = ScratchDisks::open(&big).unwrap();
        let disk = small.join("disk");
        let made = runtime.block_on(disks.create(&disk, 0)).unwrap();
        assert!(!made.reflinked);
        assert!(
            std::fs::read(&disk).unwrap() == std::fs::read(big.join("template-16m.ext4")).unwrap()
        );
    });
}

/// Contents of the pooled disks in a directory.
fn pooled(dir: &Utf8Path) -> Vec<Vec<u8>> {
    let names = names(dir).into_iter().filter(|name| name.starts_with(".spare-"));
    names.filter_map(|name| std::fs::read(dir.join(name)).ok()).collect()
}

#[test]
fn a_disk_is_ready_before_it_is_asked_for_but_only_so_many_are() {
    let dir = tempfile::tempdir().unwrap();
    let dir = Utf8Path::from_path(dir.path()).unwrap();
    let templates = dir.join("t");
    std::fs::create_dir(&templates).unwrap();
    // Left by an earlier daemon, and perhaps incomplete.
    std::fs::write(templates.join(".spare-1"), "half").unwrap();
    let disks = ScratchDisks::open(&templates).unwrap();
    assert_eq!(names(&templates), [""; 0]);
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let create =
        |name: &str, mib: u64| runtime.block_on(disks.create(&dir.join(name), mib << 20)).unwrap();
    // They are made in the background, and so not at once.
    let until = |done: &dyn Fn(&[Vec<u8>]) -> bool| {
        let begun = std::time::Instant::now();
        while !done(&pooled(&templates)) {
            assert!(begun.elapsed().as_secs() < 10, "{} disks", pooled(&templates).len());
            std::thread::yield_now();
        }
    };
    if create("first", 16).reflinked {
        assert!(pooled(&templates).is_empty(), "a reflink is as fast");
        return;
    }
    let template = std::fs::read(templates.join("template-16m.ext4")).unwrap();
    for _ in 0..4 {
        until(&|pooled| pooled == [template.clone(), template.clone()]);
        let made = create("again", 16);
        assert_eq!((made.size, made.reflinked), (16 << 20, false));
        assert!(std::fs::read(dir.join("again")).unwrap() == template);
    }
    until(&|pooled| pooled.len() == 2);
    // A pooled disk that was removed meanwhile is no error.
    for name in names(&templates).iter().filter(|name| name.starts_with(".spare-")) {
        std::fs::remove_file(templates.join(name)).unwrap();
    }
    create("after", 16);
    assert!(std::fs::read(dir.join("after")).unwrap() == template);
    // Sizes that are no longer used have none.
    for mib in 17..=21 {
        create("other", mib);
        until(&|pooled| pooled.iter().filter(|disk| disk.len() as u64 == mib << 20).count() == 2);
    }
    until(&|pooled| pooled.len() == 8 && pooled.iter().all(|disk| disk.len() > 17 << 20));
}

#[test]
fn the_pool_stays_empty_where_a_rename_fails_or_space_is_short() {
    if !can_mount() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let dir = Utf8Path::from_path(dir.path()).unwrap();
    let (big, small) = (dir.join("big"), dir.join("small"));
    std::fs::create_dir(&small).unwrap();
    with_tmpfs(&small, "64m", || {
        // One runtime for all: one that ends drops the refills that have not begun.
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let create = |disks: &ScratchDisks| {
            runtime.block_on(disks.create(&small.join("disk"), 0)).unwrap();
        };
        let [big_disks, small_disks] =
            [&big, &small].map(|dir| ScratchDisks::open(&dir.join("t")).unwrap());
        let until = |count| {
            let begun = std::time::Instant::now();
            while pooled(&big.join("t")).len() != count {
                assert!(begun.elapsed().as_secs() < 60, "never {count} pooled disks");
                std::thread::yield_now();
            }
        };
        let beside = runtime.block_on(big_disks.create(&big.join("disk"), 0)).unwrap();
        // Where a copy is a reflink, nothing is pooled to begin with.
        if !beside.reflinked {
            until(2);
            // The rename of a pooled disk fails now, and with it the pool.
            create(&big_disks);
            until(0);
        }
        for _ in 0..3 {
            create(&big_disks);
            create(&small_disks);
        }
        // Waits for the refills that have begun.
        drop(runtime);
        assert!(pooled(&small.join("t")).is_empty(), "64 MiB are short");
        assert!(pooled(&big.join("t")).is_empty(), "a rename goes to no other file system");
    });
}
