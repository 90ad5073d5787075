//! `/.fly/api`: an app of a real guest asks its host.

use crate::assets::assets;
use crate::vm::{Guest, argv, config};
use guest_protocol::*;

/// The bytes that a client sends, up to the end of a line or of its input.
fn client_sends(guest: &mut Guest, id: ApiId) -> Vec<u8> {
    let mut sent = Vec::new();
    guest.until(|m| match m {
        ToHost::ApiData(of, bytes) if *of == id => {
            sent.extend_from_slice(bytes);
            sent.ends_with(b"\n").then_some(())
        }
        ToHost::ApiEnd(of) if *of == id => Some(()),
        _ => None,
    });
    sent
}

#[test]
fn an_app_asks_its_host() {
    let Some(assets) = assets() else { return };
    let mut guest = Guest::boot(assets, 96);
    let mut asking = config("sleep 100000");
    asking.main.user = "app".into();
    asking.hosts = format!("{API_ADDRESS} _api.internal\n");
    let opened = |tcp: bool| {
        move |m: &ToHost| match m {
            ToHost::ApiOpen(id, over_tcp) => {
                assert_eq!(*over_tcp, tcp);
                Some(*id)
            }
            _ => None,
        }
    };
    let ended = |id| move |m: &ToHost| (*m == ToHost::ApiEnd(id)).then_some(());
    let exec = |line: &str| Exec {
        argv: argv(&["sh", "-c", line]),
        user: Some("app".into()),
        ..Exec::default()
    };
    let output = |guest: &mut Guest, id: ExecId| {
        let mut out = Vec::new();
        guest.until(|m| match m {
            ToHost::ExecOutput(of, _, bytes) if *of == id => {
                out.extend_from_slice(bytes);
                None
            }
            ToHost::ExecExited(of, _) => (*of == id).then_some(()),
            _ => None,
        });
        String::from_utf8(out).unwrap()
    };
    guest.run(asking);
    // A request, its answer, and the end by the host.
    guest.send(&ToGuest::Exec(1, exec("echo what | client /.fly/api")));
    let id = guest.until(opened(false));
    assert_eq!(client_sends(&mut guest, id), b"what\n");
    guest.send(&ToGuest::ApiData(id, b"that\n".to_vec()));
    guest.send(&ToGuest::ApiData(99, b"no such connection".to_vec()));
    guest.send(&ToGuest::ApiEnd(id));
    assert_eq!(output(&mut guest, 1), "that\n", "though the client had sent all its input");
    // The same over TCP, to another end of init.
    guest.send(&ToGuest::Exec(6, exec("wget -qO- http://_api.internal:4280/v1/x")));
    let id = guest.until(opened(true));
    let mut asked = Vec::new();
    guest.until(|m| match m {
        ToHost::ApiData(of, bytes) if *of == id => {
            asked.extend_from_slice(bytes);
            asked.ends_with(b"\r\n\r\n").then_some(())
        }
        _ => None,
    });
    let asked = String::from_utf8(asked).unwrap();
    assert!(asked.starts_with("GET /v1/x HTTP/1.1\r\nHost: _api.internal:4280\r\n"), "{asked}");
    let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nover\n".to_vec();
    guest.send(&ToGuest::ApiData(id, answer));
    assert_eq!(output(&mut guest, 6), "over\n");
    // Where nothing outside of the guest could connect, and not a listener of the app.
    let sockets = "netstat -ltn | awk '/:4280 / {print $4}'; ip -6 addr show lo | grep -c 4280/128";
    guest.send(&ToGuest::Exec(7, exec(sockets)));
    assert_eq!(output(&mut guest, 7), "fdaa::4280:4280\n1\n");
    // One that goes away by itself.
    guest.send(&ToGuest::Exec(5, exec("client /.fly/api & sleep 0.5; kill $!")));
    let id = guest.until(opened(false));
    guest.until(ended(id));
    // One over TCP that goes away, which a closed direction alone shows.
    guest
        .send(&ToGuest::Exec(8, exec("wget -qO- http://_api.internal:4280/ & sleep 0.5; kill $!")));
    let id = guest.until(opened(true));
    guest.until(ended(id));
    // Another begins, and its session ends.
    guest.send(&ToGuest::Exec(2, exec("client /.fly/api; echo over > /tmp/over")));
    let second = guest.until(opened(false));
    assert_ne!(second, id);
    guest.reconnect();
    guest.send(&ToGuest::ApiData(second, b"late".to_vec()));
    // One that sends too much, and one that does not read.
    guest.send(&ToGuest::Exec(3, exec("client /.fly/api < /dev/zero; echo shut")));
    let id = guest.until(opened(false));
    assert!(client_sends(&mut guest, id).len() <= API_WINDOW);
    guest.send(&ToGuest::Exec(
        4,
        exec("mkfifo /tmp/f; client /.fly/api < /tmp/f | sleep 1000 & exec 3>/tmp/f; sleep 1000"),
    ));
    let id = guest.until(opened(false));
    for _ in 0..40 {
        guest.send(&ToGuest::ApiData(id, vec![b'x'; MAX_CHUNK]));
    }
    guest.until(ended(id));
    guest.power_off();
}

#[test]
fn a_token_is_in_its_file_before_the_app_runs_and_renewed_after_a_resume() {
    let Some(assets) = assets() else { return };
    let mut guest = Guest::boot(assets, 96);
    let line = "cat /.fly/oidc_token; echo; sleep 100000";
    let mut wanted = config(line);
    wanted.main.user = "app".into();
    wanted.oidc_audience = Some("sts.amazonaws.com".into());
    guest.send(&ToGuest::Configure(Box::new(wanted)));
    let answer = |guest: &mut Guest, answer: &str| {
        let opened = |m: &ToHost| if let ToHost::ApiOpen(id, _) = m { Some(*id) } else { None };
        let id = guest.until(opened);
        let mut asked = Vec::new();
        guest.until(|m| match m {
            ToHost::ApiData(of, bytes) if *of == id => {
                asked.extend_from_slice(bytes);
                asked.ends_with(b"}").then_some(())
            }
            _ => None,
        });
        let asked = String::from_utf8(asked).unwrap();
        assert!(asked.starts_with("POST /v1/tokens/oidc HTTP/1.1\r\n"), "{asked}");
        assert!(asked.ends_with("{\"aud\":\"sts.amazonaws.com\"}"), "{asked}");
        guest.send(&ToGuest::ApiData(id, answer.as_bytes().to_vec()));
        guest.send(&ToGuest::ApiEnd(id));
    };
    answer(&mut guest, "HTTP/1.1 200 OK\r\n\r\none.two.three");
    guest.until(|m| matches!(m, ToHost::Running { .. }).then_some(()));
    guest.until_log("one.two.three\n");
    let resume = Resume { now: 1_900_000_000_000_000_000, entropy: vec![7; 64], hook: vec![] };
    guest.send(&ToGuest::Resumed(resume));
    answer(&mut guest, "HTTP/1.1 500 Oh\r\n\r\nno");
    guest.until_log("the Machines API gives no token: HTTP/1.1 500 Oh no\n");
    // The former one stays, and another is asked for.
    answer(&mut guest, "HTTP/1.1 200 OK\r\n\r\nfour.five.six");
    guest.until_log("/.fly/oidc_token is renewed again\n");
    let read = guest.shell(1, "cat /.fly/oidc_token; stat -c ' %a' /.fly/oidc_token; ls /.fly");
    assert_eq!(read, (0, "four.five.six 644\napi\noidc_token\n".into()));
    guest.power_off();
}

#[test]
fn an_app_runs_without_a_token_if_there_is_none() {
    let Some(assets) = assets() else { return };
    let mut guest = Guest::boot(assets, 96);
    let mut wanted = config("echo up; sleep 100000");
    wanted.oidc_audience = Some("sts.amazonaws.com".into());
    guest.send(&ToGuest::Configure(Box::new(wanted)));
    let id = guest.until(|m| if let ToHost::ApiOpen(id, _) = m { Some(*id) } else { None });
    guest.send(&ToGuest::ApiEnd(id));
    guest.until(|m| matches!(m, ToHost::Running { .. }).then_some(()));
    guest.until_log("up\n");
    // Cut off while init sends its request, or after that.
    let reasons =
        ["the Machines API gives no token: ", "cannot ask the Machines API for a token: "];
    assert!(reasons.iter().any(|reason| guest.log.contains(reason)), "{}", guest.log);
    guest.power_off();
}
