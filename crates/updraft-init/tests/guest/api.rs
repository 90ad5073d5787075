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
    guest.run(asking);
    let opened = |m: &ToHost| if let ToHost::ApiOpen(id) = m { Some(*id) } else { None };
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
    // A request, its answer, and the end by the host.
    guest.send(&ToGuest::Exec(1, exec("echo what | client /.fly/api")));
    let id = guest.until(opened);
    assert_eq!(client_sends(&mut guest, id), b"what\n");
    guest.send(&ToGuest::ApiData(id, b"that\n".to_vec()));
    guest.send(&ToGuest::ApiData(99, b"no such connection".to_vec()));
    guest.send(&ToGuest::ApiEnd(id));
    assert_eq!(output(&mut guest, 1), "that\n", "though the client had sent all its input");
    // One that goes away by itself.
    guest.send(&ToGuest::Exec(5, exec("client /.fly/api & sleep 0.5; kill $!")));
    let id = guest.until(opened);
    guest.until(ended(id));
    // Another begins, and its session ends.
    guest.send(&ToGuest::Exec(2, exec("client /.fly/api; echo over > /tmp/over")));
    let second = guest.until(opened);
    assert_ne!(second, id);
    guest.reconnect();
    guest.send(&ToGuest::ApiData(second, b"late".to_vec()));
    // One that sends too much, and one that does not read.
    guest.send(&ToGuest::Exec(3, exec("client /.fly/api < /dev/zero; echo shut")));
    let id = guest.until(opened);
    assert!(client_sends(&mut guest, id).len() <= API_WINDOW);
    guest.send(&ToGuest::Exec(
        4,
        exec("mkfifo /tmp/f; client /.fly/api < /tmp/f | sleep 1000 & exec 3>/tmp/f; sleep 1000"),
    ));
    let id = guest.until(opened);
    for _ in 0..40 {
        guest.send(&ToGuest::ApiData(id, vec![b'x'; MAX_CHUNK]));
    }
    guest.until(ended(id));
    guest.power_off();
}
