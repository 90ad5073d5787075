//! Guests that are frozen and restored: what a template's machines share, and
//! what they must not.

use crate::assets::{Assets, assets};
use crate::vm::{Guest, Hardware, argv, config};
use guest_protocol::*;
use std::collections::HashSet;
use std::path::{Path, PathBuf};

const MIB: u32 = 128;

/// A guest's memory and devices, as they were when it was frozen.
struct Frozen {
    ram: PathBuf,
    state: PathBuf,
    _dir: tempfile::TempDir,
}

impl Frozen {
    /// Boots a guest, with other devices than its machines will have, until it
    /// has settled, and freezes it.
    fn template(assets: &Assets) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let (ram, state) = (dir.path().join("ram"), dir.path().join("state"));
        let root = dir.path().join("nothing");
        std::fs::write(&root, [0; 4096]).unwrap();
        let hardware = Hardware { root: &root, scratch_mib: 8, mac: "02:ff:ff:ff:ff:ff" };
        let mut guest = Guest::start(assets, &hardware, &memory(&ram, true));
        assert_eq!(guest.greet(), (Phase::AwaitingConfig, vec![]));
        guest.send(&ToGuest::QuiesceForTemplate);
        guest.until(|m| (*m == ToHost::Quiesced).then_some(()));
        guest.monitor().save(&state);
        let kib = std::process::Command::new("du").args(["-k", ram.to_str().unwrap()]).output();
        println!("memory of the template, KiB: {}", String::from_utf8_lossy(&kib.unwrap().stdout));
        Self { ram, state, _dir: dir }
    }

    /// A machine of it, connected before (or only after) it runs.
    fn restore(&self, assets: &Assets, late: bool) -> Guest {
        let mut args = memory(&self.ram, false);
        args.extend(["-incoming".to_owned(), "defer".to_owned()]);
        let mut guest = Guest::start(assets, &Hardware::real(assets), &args);
        if late {
            guest.disconnect();
        }
        let mut monitor = guest.monitor();
        monitor.load(&self.state);
        monitor.run("cont", "{}");
        let began = std::time::Instant::now();
        let welcome = if late { guest.connect() } else { guest.greet() };
        assert_eq!(welcome, (Phase::AwaitingConfig, vec![]));
        println!("welcome {:?} after cont (late: {late})", began.elapsed());
        guest
    }
}

fn memory(ram: &Path, share: bool) -> Vec<String> {
    let share = if share { "on" } else { "off" };
    let ram = ram.display();
    let object = format!("memory-backend-file,id=ram,size={MIB}M,mem-path={ram},share={share}");
    ["-m".to_owned(), MIB.to_string(), "-object".to_owned(), object].into()
}

/// GuestConfig for the machine of a number.
fn machine(number: u8) -> GuestConfig {
    let mut config = config("httpd -p 80 -h /; exec sleep 100000");
    config.hostname = format!("machine{number}");
    config.machine_id = format!("{number:032x}");
    config.entropy = vec![number; 64];
    if let Some(net) = &mut config.net {
        net.mac = [2, 0, 0, 0, 0, number];
    }
    config
}

#[test]
fn machines_of_one_template_have_nothing_secret_in_common() {
    let Some(assets) = assets() else { return };
    let template = Frozen::template(assets);
    let mut seen = HashSet::new();
    for number in 1..=2 {
        let mut guest = template.restore(assets, number == 2);
        let began = std::time::Instant::now();
        let cpu = guest.cpu_ms();
        let stages = guest.run(machine(number));
        println!("CPU: {} ms before config, {} ms until it runs", cpu, guest.cpu_ms() - cpu);
        println!("runs after {:?}; stages: {stages:?}", began.elapsed());
        guest.until(|m| matches!(m, ToHost::Listening(l, true) if l.port == 80).then_some(()));
        let mut own = |line: &str| {
            let (code, text) = guest.shell(1, line);
            assert_eq!(code, 0, "{text}");
            assert!(seen.insert(text.clone()), "two machines have {text} in {line}");
            text
        };
        own("cat /proc/sys/kernel/random/boot_id");
        own("head -c 32 /dev/urandom | od -x");
        own("cat /proc/sys/kernel/random/uuid");
        assert_eq!(
            own("hostname; cat /etc/hostname"),
            format!("machine{number}\nmachine{number}\n")
        );
        assert_eq!(own("cat /etc/machine-id"), format!("{number:032x}\n"));
        let mac = format!("02:00:00:00:00:{number:02x}\n");
        assert_eq!(own("cat /sys/class/net/eth0/address"), mac);
        // The disks are the machine's own, not the template's.
        let sizes = guest.shell(2, "cat /sys/block/vdb/size; date +%Y").1;
        assert_eq!(sizes, format!("{}\n2027\n", 256 << 11));
        let bound = "ls /sys/bus/virtio/drivers/virtio_rng | grep -c virtio; \
                     cat /sys/class/misc/hw_random/rng_current";
        assert!(guest.shell(3, bound).1.starts_with("1\nvirtio_rng"), "the rest is bound too");
        guest.send(&ToGuest::Stop { signal: 9, timeout_ms: 0 });
        guest.exited();
        guest.power_off();
    }
}

#[test]
fn a_machine_runs_on_after_it_was_suspended() {
    let Some(assets) = assets() else { return };
    let dir = tempfile::tempdir().unwrap();
    let (ram, state) = (dir.path().join("ram"), dir.path().join("state"));
    let mut guest = Guest::start(assets, &Hardware::real(assets), &memory(&ram, true));
    guest.greet();
    let mut config = machine(1);
    config.main.user = "app".into();
    config.main.env = vec![("WHO".into(), "me".into())];
    config.main.workdir = "/tmp".into();
    config.main.argv = argv(&["sh", "-c", "httpd -p 8080 -h /; while :; do echo line; done"]);
    guest.run(config);
    guest.until(|m| matches!(m, ToHost::Listening(l, true) if l.port == 8080).then_some(()));
    // In the midst of a flood, and of a frame.
    guest.monitor().save(&state);
    let mut args = memory(&ram, false);
    args.extend(["-incoming".to_owned(), "defer".to_owned()]);
    let mut guest = guest.replace(assets, &Hardware::real(assets), &args);
    let mut monitor = guest.monitor();
    monitor.load(&state);
    monitor.run("cont", "{}");
    let began = std::time::Instant::now();
    let (phase, listening) = guest.greet();
    println!("welcome {:?} after cont", began.elapsed());
    assert!(matches!(phase, Phase::Running(_)), "{phase:?}");
    assert_eq!(listening, [Listener { port: 8080, reachable: true }]);
    let hook = "me=$(id -un); echo hook of $me in $PWD, $WHO $(date +%Y); exit 3";
    guest.send(&ToGuest::Resumed(Resume {
        now: 2_000_000_000_000_000_000,
        entropy: vec![9; 64],
        hook: argv(&["sh", "-c", hook]),
    }));
    while !guest.log.contains("Resume hook exited") {
        guest.shell(1, "true");
    }
    for words in [
        "Resumed after being suspended\n",
        "hook of app in /tmp, me 2033\n",
        "Resume hook exited with code: 3\n",
    ] {
        assert!(guest.log.contains(words), "{words}");
    }
    guest.send(&ToGuest::Stop { signal: 9, timeout_ms: 0 });
    guest.exited();
    guest.power_off();
}

/// Not a test: where the time of a start goes. Run it by name, alone.
#[test]
#[ignore = "a measurement"]
fn stages_of_restored_machines() {
    let Some(assets) = assets() else { return };
    let template = Frozen::template(assets);
    let mut sums = std::collections::BTreeMap::<usize, (String, Vec<f64>)>::new();
    let mut cpus = Vec::new();
    for number in 1..=15 {
        let mut guest = template.restore(assets, false);
        let cpu = guest.cpu_ms();
        let stages = guest.run(machine(number));
        cpus.push(guest.cpu_ms() - cpu);
        let mut before = 0.0;
        for (at, (name, ms)) in stages.into_iter().enumerate() {
            sums.entry(at).or_insert((name, Vec::new())).1.push(ms - before);
            before = ms;
        }
    }
    for (name, mut all) in sums.into_values() {
        all.sort_by(f64::total_cmp);
        println!("{name:10} median {:6.1} least {:6.1}", all[all.len() / 2], all[0]);
    }
    cpus.sort_unstable();
    println!("CPU ms: median {} least {}", cpus[cpus.len() / 2], cpus[0]);
}
