//! Behaviour that images rely on, found in bug reports of systems like this one.

use crate::assets::{assets, owners_are_kept};
use crate::vm::{Guest, argv, config};
use guest_protocol::*;
use testkit::skip::{Lacks, skip};

fn exec(words: &[&str]) -> Exec {
    Exec { argv: argv(words), ..Exec::default() }
}

#[test]
fn an_image_finds_what_other_engines_give_it() {
    let Some(assets) = assets() else { return };
    let mut guest = Guest::boot(assets, 256);
    let mut wanted = config(
        "echo a > /dev/stdout; echo b > /dev/stderr; echo c > /proc/self/fd/1; tool; \
         ls -ld /run/app | cut -c1-10; cat /run/app/keep; httpd -p 8080 -h /; \
         while :; do sleep 0.1; done",
    );
    wanted.main.user = "app".into();
    wanted.main.workdir = "/srv".into();
    wanted.main.env = vec![("PATH".into(), "./node_modules/.bin:/bin".into())];
    guest.run(wanted);
    guest.until(|m| matches!(m, ToHost::Listening(l, true) if l.port == 8080).then_some(()));
    let ok = |text: &str| (0, text.to_owned());

    // A relative directory of PATH is relative to the working directory.
    let tool = guest.output(1, exec(&["tool"]));
    assert_eq!(tool, ok("the tool runs in /srv\n"));
    // An exec's streams belong to its user too, with and without a terminal.
    let web = Exec { user: Some("app".into()), ..exec(&["sh", "-c", "echo x > /dev/stdout"]) };
    assert_eq!(guest.output(2, web.clone()), ok("x\n"));
    let tty = Some(TermSize { rows: 24, cols: 80 });
    assert_eq!(guest.output(3, Exec { tty, ..web }), ok("x\r\n"));

    // `/run` of the image is there, and is a tmpfs all the same.
    assert_eq!(guest.shell(4, "stat -c '%a %F' /run/app; touch /run/app/x"), ok("750 directory\n"));
    if owners_are_kept() {
        assert_eq!(guest.shell(5, "stat -c %u:%g /run/app"), ok("1000:1000\n"));
    } else {
        skip("files of other owners in /run of the image need root", Lacks::Required);
    }

    // Modules that apps ask for.
    let devices = "for d in /dev/fuse /dev/net/tun; do : < $d && echo $d opens; done; \
                   grep -w fuse /proc/filesystems; stat -c %a /dev/fuse /dev/net/tun";
    let want = "/dev/fuse opens\n/dev/net/tun opens\nnodev\tfuse\n666\n666\n";
    assert_eq!(guest.shell(6, devices), ok(want));
    let links = "ip link add br0 type bridge && ip link add w0 type wireguard && ip link del br0";
    assert_eq!(guest.shell(7, links), ok(""));

    // A program that is not found is distinguished from other failures.
    let missing = |program: &str| exec(&[program]);
    assert_eq!(guest.exec_error(8, missing("bash")), Some(ExecErrorKind::NotFound));
    assert_eq!(guest.exec_error(9, missing("/etc/plain")), Some(ExecErrorKind::NotExecutable));
    let reserved = Exec { user: Some("4294967295".into()), ..exec(&["id"]) };
    assert_eq!(guest.exec_error(10, reserved), None);

    for line in ["a\n", "!b\n", "c\n", "the tool runs in /srv\n"] {
        assert!(guest.log.contains(line), "{line:?} in\n{}", guest.log);
    }
    if owners_are_kept() {
        assert!(guest.log.contains("drwxr-x---\nkept\n"), "{}", guest.log);
    }
    guest.power_off();
}

#[test]
fn the_last_line_is_logged_without_a_newline() {
    let Some(assets) = assets() else { return };
    let mut guest = Guest::boot(assets, 128);
    guest.run(config("echo begin; printf 'panic: out of cheese'; exit 3"));
    assert_eq!(guest.exited().code, 3);
    let want = "begin\npanic: out of cheese\nMain child exited normally with code: 3\n";
    assert!(guest.log.contains(want), "{}", guest.log);
    guest.power_off();
}

#[test]
fn a_process_that_uses_all_memory_is_killed_within_seconds() {
    let Some(assets) = assets() else { return };
    let mut guest = Guest::boot(assets, 256);
    guest.run(config("exec tail /dev/zero"));
    assert_eq!(guest.exited(), Exit { code: 137, signal: 9, oom: true });
    guest.power_off();
}

#[test]
fn a_new_session_gets_the_log_that_was_not_acknowledged() {
    let Some(assets) = assets() else { return };
    let mut guest = Guest::boot(assets, 128);
    guest.acknowledge = false;
    guest.run(config("echo first; httpd -p 8080 -h /; while :; do sleep 0.1; done"));
    guest.until(|m| matches!(m, ToHost::Listening(l, true) if l.port == 8080).then_some(()));
    guest.shell(1, "true");
    assert_eq!(guest.log.matches("first\n").count(), 1, "{}", guest.log);
    guest.acknowledge = true;
    guest.connect();
    guest.shell(2, "true");
    assert_eq!(guest.log.matches("first\n").count(), 2, "{}", guest.log);
    guest.connect();
    guest.shell(3, "true");
    assert_eq!(guest.log.matches("first\n").count(), 2, "{}", guest.log);
    guest.power_off();
}
