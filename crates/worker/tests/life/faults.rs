//! The changes that the edge is sent, and a disk that is full.

use crate::daemon::Settings;
use crate::lab::{Lab, route_line};
use host_api::RouteChange;

#[test]
fn route_changes_have_no_gaps_and_lead_to_the_table() {
    let mut lab = Lab::new(Settings::default());
    let mut routes = lab.subscribe();
    assert!(routes.snapshot.routes.is_empty());
    lab.script(
        "create m1 serve 80; wait m1 started; listens m1 80; cordon m1; guest m1 listen 81
         listens m1 81; stop m1; wait m1 stopped; start m1; wait m1 started
         destroy m1 --force; wait m1 destroyed",
    );
    let (mut lines, mut last) = (Vec::new(), routes.snapshot.position.generation);
    while let Ok((number, change)) = routes.changes.try_recv() {
        assert_eq!(number, last + 1, "a change is missing");
        last = number;
        lines.push(match change {
            RouteChange::Upsert(route) => route_line("m1", &route),
            RouteChange::Remove { .. } => "m1 removed".into(),
        });
    }
    // The first words of each change; the second start may or may not be seen
    // to listen before it is destroyed.
    assert_eq!(lines.first().unwrap(), "m1 starting []", "{lines:#?}");
    for expected in ["m1 started [80]", "m1 started [80, 81] cordoned", "m1 asleep [] cordoned"] {
        assert!(lines.iter().any(|line| line == expected), "{expected}: {lines:#?}");
    }
    assert_eq!(lines.last().unwrap(), "m1 removed", "{lines:#?}");
}

/// A file system of its own; gone with this value.
struct Small(camino::Utf8PathBuf);

impl Small {
    /// `None` without the right to mount.
    fn mount(path: &camino::Utf8Path) -> Option<Self> {
        std::fs::create_dir_all(path).unwrap();
        let mut mount = std::process::Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", "size=2m", "tmpfs", path.as_str()]);
        let done = mount.stderr(std::process::Stdio::null()).status();
        done.is_ok_and(|status| status.success()).then(|| Self(path.into()))
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        let _ = std::process::Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

#[test]
fn on_a_full_disk_nothing_is_acknowledged_that_is_not_durable() {
    let dir = tempfile::tempdir().unwrap();
    let path = camino::Utf8PathBuf::from_path_buf(dir.path().canonicalize().unwrap()).unwrap();
    let Some(_small) = Small::mount(&path.join("data")) else {
        return testkit::skip::skip(
            "mounting a file system needs root",
            testkit::skip::Lacks::Required,
        );
    };
    let mut lab = Lab::at(dir, Settings::default());
    lab.script("create m1 serve --policy=no; wait m1 started; create m2 serve; wait m2 started");
    let filler = path.join("data/filler");
    fill(&filler);
    // A line that the log had room for may still be acknowledged.
    let mut refused = 0;
    for n in 0..200 {
        lab.script(&format!("label m1 n={n}"));
        refused = lab.take().lines().count().max(refused);
        if refused > 0 {
            break;
        }
    }
    assert!(refused > 0, "the disk is not full");
    assert!(lab.world.disks.reserve_released(), "the reserve is used first");
    let id = lab.id("m1");
    let label = |lab: &Lab| lab.machine(id).config.unwrap().metadata.clone();
    let shown = label(&lab);
    // An event is recorded once there is room, however long it takes.
    lab.world.hypervisor.guest(id, testkit::guest::GuestAction::Exit(Default::default()));
    assert!(lab.wait("m1", "stopped", 300).is_err(), "an end that is not durable is not reported");
    std::fs::remove_file(&filler).unwrap();
    lab.wait("m1", "stopped", 3_600_000).unwrap();
    lab.kill();
    lab.restart();
    assert_eq!(label(&lab), shown, "what is shown is durable");
    lab.script("wait m2 started; start m1; wait m1 started; show");
    assert!(lab.take().contains("m2 started"));
    lab.kill();
}

fn fill(path: &camino::Utf8Path) {
    use std::io::Write;
    let mut file = std::fs::File::create(path).unwrap();
    while file.write_all(&[0; 4096]).is_ok() {}
}

#[test]
fn a_machine_that_does_not_take_its_stop_does_not_keep_others_from_being_stopped() {
    let clock = rt::Clock::manual(1_795_000_000_000_000_000);
    let mut lab = Lab::new(Settings { paused: true, clock, ..Settings::default() });
    lab.script("create m1 serve; wait m1 started; create m2 serve; wait m2 started");
    // Nothing can be recorded for the first machine, whose process has ended.
    lab.sql(&format!(
        "CREATE TRIGGER full BEFORE UPDATE ON machines WHEN NEW.id = '{}'
         BEGIN SELECT RAISE(ABORT, 'no space'); END",
        lab.id("m1")
    ));
    lab.script("guest m1 exit 0; tick 1s");
    let low = |lab: &Lab, name: &str| {
        let dir = lab.world.data_dir().join("machines").join(lab.id(name).to_string());
        let disk = dir.join("scratch.ext4");
        let low = worker::ports::LowSpace { free: 5 << 20, disk, grown: 700 << 20 };
        lab.world.disks.report_low_space(low);
    };
    low(&lab, "m1");
    lab.script("tick 31s; tick 31s");
    low(&lab, "m2");
    lab.script("tick 31s; wait m2 stopped; show");
    assert_eq!(lab.take(), "m1 started\nm2 stopped\n");
    lab.sql("DROP TRIGGER full");
}
