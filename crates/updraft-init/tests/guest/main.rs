//! The static binary as pid 1 of real guests: QEMU under emulation, the
//! distribution's kernel, the protocol over a Unix socket.
//!
//! Slow (seconds per guest), so each test asks much of one guest. Skipped, with
//! a message, where QEMU or a guest kernel is missing.

#![allow(clippy::unwrap_used, reason = "all of this is test code")]

mod api;
mod assets;
mod cases;
mod monitor;
mod template;
mod units;
mod vm;

use assets::assets;
use guest_protocol::*;
use std::time::Duration;
use vm::{Guest, argv, config};

/// A main process that listens, and leaves on SIGUSR1 only.
const SERVER: &str = "trap '' TERM; trap 'exit 9' USR1; echo up; echo oops >&2; \
                      httpd -p 8080 -h /; while :; do sleep 0.1; done";

fn listens(port: u16) -> impl FnMut(&ToHost) -> Option<bool> {
    move |m| match m {
        ToHost::Listening(l, true) if l.port == port => Some(l.reachable),
        _ => None,
    }
}

#[test]
fn a_machine_matches_its_configuration() {
    let Some(assets) = assets() else { return };
    let mut guest = Guest::boot(assets, 128);
    let mut wanted = config(SERVER);
    wanted.main.env = vec![("GREETING".into(), "hi".into())];
    wanted.main.workdir = "/data/work".into();
    wanted.swap_mib = 16;
    let stages = guest.run(wanted);
    println!("stages: {stages:?}");
    assert!(guest.until(listens(8080)), "port 8080 can be reached");

    let mut id = 0;
    let mut sh = |line: &str| {
        id += 1;
        guest.shell(id, line)
    };
    let ok = |text: &str| (0, text.to_owned());
    assert_eq!(
        sh("hostname; cat /etc/hostname /etc/resolv.conf /srv/deep/secret; pwd"),
        ok("3d8d413b29d089\n3d8d413b29d089\nnameserver fdaa::3\ncontent\n/data/work\n",)
    );
    assert_eq!(sh("stat -c '%a' /srv/deep/secret /tmp /dev/shm"), ok("640\n1777\n1777\n"));
    assert_eq!(
        sh("echo $GREETING $HOME $PATH"),
        ok("hi /root /usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin\n",)
    );
    assert_eq!(sh("ulimit -n; ulimit -Hn; umask"), ok("10240\n1048576\n0022\n"));
    let (_, addresses) = sh("ip addr show eth0; ip route; ip -6 route; ip addr show lo");
    for part in [
        "172.19.0.2/30",
        "fdaa:0:1:a7b:1::2/112",
        "mtu 1420",
        "default via 172.19.0.1",
        "default via fdaa:0:1:a7b:1::1",
        "127.0.0.1/8",
    ] {
        assert!(addresses.contains(part), "{part} in\n{addresses}");
    }
    assert!(!addresses.contains("tentative"), "{addresses}");
    let (_, mounts) = sh("cut -d' ' -f2,3 /proc/mounts");
    for part in [
        "/ overlay",
        "/proc proc",
        "/sys sysfs",
        "/dev devtmpfs",
        "/dev/pts devpts",
        "/dev/shm tmpfs",
        "/dev/mqueue mqueue",
        "/run tmpfs",
        "/sys/fs/cgroup cgroup2",
    ] {
        assert!(mounts.lines().any(|l| l == part), "{part} in\n{mounts}");
    }
    assert_eq!(sh("test $(date +%s) -ge 1800000000 && test $(date +%s) -le 1800001000"), ok(""));
    assert_eq!(
        sh("cat /etc/machine-id; stat -c %a /etc/machine-id"),
        ok(&format!("{}\n444\n", "0123456789abcdef".repeat(2)))
    );
    assert_eq!(sh("cat /sys/class/net/eth0/address"), ok("02:00:00:00:00:01\n"));
    assert_eq!(sh("stat -c '%a %F' /.fly /.fly/api"), ok("755 directory\n666 socket\n"));
    assert_eq!(
        sh("wc -c < /etc/machine-id; wget -qO- http://172.19.0.2:8080/srv/deep/secret"),
        ok("33\ncontent\n")
    );
    let (_, swaps) = sh("tail -n +2 /proc/swaps | wc -l");
    assert_eq!(swaps, "1\n", "there is swap");
    assert_eq!(
        sh("grep -E 'SigBlk|SigIgn' /proc/self/status; cat /proc/self/oom_score_adj"),
        ok("SigBlk:\t0000000000000000\nSigIgn:\t0000000000000000\n0\n")
    );
    // Orphans do not stay as zombies.
    assert_eq!(sh("(sleep 0.1 &) ; sleep 0.5; ps -o stat | grep -c Z"), (1, "0\n".into()));

    guest.send(&ToGuest::ListProcesses(77));
    let list = guest.until(|m| match m {
        ToHost::Processes(77, list) => Some(list.clone()),
        _ => None,
    });
    let httpd = list.iter().find(|p| p.command.starts_with("httpd")).expect("httpd is listed");
    assert!(httpd.listen_sockets.iter().any(|s| s.address == "[::]:8080"), "{httpd:?}");
    assert!(httpd.rss > 0 && list.iter().all(|p| p.pid != 1), "{list:?}");

    guest.send(&ToGuest::Awake(1_900_000_000_000_000_000));
    assert_eq!(guest.shell(100, "test $(date +%s) -ge 1900000000"), ok(""));

    // The end of listening is reported too.
    let (code, _) = guest.shell(101, "killall -9 httpd");
    assert_eq!(code, 0);
    guest.until(|m| matches!(m, ToHost::Listening(l, false) if l.port == 8080).then_some(()));

    // The stop signal is ignored, so it is SIGKILL that ends it.
    guest.send(&ToGuest::Stop { signal: 15, timeout_ms: 300 });
    assert_eq!(guest.exited(), Exit { code: 137, signal: 9, oom: false });
    for line in [
        "Starting init (commit: ",
        "as root\n",
        "up\n",
        "!oops\n",
        "Main child exited with signal (with signal 'SIGKILL', core dumped? false)\n",
    ] {
        assert!(guest.log.contains(line), "{line} in\n{}", guest.log);
    }
    guest.power_off();
}

#[test]
fn commands_run_beside_the_main_process() {
    let Some(assets) = assets() else { return };
    let mut guest = Guest::boot(assets, 128);
    guest.run(config(SERVER));
    let exec = |words: &[&str]| Exec { argv: argv(words), ..Exec::default() };

    // More than the windows of both directions, through a process that echoes.
    let input: Vec<u8> = (0..(WINDOW * 4 + 17)).map(|i| (i * 7 % 251) as u8).collect();
    let (exit, out, _) = guest.exec(1, exec(&["cat"]), &input);
    assert_eq!((exit.code, out == input), (0, true));
    // A reader that goes away early does not hold the input up.
    assert_eq!(guest.exec(2, exec(&["head", "-c", "3"]), &input).1, input[..3]);

    let (exit, out, err) = guest.exec(3, exec(&["sh", "-c", "echo a; echo b >&2; exit 3"]), b"");
    assert_eq!((exit.code, out.as_slice(), err.as_str()), (3, &b"a\n"[..], "b\n"));
    let as_app = Exec {
        user: Some("app".into()),
        workdir: Some("/etc".into()),
        env: vec![("X".into(), "y".into())],
        ..exec(&["sh", "-c", "id; pwd; echo $HOME $X"])
    };
    let (_, out, _) = guest.exec(4, as_app, b"");
    assert_eq!(
        String::from_utf8(out).unwrap(),
        "uid=1000(app) gid=1000(app) groups=2000(extra)\n/etc\n/home/app y\n"
    );
    for (words, want) in [
        (&["nope"][..], "command `nope` not found in PATH"),
        (&["/etc/plain"], "command `/etc/plain` is not executable"),
        (&[], "empty command"),
    ] {
        let (exit, _, error) = guest.exec(5, exec(words), b"");
        assert_eq!((exit.code, error.as_str()), (-1, want));
    }
    let ghost = Exec { user: Some("ghost".into()), ..exec(&["true"]) };
    assert_eq!(guest.exec(6, ghost, b"").2, "user `ghost` not found in /etc/passwd");

    let timed = Exec { timeout_ms: Some(100), ..exec(&["sh", "-c", "sleep 100; echo late"]) };
    assert_eq!(guest.exec(7, timed, b"").0, Exit { code: 137, signal: 9, oom: false });
    // A grandchild that holds the output does not delay the end without bound.
    let (exit, out, _) = guest.exec(8, exec(&["sh", "-c", "sleep 100 & echo done"]), b"");
    assert_eq!((exit.code, out.as_slice()), (0, &b"done\n"[..]));

    // A terminal, its size, and a new size.
    let tty = Some(TermSize { rows: 33, cols: 77 });
    let script = "tty; stty size; read -r line; stty size; echo got $line $TERM";
    guest.send(&ToGuest::Exec(9, Exec { tty, ..exec(&["sh", "-c", script]) }));
    let mut screen = String::new();
    let mut resized = false;
    let code = loop {
        match guest.next() {
            ToHost::ExecOutput(9, _, bytes) => screen += &String::from_utf8(bytes).unwrap(),
            ToHost::ExecExited(9, exit) => break exit.code,
            _ => {}
        }
        if screen.contains("33 77") && !std::mem::replace(&mut resized, true) {
            guest.send(&ToGuest::ExecResize(9, TermSize { rows: 5, cols: 6 }));
            guest.send(&ToGuest::ExecInput(9, b"word\n".to_vec()));
        }
    };
    assert_eq!(code, 0);
    assert!(screen.starts_with("/dev/pts/"), "{screen}");
    assert!(screen.contains("5 6\r\n") && screen.contains("got word xterm\r\n"), "{screen}");

    // Signals go to the command's group, and to the main process alone.
    guest.send(&ToGuest::Exec(10, exec(&["sh", "-c", "echo on; sleep 100; sleep 100"])));
    guest.until(|m| matches!(m, ToHost::ExecOutput(10, ..)).then_some(()));
    guest.send(&ToGuest::ExecSignal(10, 15));
    let exit = guest.until(|m| match m {
        ToHost::ExecExited(10, exit) => Some(*exit),
        _ => None,
    });
    assert_eq!((exit.code, exit.signal), (143, 15));
    guest.send(&ToGuest::Signal(10));
    assert_eq!(guest.exited(), Exit { code: 9, signal: 0, oom: false });
    assert!(guest.log.ends_with("Main child exited normally with code: 9\n"), "{}", guest.log);
    assert_eq!(guest.exec(11, exec(&["true"]), b"").2, "the main process does not run");
    guest.power_off();
}

#[test]
fn a_session_ends_and_another_begins_while_all_is_busy() {
    let Some(assets) = assets() else { return };
    let mut guest = Guest::boot(assets, 128);
    let mut flood = config("httpd -p 80 -h /; exec yes line");
    flood.log_buffer = 64 * 1024;
    guest.run(flood);
    assert!(guest.until(listens(80)));
    // A command that has used its window up; its output is not read any further.
    let zeros = Exec { argv: argv(&["cat", "/dev/zero"]), ..Exec::default() };
    guest.send(&ToGuest::Exec(1, zeros));
    let mut got = 0;
    guest.until(|m| {
        got += if let ToHost::ExecOutput(1, _, bytes) = m { bytes.len() } else { 0 };
        (got == WINDOW as usize).then_some(())
    });
    let (phase, listening) = guest.reconnect();
    assert!(matches!(phase, Phase::Running(_)), "{phase:?}");
    assert_eq!(listening, [Listener { port: 80, reachable: true }]);
    assert_eq!(
        guest.shell(1, "pidof cat; echo $?"),
        (0, "1\n".into()),
        "it ended with its session"
    );
    for round in 0..30 {
        assert!(matches!(guest.reconnect().0, Phase::Running(_)));
        if round % 10 == 0 {
            assert_eq!(guest.shell(1, "echo on"), (0, "on\n".into()));
        }
    }
    // The app does not wait for the host; output beyond the buffer is counted.
    // How long that takes is the machine's matter: away for longer each time.
    let mut away = Duration::from_millis(20);
    while guest.dropped == 0 {
        guest.disconnect();
        std::thread::sleep(away);
        away *= 2;
        guest.connect();
        guest.shell(2, "true");
    }
    assert!(std::mem::take(&mut guest.log).contains("line\nline\n"));
    guest.send(&ToGuest::Stop { signal: 15, timeout_ms: 20_000 });
    assert_eq!(guest.exited(), Exit { code: 143, signal: 15, oom: false });
    let (phase, listening) = guest.reconnect();
    assert_eq!(phase, Phase::Exited(Exit { code: 143, signal: 15, oom: false }));
    assert_eq!(listening, []);
    guest.power_off();
}

/// A guest may not notice that its host is another: the connection is cut while
/// the guest is stopped, as a snapshot does.
#[test]
fn a_host_is_welcomed_at_once_whatever_the_guest_noticed() {
    let Some(assets) = assets() else { return };
    let mut guest = Guest::boot(assets, 96);
    guest.run(config("exec yes line"));
    for round in 0..6 {
        let mut monitor = guest.monitor();
        monitor.run("stop", "{}");
        guest.disconnect();
        guest.dial();
        // Part of a frame: the guest had it, and the rest never comes.
        guest.part_of_a_frame();
        guest.disconnect();
        guest.dial();
        monitor.run("cont", "{}");
        drop(monitor);
        let began = std::time::Instant::now();
        assert!(matches!(guest.greet().0, Phase::Running(_)));
        println!("round {round}: welcome after {:?}", began.elapsed());
        assert_eq!(guest.shell(1, "echo on"), (0, "on\n".into()));
    }
    guest.power_off();
}

#[test]
fn a_configuration_that_cannot_be_applied_is_refused_with_the_reason() {
    let Some(assets) = assets() else { return };
    let failing: [(&str, GuestConfig); 5] = [
        (
            "entrypoint `nope` not found in PATH",
            GuestConfig {
                main: Main { argv: argv(&["nope", "-x"]), ..Main::default() },
                ..config("")
            },
        ),
        (
            "entrypoint `/etc/plain` is not executable",
            GuestConfig {
                main: Main { argv: argv(&["/etc/plain"]), ..Main::default() },
                ..config("")
            },
        ),
        ("empty entrypoint", GuestConfig { main: Main::default(), ..config("") }),
        (
            "user `ghost` not found in /etc/passwd",
            GuestConfig {
                main: Main { user: "ghost".into(), argv: argv(&["true"]), ..Main::default() },
                ..config("")
            },
        ),
        (
            "cannot mount /dev/vda (ext4) at /lower: Invalid argument (os error 22)",
            GuestConfig {
                root: Device { path: "/dev/vda".into(), fstype: "ext4".into() },
                ..config("true")
            },
        ),
    ];
    for (want, config) in failing {
        let mut guest = Guest::boot(assets, 96);
        guest.send(&ToGuest::Configure(Box::new(config)));
        let error = guest.until(|m| match m {
            ToHost::ConfigFailed(error) => Some(error.clone()),
            _ => None,
        });
        assert_eq!(error, want);
        assert_eq!(guest.reconnect().0, Phase::Failed(want.to_owned()));
        guest.power_off();
    }
}

#[test]
fn a_main_process_ended_by_the_oom_killer_is_reported_so() {
    let Some(assets) = assets() else { return };
    let mut guest = Guest::boot(assets, 96);
    let mut greedy = config("");
    greedy.main = Main {
        argv: argv(&[
            "awk",
            "BEGIN { s = sprintf(\"%9000000d\", 1); print \"big\"; fflush(); system(\"sleep 9999\") }",
        ]),
        user: "app:extra".into(),
        tty: true,
        ..Main::default()
    };
    guest.run(greedy);
    // Running out of memory for real takes an emulated kernel minutes of reading
    // its page cache again and again; this asks for the same killer directly,
    // which takes the biggest process.
    while !guest.log.contains("big") {
        guest.shell(1, "true");
    }
    guest.send(&ToGuest::Exec(
        2,
        Exec { argv: argv(&["sh", "-c", "echo f > /proc/sysrq-trigger"]), ..Exec::default() },
    ));
    assert_eq!(guest.exited(), Exit { code: 137, signal: 9, oom: true });
    assert!(guest.log.contains("Preparing to run: `awk BEGIN"), "{}", guest.log);
    guest.power_off();
}

#[test]
fn init_does_not_run_while_no_host_is_connected() {
    let Some(assets) = assets() else { return };
    let mut guest = Guest::boot(assets, 96);
    guest.run(config("exec sleep 100000"));
    // Ticks of CPU that init has used, and of time that has gone by.
    let line = "cut -d' ' -f14,15 /proc/1/stat; cut -d' ' -f1 /proc/uptime";
    let ticks = |guest: &mut Guest| {
        let text = guest.shell(1, line).1;
        let numbers: Vec<f64> = text.split_whitespace().map(|n| n.parse().unwrap()).collect();
        (numbers[0] + numbers[1], numbers[2] * 100.0)
    };
    let before = ticks(&mut guest);
    guest.disconnect();
    // Not waiting for anything: the point is that time passes.
    std::thread::sleep(Duration::from_secs(2));
    guest.connect();
    let after = ticks(&mut guest);
    let (used, passed) = (after.0 - before.0, after.1 - before.1);
    println!("init used {used} of {passed} ticks");
    assert!(used < passed / 4.0, "init used {used} of {passed} ticks");
    guest.power_off();
}
