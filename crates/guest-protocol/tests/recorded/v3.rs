//! The messages of version 3, as its hosts and inits write them.

use guest_protocol::*;

common_messages!();

/// Every message that a version 3 host sends, by name.
pub(crate) fn to_guest() -> Vec<(&'static str, ToGuest)> {
    let mut messages = common_to_guest();
    messages.extend([
        ("hello", ToGuest::Hello { version: 3, session: 0x0123_4567_89ab_cdef, lowest: 2 }),
        ("log_received", ToGuest::LogReceived(LogSource::Stderr, 1 << 33)),
        ("read_stats", ToGuest::ReadStats(3)),
    ]);
    messages
}

fn stats() -> GuestStats {
    let root = FileSystem {
        mount: "/".into(),
        block_size: 4096,
        blocks: 9,
        blocks_free: 8,
        blocks_avail: 7,
    };
    GuestStats {
        loadavg: "0.1 0.2 0.3".into(),
        stat: "cpu0 1".into(),
        meminfo: "MemTotal: 1 kB".into(),
        diskstats: "254 0 vda 1".into(),
        net_dev: "eth0: 1".into(),
        file_nr: "1 0 9".into(),
        filesystems: vec![root],
    }
}

/// Every message that a version 3 init sends, by name.
pub(crate) fn to_host() -> Vec<(&'static str, ToHost)> {
    let log = |source, data: &[u8]| {
        let (offset, data) = (Some(4096), data.to_vec());
        ToHost::Log { source, offset, data }
    };
    let failed = "command `x` not found in PATH".into();
    let mut messages = common_to_host(3);
    messages.extend([
        ("log_stdout", log(LogSource::Stdout, b"one\ntwo\n\0")),
        ("log_stderr", log(LogSource::Stderr, b"error\n")),
        ("log_init", log(LogSource::Init, b"Starting init\n")),
        ("exec_failed", ToHost::ExecFailed(1, failed, Some(ExecErrorKind::NotFound))),
        ("stats", ToHost::Stats(3, Box::new(stats()))),
    ]);
    messages
}
