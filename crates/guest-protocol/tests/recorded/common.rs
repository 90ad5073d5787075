//! The recorded messages that have the same fields in every version.

/// Defines `common_to_guest` and `common_to_host` with the message types that are in
/// scope where it is expanded: each version has types of its own with these names.
macro_rules! common_messages {
    () => {
        /// Messages of a host, by name.
        // A later version has fields that an earlier one lacks.
        #[allow(clippy::needless_update)]
        fn common_to_guest() -> Vec<(&'static str, ToGuest)> {
            let config = GuestConfig {
                hostname: "3d8d413b29d089".into(),
                machine_id: "0123456789abcdef0123456789abcdef".into(),
                now: 1_764_367_200_123_456_789,
                entropy: (0..64).collect(),
                root: Device { path: "/dev/vda".into(), fstype: "squashfs".into() },
                scratch: Device { path: "/dev/vdb".into(), fstype: "ext4".into() },
                net: Some(Net {
                    mac: [2, 0, 0, 0, 0, 1],
                    ipv4: [172, 30, 0, 2].into(),
                    ipv4_prefix: 30,
                    ipv4_gateway: [172, 30, 0, 1].into(),
                    ipv6: [0xfdaa, 0, 1, 0, 0, 0, 1, 2].into(),
                    ipv6_prefix: 112,
                    ipv6_gateway: [0xfdaa, 0, 1, 0, 0, 0, 1, 1].into(),
                    mtu: 1420,
                }),
                resolv_conf: "nameserver 192.0.2.53\n".into(),
                hosts: "127.0.0.1 localhost\n".into(),
                files: vec![GuestFile {
                    path: "/etc/app.conf".into(),
                    mode: 0o640,
                    content: vec![0, 255],
                }],
                main: Main {
                    argv: vec!["/bin/server".into(), "--port=80".into()],
                    env: vec![("A".into(), "b".into())],
                    user: "web:www".into(),
                    workdir: "/srv".into(),
                    tty: true,
                },
                swap_mib: 512,
                log_buffer: 1 << 20,
                ..GuestConfig::default()
            };
            let exec = Exec {
                argv: vec!["sh".into(), "-c".into(), "id".into()],
                env: vec![("C".into(), "d".into())],
                user: Some("web".into()),
                workdir: Some("/tmp".into()),
                tty: Some(TermSize { rows: 24, cols: 80 }),
                timeout_ms: Some(5000),
                ..Exec::default()
            };
            let resume = Resume { now: -1, entropy: vec![7; 64], hook: vec!["hook".into()] };
            vec![
                ("quiesce", ToGuest::QuiesceForTemplate),
                ("configure", ToGuest::Configure(Box::new(config))),
                ("configure_empty", ToGuest::Configure(Box::default())),
                ("resumed", ToGuest::Resumed(resume)),
                ("signal", ToGuest::Signal(15)),
                ("stop", ToGuest::Stop { signal: 2, timeout_ms: 300_000 }),
                ("power_off", ToGuest::PowerOff),
                ("exec", ToGuest::Exec(1, exec)),
                ("exec_empty", ToGuest::Exec(2, Exec::default())),
                ("exec_input", ToGuest::ExecInput(1, vec![0, 1, 0, 255])),
                ("exec_input_end", ToGuest::ExecInput(1, Vec::new())),
                ("exec_credit", ToGuest::ExecCredit(1, 65_536)),
                ("exec_resize", ToGuest::ExecResize(1, TermSize { rows: 50, cols: 132 })),
                ("exec_signal", ToGuest::ExecSignal(1, 9)),
                ("list_processes", ToGuest::ListProcesses(3)),
                ("awake", ToGuest::Awake(1_764_367_200_000_000_000)),
                ("api_data", ToGuest::ApiData(4, b"HTTP/1.1 200 OK\r\n".to_vec())),
                ("api_end", ToGuest::ApiEnd(4)),
            ]
        }

        /// Messages of an init, by name.
        fn common_to_host(version: u16) -> Vec<(&'static str, ToHost)> {
            let listening = vec![
                Listener { port: 80, reachable: true },
                Listener { port: 65535, reachable: false },
            ];
            let welcome = |phase, listening| ToHost::Welcome {
                version,
                session: 0x0123_4567_89ab_cdef,
                phase,
                listening,
            };
            let exit = Exit { code: 137, signal: 9, oom: true };
            let process = Process {
                pid: 42,
                stime: 1,
                rtime: 300,
                command: "server --port=80".into(),
                directory: "/srv".into(),
                cpu: 7,
                rss: 1 << 30,
                listen_sockets: vec![ListenSocket {
                    proto: "tcp".into(),
                    address: "0.0.0.0:80".into(),
                }],
            };
            vec![
                ("welcome_awaits", welcome(Phase::AwaitingConfig, vec![])),
                ("welcome_preparing", welcome(Phase::Preparing, vec![])),
                ("welcome_failed", welcome(Phase::Failed("no disk".into()), vec![])),
                ("welcome_running", welcome(Phase::Running(42), listening)),
                ("welcome_exited", welcome(Phase::Exited(exit), vec![])),
                ("quiesced", ToHost::Quiesced),
                ("config_failed", ToHost::ConfigFailed("entrypoint `x` not found in PATH".into())),
                (
                    "running",
                    ToHost::Running {
                        pid: 42,
                        stages_ms: vec![("root".into(), 1.5), ("exec".into(), 20.25)],
                    },
                ),
                ("exited", ToHost::Exited(exit)),
                ("listening", ToHost::Listening(Listener { port: 8080, reachable: true }, true)),
                (
                    "not_listening",
                    ToHost::Listening(Listener { port: 8080, reachable: false }, false),
                ),
                ("log_dropped", ToHost::LogDropped(1 << 40)),
                ("exec_output", ToHost::ExecOutput(1, Output::Stdout, b"out".to_vec())),
                ("exec_error", ToHost::ExecOutput(1, Output::Stderr, b"err".to_vec())),
                ("exec_credit", ToHost::ExecCredit(1, 262_144)),
                ("exec_exited", ToHost::ExecExited(1, Exit { code: 3, signal: 0, oom: false })),
                ("processes", ToHost::Processes(3, vec![process])),
                ("api_data", ToHost::ApiData(4, b"GET / HTTP/1.1\r\n".to_vec())),
                ("api_end", ToHost::ApiEnd(4)),
            ]
        }
    };
}
