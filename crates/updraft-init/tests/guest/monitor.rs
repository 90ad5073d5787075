//! QEMU's monitor, as far as freezing and restoring a guest needs it.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

pub(crate) struct Monitor(BufReader<UnixStream>);

impl Monitor {
    /// Connects, once QEMU listens.
    pub(crate) fn connect(path: &Path) -> Self {
        let began = Instant::now();
        let stream = loop {
            match UnixStream::connect(path) {
                Ok(stream) => break stream,
                Err(err) => assert!(began.elapsed() < Duration::from_secs(20), "{err}"),
            }
            // Polled: QEMU does not announce that it listens.
            std::thread::sleep(Duration::from_millis(5));
        };
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        let mut monitor = Self(BufReader::new(stream));
        monitor.line();
        monitor.run("qmp_capabilities", "{}");
        let both = r#"{"capabilities":[{"capability":"x-ignore-shared","state":true},{"capability":"events","state":true}]}"#;
        monitor.run("migrate-set-capabilities", both);
        monitor
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        self.0.read_line(&mut line).unwrap();
        assert!(!line.is_empty(), "QEMU has gone");
        line
    }

    /// Runs a command that succeeds.
    pub(crate) fn run(&mut self, command: &str, arguments: &str) {
        let line = format!("{{\"execute\":\"{command}\",\"arguments\":{arguments}}}\n");
        self.0.get_mut().write_all(line.as_bytes()).unwrap();
        loop {
            let line = self.line();
            assert!(!line.contains("\"error\""), "{command}: {line}");
            if line.contains("\"return\"") {
                return;
            }
        }
    }

    fn migrated(&mut self) {
        loop {
            let line = self.line();
            assert!(!line.contains("\"failed\""), "{line}");
            if line.contains("MIGRATION") && line.contains("\"completed\"") {
                return;
            }
        }
    }

    /// Stops the guest and saves what is not its memory.
    pub(crate) fn save(&mut self, state: &Path) {
        self.run("stop", "{}");
        self.run("migrate", &format!("{{\"uri\":\"exec:cat > {}\"}}", state.display()));
        self.migrated();
    }

    /// Loads what was saved; the guest stays stopped.
    pub(crate) fn load(&mut self, state: &Path) {
        self.run("migrate-incoming", &format!("{{\"uri\":\"exec:cat {}\"}}", state.display()));
        self.migrated();
    }
}
