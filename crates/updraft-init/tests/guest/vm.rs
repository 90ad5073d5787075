//! A guest under QEMU, and the host's side of the agent port.

use crate::assets::Assets;
use crate::monitor::Monitor;
use guest_protocol::codec::{Decoder, encode};
use guest_protocol::*;
use std::collections::VecDeque;
use std::fs::{self, File};
use std::io::{Read, Write};
use std::net::Shutdown;
use std::os::fd::OwnedFd;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// How long anything may take under emulation on a busy machine.
const PATIENCE: Duration = Duration::from_secs(40);
/// The difference between a template's devices and a machine's.
pub(crate) struct Hardware<'a> {
    /// Image of the first disk.
    pub(crate) root: &'a Path,
    /// Size of the second.
    pub(crate) scratch_mib: u64,
    /// Of the device, as its maker set it.
    pub(crate) mac: &'a str,
}

impl<'a> Hardware<'a> {
    /// The devices of a machine.
    pub(crate) fn real(assets: &'a Assets) -> Self {
        Self { root: &assets.root, scratch_mib: 256, mac: "52:54:00:12:34:56" }
    }
}

/// Another for each guest, as the host's are.
fn first_session() -> u64 {
    use std::sync::atomic::{AtomicU64, Ordering};
    static LAST: AtomicU64 = AtomicU64::new(0);
    LAST.fetch_add(1 << 32, Ordering::Relaxed)
}

/// A running guest, connected.
pub(crate) struct Guest {
    qemu: Child,
    socket: PathBuf,
    stream: UnixStream,
    decoder: Decoder,
    inbox: VecDeque<ToHost>,
    /// Pushed while something else was awaited.
    aside: VecDeque<ToHost>,
    session: u64,
    /// Log so far.
    pub(crate) log: String,
    /// Whether log data is acknowledged.
    pub(crate) acknowledge: bool,
    /// Log bytes that init reported as dropped.
    pub(crate) dropped: u64,
    dir: tempfile::TempDir,
}

impl Guest {
    /// Boots one, and opens a session; it waits for its configuration.
    pub(crate) fn boot(assets: &Assets, memory_mib: u32) -> Self {
        let args = ["-m".to_owned(), memory_mib.to_string()];
        let mut guest = Self::start(assets, &Hardware::real(assets), &args);
        assert_eq!(guest.greet(), (Phase::AwaitingConfig, vec![]));
        guest
    }

    /// Starts QEMU, with `args` beside those that all guests share.
    pub(crate) fn start(assets: &Assets, hardware: &Hardware<'_>, args: &[String]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let scratch = dir.path().join("scratch");
        File::create(&scratch).unwrap().set_len(hardware.scratch_mib << 20).unwrap();
        let made = Command::new("mkfs.ext4").args(["-q", "-F"]).arg(&scratch).status().unwrap();
        assert!(made.success());
        Self::start_in(dir, assets, hardware, args)
    }

    /// Starts another QEMU with the scratch disk of a guest, in its place.
    pub(crate) fn replace(
        mut self,
        assets: &Assets,
        hardware: &Hardware<'_>,
        args: &[String],
    ) -> Self {
        self.qemu.kill().unwrap();
        self.qemu.wait().unwrap();
        let dir = std::mem::replace(&mut self.dir, tempfile::tempdir().unwrap());
        for socket in ["agent", "qmp"] {
            fs::remove_file(dir.path().join(socket)).unwrap();
        }
        Self::start_in(dir, assets, hardware, args)
    }

    fn start_in(
        dir: tempfile::TempDir,
        assets: &Assets,
        hardware: &Hardware<'_>,
        args: &[String],
    ) -> Self {
        let scratch = dir.path().join("scratch");
        let socket = dir.path().join("agent");
        // QEMU gets the listening socket as its standard input, so that there
        // is something to connect to before it runs.
        let listener = UnixListener::bind(&socket).unwrap();
        let drive = |id: &str, path: &Path, more: &str| {
            format!("id={id},file={},format=raw,if=none{more}", path.display())
        };
        let mut machine = "microvm,acpi=on,rtc=on".to_owned();
        if args.iter().any(|arg| arg.contains("id=ram")) {
            machine += ",memory-backend=ram";
        }
        // `tsc=reliable`: else the kernel finds the emulated TSC wanting, and the
        // clock of every machine ticks every 4 ms only.
        let qemu = Command::new("qemu-system-x86_64")
            .args(["-M", &machine, "-accel", "tcg,thread=multi,tb-size=64", "-smp", "1"])
            .args(["-cpu", "qemu64,+ssse3,+sse4.1,+sse4.2,+popcnt"])
            .args(["-nodefaults", "-no-user-config"])
            .args(["-display", "none", "-no-reboot", "-kernel"])
            .arg(&assets.kernel)
            .arg("-initrd")
            .arg(&assets.initramfs)
            .args([
                "-append",
                &format!("console=ttyS0 quiet panic=-1 tsc=reliable tsc_early_khz={}", khz()),
            ])
            .args(["-serial", &format!("file:{}", dir.path().join("console").display())])
            .args(["-device", "virtio-serial-device"])
            .args(["-chardev", "socket,id=agent,fd=0,server=on,wait=off"])
            .args(["-device", "virtserialport,chardev=agent,name=updraft.agent"])
            .args(["-drive", &drive("root", hardware.root, ",readonly=on")])
            .args(["-device", "virtio-blk-device,drive=root"])
            .args(["-drive", &drive("scratch", &scratch, "")])
            .args(["-device", "virtio-blk-device,drive=scratch"])
            .args(["-netdev", "user,id=net,restrict=on"])
            .args(["-device", &format!("virtio-net-device,netdev=net,mac={}", hardware.mac)])
            .args(["-device", "virtio-rng-device"])
            .args([
                "-qmp",
                &format!("unix:{},server=on,wait=off", dir.path().join("qmp").display()),
            ])
            .args(args)
            .stdin(Stdio::from(OwnedFd::from(listener)))
            .spawn()
            .unwrap();
        let stream = UnixStream::connect(&socket).unwrap();
        Self {
            qemu,
            socket,
            stream,
            decoder: Decoder::default(),
            inbox: VecDeque::new(),
            aside: VecDeque::new(),
            session: first_session(),
            log: String::new(),
            acknowledge: true,
            dropped: 0,
            dir,
        }
    }

    /// Milliseconds of CPU time that its QEMU has used.
    pub(crate) fn cpu_ms(&self) -> u64 {
        let tasks = fs::read_dir(format!("/proc/{}/task", self.qemu.id())).unwrap();
        let nanos = tasks.flatten().filter_map(|task| {
            let text = fs::read_to_string(task.path().join("schedstat")).ok()?;
            text.split(' ').next()?.parse::<u64>().ok()
        });
        nanos.sum::<u64>() / 1_000_000
    }

    /// A monitor of its QEMU.
    pub(crate) fn monitor(&self) -> Monitor {
        Monitor::connect(&self.dir.path().join("qmp"))
    }

    /// Cuts the connection and makes a new one; the new session's welcome.
    pub(crate) fn reconnect(&mut self) -> (Phase, Vec<Listener>) {
        self.disconnect();
        self.connect()
    }

    /// Goes away as a killed daemon does.
    pub(crate) fn disconnect(&mut self) {
        self.stream.shutdown(Shutdown::Both).unwrap();
    }

    /// Connects again and opens a new session.
    pub(crate) fn connect(&mut self) -> (Phase, Vec<Listener>) {
        self.dial();
        self.greet()
    }

    /// Connects without a hello.
    pub(crate) fn dial(&mut self) {
        self.stream = UnixStream::connect(&self.socket).unwrap();
        self.decoder = Decoder::default();
        self.inbox.clear();
        self.aside.clear();
    }

    /// Sends half of a frame.
    pub(crate) fn part_of_a_frame(&mut self) {
        let frame = encode(&ToGuest::Awake(1));
        self.stream.write_all(&frame[..frame.len() / 2]).unwrap();
    }

    /// Opens a session; returns the content of the welcome.
    pub(crate) fn greet(&mut self) -> (Phase, Vec<Listener>) {
        self.stream.set_read_timeout(Some(PATIENCE)).unwrap();
        self.session += 1;
        let want = self.session;
        self.send(&ToGuest::Hello { version: HIGHEST, session: want, lowest: LOWEST });
        loop {
            // Messages before the welcome belong to no session.
            if let ToHost::Welcome { version, session, phase, listening } = self.next_raw()
                && session == want
            {
                assert_eq!(version, HIGHEST);
                return (phase, listening);
            }
        }
    }

    /// Sends a message.
    pub(crate) fn send(&mut self, message: &ToGuest) {
        self.stream.write_all(&encode(message)).unwrap();
    }

    fn next_raw(&mut self) -> ToHost {
        let began = Instant::now();
        loop {
            if let Some(message) = self.inbox.pop_front() {
                return message;
            }
            let mut bytes = [0; 65536];
            let got = self.stream.read(&mut bytes);
            let Ok(n @ 1..) = got else { self.give_up(&format!("reading gave {got:?}")) };
            let (decoder, inbox) = (&mut self.decoder, &mut self.inbox);
            decoder.feed(&bytes[..n], |message| inbox.push_back(message));
            if began.elapsed() > PATIENCE {
                self.give_up("no message");
            }
        }
    }

    fn give_up(&self, why: &str) -> ! {
        let console = fs::read_to_string(self.dir.path().join("console")).unwrap_or_default();
        panic!("{why}\nlog:\n{}\nconsole:\n{console}", self.log);
    }

    /// The next message that is not about the log.
    pub(crate) fn next(&mut self) -> ToHost {
        loop {
            let message = self.next_raw();
            if let Some(other) = self.add_to_log(message) {
                return other;
            }
        }
    }

    /// Reads on until the log has this text; other messages are kept for later.
    pub(crate) fn until_log(&mut self, text: &str) {
        while !self.log.contains(text) {
            let message = self.next_raw();
            if let Some(other) = self.add_to_log(message) {
                self.aside.push_back(other);
            }
        }
    }

    /// Returns a message that is not about the log.
    fn add_to_log(&mut self, message: ToHost) -> Option<ToHost> {
        match message {
            ToHost::Log { source, offset, data, unit } => {
                let end = offset.expect("version 3 numbers its bytes") + data.len() as u64;
                if self.acknowledge {
                    self.send(&ToGuest::LogReceived(source, end, unit));
                }
                let text = String::from_utf8_lossy(&data);
                if let Some(unit) = unit {
                    self.log.push_str(&format!("{unit}:"));
                }
                self.log.push_str(if source == LogSource::Stderr { "!" } else { "" });
                self.log.push_str(&text);
            }
            ToHost::LogDropped(bytes) => self.dropped += bytes,
            other => return Some(other),
        }
        None
    }

    /// Reads on until `want` finds what it looks for.
    pub(crate) fn until<T>(&mut self, mut want: impl FnMut(&ToHost) -> Option<T>) -> T {
        let began = Instant::now();
        loop {
            let message = self.aside.pop_front().unwrap_or_else(|| self.next());
            if let Some(found) = want(&message) {
                return found;
            }
            if began.elapsed() > PATIENCE {
                self.give_up("it never came");
            }
        }
    }

    /// Gives config and waits for the main process to run.
    pub(crate) fn run(&mut self, config: GuestConfig) -> Vec<(String, f64)> {
        self.send(&ToGuest::Configure(Box::new(config)));
        self.until(|m| match m {
            ToHost::Running { stages_ms, .. } => Some(Ok(stages_ms.clone())),
            ToHost::ConfigFailed(error) => Some(Err(error.clone())),
            _ => None,
        })
        .unwrap_or_else(|error| self.give_up(&error))
    }

    /// Runs a command to its end: exit, output, standard error.
    pub(crate) fn exec(&mut self, id: ExecId, exec: Exec, input: &[u8]) -> (Exit, Vec<u8>, String) {
        self.send(&ToGuest::Exec(id, exec));
        let (mut out, mut err) = (Vec::new(), Vec::new());
        let mut left = input;
        let mut credit = WINDOW as usize;
        let mut ended = false;
        loop {
            while credit > 0 && !left.is_empty() {
                let n = left.len().min(credit).min(MAX_CHUNK);
                self.send(&ToGuest::ExecInput(id, left[..n].to_vec()));
                left = &left[n..];
                credit -= n;
            }
            if left.is_empty() && !std::mem::replace(&mut ended, true) {
                self.send(&ToGuest::ExecInput(id, Vec::new()));
            }
            match self.next() {
                ToHost::ExecOutput(of, stream, bytes) if of == id => {
                    let to = if stream == Output::Stderr { &mut err } else { &mut out };
                    to.extend_from_slice(&bytes);
                    let taken = u32::try_from(bytes.len()).unwrap();
                    self.send(&ToGuest::ExecCredit(id, taken));
                }
                ToHost::ExecCredit(of, more) if of == id => credit += more as usize,
                ToHost::ExecExited(of, exit) if of == id => {
                    return (exit, out, String::from_utf8(err).unwrap());
                }
                ToHost::ExecFailed(of, error, _) if of == id => {
                    return (Exit { code: -1, ..Exit::default() }, vec![], error);
                }
                other => self.aside.push_back(other),
            }
        }
    }

    /// Runs a shell line as root.
    pub(crate) fn shell(&mut self, id: ExecId, line: &str) -> (i32, String) {
        println!("exec {id}: {line}");
        self.output(id, Exec { argv: argv(&["sh", "-c", line]), ..Exec::default() })
    }

    /// Runs a command without input: exit code, output of both streams.
    pub(crate) fn output(&mut self, id: ExecId, exec: Exec) -> (i32, String) {
        let (exit, out, err) = self.exec(id, exec, b"");
        (exit.code, String::from_utf8(out).unwrap() + &err)
    }

    /// Why a command cannot be started.
    pub(crate) fn exec_error(&mut self, id: ExecId, exec: Exec) -> Option<ExecErrorKind> {
        self.send(&ToGuest::Exec(id, exec));
        self.until(|m| match m {
            ToHost::ExecFailed(of, _, kind) if *of == id => Some(*kind),
            ToHost::ExecExited(of, _) if *of == id => panic!("the command was run"),
            _ => None,
        })
    }

    /// Waits for the end of the main process.
    pub(crate) fn exited(&mut self) -> Exit {
        self.until(|m| if let ToHost::Exited(exit) = m { Some(*exit) } else { None })
    }

    /// Requests power off and waits for QEMU to end by itself.
    pub(crate) fn power_off(mut self) {
        self.send(&ToGuest::PowerOff);
        // The port closes when QEMU does.
        let mut rest = Vec::new();
        let _ = self.stream.read_to_end(&mut rest);
        assert_eq!(self.qemu.wait().unwrap().code(), Some(0));
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        let _ = self.qemu.kill();
        let _ = self.qemu.wait();
    }
}

/// The host's TSC frequency, which spares the guest a calibration that can hang.
fn khz() -> u64 {
    let info = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let mhz = info.lines().find(|l| l.starts_with("cpu MHz")).and_then(|l| l.split(": ").nth(1));
    mhz.and_then(|m| m.parse::<f64>().ok()).map_or(2_000_000, |m| (m * 1000.0) as u64)
}

/// Owned words.
pub(crate) fn argv(words: &[&str]) -> Vec<String> {
    words.iter().map(|&word| word.to_owned()).collect()
}

/// A configuration that runs a shell line.
pub(crate) fn config(line: &str) -> GuestConfig {
    GuestConfig {
        machine_id: "0123456789abcdef0123456789abcdef".into(),
        hostname: "3d8d413b29d089".into(),
        now: 1_800_000_000_000_000_000,
        entropy: (0..64).collect(),
        root: Device { path: "/dev/vda".into(), fstype: "squashfs".into() },
        scratch: Device { path: "/dev/vdb".into(), fstype: "ext4".into() },
        net: Some(Net {
            mac: [2, 0, 0, 0, 0, 1],
            ipv4: [172, 19, 0, 2].into(),
            ipv4_prefix: 30,
            ipv4_gateway: [172, 19, 0, 1].into(),
            ipv6: "fdaa:0:1:a7b:1::2".parse().unwrap(),
            ipv6_prefix: 112,
            ipv6_gateway: "fdaa:0:1:a7b:1::1".parse().unwrap(),
            mtu: 1420,
        }),
        resolv_conf: "nameserver fdaa::3\n".into(),
        hosts: "127.0.0.1 localhost\n".into(),
        files: vec![GuestFile {
            path: "/srv/deep/secret".into(),
            mode: 0o640,
            content: b"content\n".to_vec(),
        }],
        main: Main { argv: argv(&["sh", "-c", line]), ..Main::default() },
        log_buffer: 256 * 1024,
        ..GuestConfig::default()
    }
}
