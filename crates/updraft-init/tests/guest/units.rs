//! Several processes and several containers in one guest.

use crate::assets::assets;
use crate::vm::{Guest, argv, config};
use guest_protocol::*;

fn shell(line: &str) -> Main {
    Main { argv: argv(&["sh", "-c", line]), ..Main::default() }
}

fn process(line: &str) -> Unit {
    Unit { main: shell(line), ..Unit::default() }
}

fn container(name: &str, line: &str) -> Unit {
    Unit { name: name.into(), main: shell(line), container: Some(Container::default()) }
}

fn of_container(unit: &mut Unit) -> &mut Container {
    unit.container.as_mut().unwrap()
}

fn with_units(units: Vec<Unit>) -> GuestConfig {
    GuestConfig { units: Some(units), ..config("unused") }
}

/// Waits until a unit is in a state.
fn until_state(guest: &mut Guest, unit: UnitId, state: UnitState) {
    guest.until(|m| match m {
        ToHost::Unit(status) if (status.unit, status.state) == (unit, state) => Some(()),
        _ => None,
    });
}

#[test]
fn the_first_process_that_ends_ends_all() {
    let Some(assets) = assets() else { return };
    let mut guest = Guest::boot(assets, 128);
    guest.run(with_units(vec![
        process("echo one; while [ ! -e /tmp/end ]; do sleep 0.1; done; exit 3"),
        Unit { name: "two".into(), ..process("echo two; exec sleep 100000") },
    ]));
    let ps = guest.shell(1, "ps | grep -c 'sleep 10000[0]'");
    assert_eq!(ps, (0, "1\n".into()));
    // A command may name a process, whose environment and directory it gets.
    let exec = Exec { argv: argv(&["pwd"]), unit: Some(1), ..Exec::default() };
    assert_eq!(guest.output(2, exec), (0, "/\n".into()));
    guest.send(&ToGuest::Exec(3, Exec { argv: argv(&["touch", "/tmp/end"]), ..Exec::default() }));
    assert_eq!(guest.exited(), Exit { code: 3, signal: 0, oom: false });
    for line in ["0:one\n", "1:two\n", "0:Main child exited normally with code: 3\n"] {
        assert!(guest.log.contains(line), "{line:?} in\n{}", guest.log);
    }
    guest.power_off();
}

#[test]
fn signals_and_stops_reach_every_process() {
    let Some(assets) = assets() else { return };
    let mut guest = Guest::boot(assets, 128);
    let line = |name: &str| {
        format!("trap 'echo {name} got it' USR1; echo up; while :; do sleep 0.1; done")
    };
    guest.run(with_units(vec![process(&line("one")), process(&line("two"))]));
    guest.shell(1, "sleep 0.5");
    guest.send(&ToGuest::Signal(10));
    guest.shell(2, "sleep 0.5");
    guest.send(&ToGuest::Stop { signal: 15, timeout_ms: 5000 });
    assert_eq!(guest.exited().signal, 15);
    assert!(guest.log.contains("0:one got it\n"), "{}", guest.log);
    assert!(guest.log.contains("1:two got it\n"), "{}", guest.log);
    guest.power_off();
}

#[test]
fn containers_have_files_and_processes_of_their_own_and_share_the_network() {
    let Some(assets) = assets() else { return };
    let mut guest = Guest::boot(assets, 256);
    let mut web = container("web", "echo web > /own; httpd -p 8080 -h /; exec sleep 100000");
    let file = GuestFile { path: "/etc/of-web".into(), mode: 0o600, content: b"x\n".into() };
    of_container(&mut web).files.push(file);
    let mount = |path: &str| UnitMount { volume: 0, path: path.into() };
    of_container(&mut web).mounts.push(mount("/shared"));
    let mut job = container("job", "exec sleep 200000");
    job.main.user = "app".into();
    of_container(&mut job).mounts.push(mount("/deep/in"));
    let volumes = vec![TempDir { name: "v".into(), memory_mib: Some(4) }];
    guest.run(GuestConfig { volumes: Some(volumes), ..with_units(vec![web, job]) });
    guest.until(|m| matches!(m, ToHost::Listening(l, true) if l.port == 8080).then_some(()));
    let ok = |text: &str| (0, text.to_owned());
    let within = |unit, line: &str| Exec {
        argv: argv(&["sh", "-c", line]),
        unit: Some(unit),
        ..Exec::default()
    };
    // Files are a container's own; the guest's root shows them below /.fly/containers.
    assert_eq!(guest.output(1, within(0, "cat /own /etc/of-web")), ok("web\nx\n"));
    let seen = "ls /own /etc/of-web /.fly/containers/web/* 2>/dev/null; cat /etc/hostname; \
                ls /.fly/containers";
    assert_eq!(guest.output(2, within(1, seen)), ok("3d8d413b29d089\njob\nweb\n"));
    assert_eq!(guest.shell(3, "cat /.fly/containers/web/own; ls /own"), {
        (1, "web\nls: /own: No such file or directory\n".to_owned())
    });
    // So are process ids; the guest's root sees all.
    let count = "ps | grep -c 'sleep [12]00000'";
    assert_eq!(guest.output(4, within(0, count)), ok("1\n"));
    assert_eq!(guest.output(5, within(1, count)), ok("1\n"));
    assert_eq!(guest.shell(6, count), ok("2\n"));
    // Network and volumes are shared; the image's user is the container's.
    let get = "wget -q -O - http://127.0.0.1:8080/etc/of-web >/dev/null && echo reached";
    assert_eq!(guest.output(7, within(1, get)), ok("reached\n"));
    guest.output(8, within(0, "echo both > /shared/x"));
    assert_eq!(guest.output(9, within(1, "cat /deep/in/x; test -S /.fly/api")), ok("both\n"));
    let owner = "stat -c %u /proc/2";
    assert_eq!(guest.output(10, within(1, owner)), ok("1000\n"));
    let tty = Some(TermSize { rows: 24, cols: 80 });
    assert_eq!(guest.output(11, Exec { tty, ..within(1, "tty") }), ok("/dev/pts/0\r\n"));
    // Without a name a command runs in none of them; one that does not exist is refused.
    assert_eq!(guest.exec_error(12, within(7, "true")), None);
    guest.send(&ToGuest::Stop { signal: 15, timeout_ms: 5000 });
    assert_eq!(guest.exited().signal, 15, "though the process is the first of its own");
    guest.power_off();
}

#[test]
fn containers_start_in_order_and_restart_by_their_own_rule() {
    let Some(assets) = assets() else { return };
    let mut guest = Guest::boot(assets, 256);
    let on = |unit, condition| vec![Dependency { unit, condition }];
    let mut setup = container("setup", "echo prepared > /.fly/../tmp/x; sleep 0.2");
    of_container(&mut setup).restart = RestartRule::default();
    let mut web = container("web", "sleep 0.3; httpd -p 8080 -h /; exec sleep 100000");
    let check = UnitCheck {
        name: "up".into(),
        stops: true,
        interval_ms: 200,
        timeout_ms: 1000,
        grace_ms: 5000,
        success_threshold: 1,
        failure_threshold: 2,
        probe: Probe::Http {
            port: 8080,
            method: "GET".into(),
            path: "/etc/passwd".into(),
            headers: vec![],
        },
    };
    of_container(&mut web).checks = vec![
        check.clone(),
        UnitCheck { name: "cmd".into(), probe: Probe::Exec(argv(&["true"])), ..check.clone() },
    ];
    of_container(&mut web).depends_on = on(0, Condition::ExitedSuccessfully);
    let mut worker = container("worker", "echo began; exit 4");
    of_container(&mut worker).depends_on = on(1, Condition::Healthy);
    of_container(&mut worker).restart = RestartRule {
        when: RestartWhen::OnFailure,
        max_retries: 1,
        window_ms: 60_000,
        pauses_ms: vec![0],
    };
    let mut never = container("never", "echo must not run");
    of_container(&mut never).depends_on = on(2, Condition::ExitedSuccessfully);
    guest.run(with_units(vec![setup, web, worker, never]));
    until_state(&mut guest, 0, UnitState::Stopped);
    until_state(&mut guest, 1, UnitState::Healthy);
    until_state(&mut guest, 2, UnitState::Failed);
    until_state(&mut guest, 3, UnitState::Failed);
    assert_eq!(guest.log.matches("2:began\n").count(), 2, "{}", guest.log);
    assert!(!guest.log.contains("3:must"), "{}", guest.log);
    // A new session is given all states.
    guest.reconnect();
    until_state(&mut guest, 1, UnitState::Healthy);
    // The container that is still up keeps the guest up; a check that fails ends it.
    guest.shell(1, "killall httpd");
    until_state(&mut guest, 1, UnitState::Unhealthy);
    assert_eq!(guest.exited().code, 4, "the first that failed for good");
    for line in ["Health check `up` is passing\n", "The container is stopped: it is unhealthy\n"] {
        assert!(guest.log.contains(line), "{line:?} in\n{}", guest.log);
    }
    guest.power_off();
}

#[test]
fn a_container_that_cannot_start_does_not_keep_others_from_it() {
    let Some(assets) = assets() else { return };
    let mut guest = Guest::boot(assets, 256);
    let mut broken = container("broken", "");
    broken.main.argv = argv(&["/no/such/program"]);
    guest.run(with_units(vec![broken, container("fine", "echo runs; sleep 0.5")]));
    assert_eq!(guest.exited().code, 127);
    let line = "The container cannot be started: entrypoint `/no/such/program` not found\n";
    assert!(guest.log.contains(line) && guest.log.contains("1:runs\n"), "{}", guest.log);
    guest.power_off();
}
