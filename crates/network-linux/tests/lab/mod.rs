//! Network namespaces for a host, its guests and the internet, and threads that
//! act as VMs: they carry frames between a tap and a guest's interface.

// Test code, which clippy does not recognise outside of `#[test]` functions.
#![allow(clippy::unwrap_used)]
// Each test program uses its part.
#![allow(dead_code)]

use camino::Utf8Path;
use model::address::{Addresses, Ipv4Pool, MachineNumber, Slot, of_machine};
use model::id::{HostId, NetworkId};
use network_linux::{LinuxNetwork, NetworkConfig, Tag};
use rustix::event::{EventfdFlags, PollFd, PollFlags, eventfd, poll};
use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};
use rustix::thread::{LinkNameSpaceType, UnshareFlags, move_into_link_name_space, unshare_unsafe};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;
use testkit::skip::{Lacks, skip};
use worker::ports::{Link, Network, Nic};

/// Whether the test can make network namespaces. Without root it is skipped; in CI it
/// fails.
pub(crate) fn can_run() -> bool {
    let root = rustix::process::geteuid().is_root();
    if !root {
        skip("network namespaces need root", Lacks::Required);
    }
    root
}

/// A network namespace; it ends with the last handle.
#[derive(Clone)]
pub(crate) struct NetNs(Arc<OwnedFd>);

impl NetNs {
    /// With `lo` up and nothing else.
    pub(crate) fn new() -> Self {
        let opened = std::thread::spawn(|| {
            // SAFETY: only this thread moves, and it shares no borrowed state.
            unsafe { unshare_unsafe(UnshareFlags::NEWNET) }.expect("unshare(CLONE_NEWNET)");
            std::fs::File::open("/proc/thread-self/ns/net").expect("open the new namespace")
        });
        let ns = Self(Arc::new(opened.join().unwrap().into()));
        ns.sh("ip link set lo up");
        ns
    }

    /// The namespace that is mounted at `path`.
    pub(crate) fn open(path: &Utf8Path) -> Self {
        Self(Arc::new(std::fs::File::open(path).expect("open a namespace").into()))
    }

    /// Runs `work` on a thread inside. Threads that it starts are inside, too.
    pub(crate) fn run<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> T {
        let ns = self.0.clone();
        let thread = std::thread::spawn(move || {
            move_into_link_name_space(ns.as_fd(), Some(LinkNameSpaceType::Network)).unwrap();
            work()
        });
        match thread.join() {
            Ok(value) => value,
            Err(panic) => std::panic::resume_unwind(panic),
        }
    }

    /// Runs a shell command inside; it must succeed. Returns what it printed.
    pub(crate) fn sh(&self, command: &str) -> String {
        let line = command.to_owned();
        let output = self.run(move || Command::new("sh").args(["-ec", &line]).output().unwrap());
        let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{command}: {stderr}");
        String::from_utf8(output.stdout).unwrap()
    }

    /// A UDP socket inside.
    pub(crate) fn udp(&self, bind: &str) -> UdpSocket {
        let bind: SocketAddr = bind.parse().unwrap();
        let socket = self.run(move || UdpSocket::bind(bind)).unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        socket
    }

    /// One echo request is answered. Only used where an answer must come.
    pub(crate) fn pings(&self, to: IpAddr) {
        let tool = if to.is_ipv4() { "ping" } else { "ping6" };
        self.sh(&format!("busybox {tool} -q -c 1 -W 10 {to}"));
    }

    /// Interfaces and rules, as text to compare; without the counts of flows.
    pub(crate) fn state(&self) -> String {
        self.sh("ip -o link | cut -d' ' -f2; ip -o addr | awk '{print $2, $4}'; \
             nft -s list ruleset | sed '/set guest_flows /,/^\t}/d'")
    }
}

/// The host under test: a namespace for the daemon, and the platform's network.
pub(crate) struct Host {
    pub(crate) ns: NetNs,
    pub(crate) config: NetworkConfig,
    /// Where the platform's namespace is mounted.
    dir: tempfile::TempDir,
}

/// Ends the platform's namespace.
impl Drop for Host {
    fn drop(&mut self) {
        let path = self.dir.path().join("platform");
        let _ = rustix::mount::unmount(&path, rustix::mount::UnmountFlags::DETACH);
    }
}

impl Host {
    pub(crate) fn new() -> Self {
        Self::of("/test/data", NetNs::new())
    }

    /// A platform with this data directory on a host that exists. Guests may
    /// reach the network between host and internet, as most tests need it.
    pub(crate) fn of(data_dir: &str, ns: NetNs) -> Self {
        let pool = Ipv4Pool::new(Ipv4Addr::new(172, 30, 0, 0), 16).unwrap();
        let mut config = NetworkConfig::new(data_dir.into(), pool);
        let dir = tempfile::tempdir().unwrap();
        config.namespace = Utf8Path::from_path(dir.path()).unwrap().join("platform");
        config.owner_file = config.namespace.with_extension("data-dir");
        config.allow_egress =
            ["203.0.113.0/24", "2001:db8::/64"].map(|c| c.parse().unwrap()).into();
        Self { ns, config, dir }
    }

    /// The platform's namespace; there is one after `prepare`.
    pub(crate) fn inside(&self) -> NetNs {
        NetNs::open(&self.config.namespace)
    }

    /// Interfaces and rules on both sides, as text to compare.
    pub(crate) fn state(&self) -> String {
        format!("{}\n{}", self.ns.state(), self.inside().state())
    }

    /// Runs `work` with a network just opened, as by a new daemon.
    pub(crate) fn net<T, F>(&self, work: impl FnOnce(Arc<LinuxNetwork>) -> F + Send + 'static) -> T
    where
        F: Future<Output = T>,
        T: Send + 'static,
    {
        let config = self.config.clone();
        self.ns.run(move || {
            let runtime =
                tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                work(Arc::new(LinuxNetwork::open(config).expect("open the network"))).await
            })
        })
    }

    pub(crate) fn prepare(&self) {
        self.net(|net| async move { net.prepare().await.expect("prepare") });
    }

    pub(crate) fn link(&self, slot: u16, network: u32) -> Link {
        let (slot, network) = (Slot(slot), NetworkId(network));
        let number = MachineNumber::of_slot(HostId(1), slot);
        let addresses = of_machine(self.config.pool, slot, network, number).unwrap();
        Link { slot, network, addresses }
    }

    /// Attaches a machine and acts as its VM.
    pub(crate) fn boot(&self, slot: u16, network: u32) -> Guest {
        let link = self.link(slot, network);
        let nic = self.net(move |net| async move { net.attach(link).await.expect("attach") });
        Guest::new(nic, link.addresses)
    }

    pub(crate) fn slots(&self) -> Vec<u16> {
        self.net(|net| async move { net.list().await.expect("list") })
            .into_iter()
            .map(|slot| slot.0)
            .collect()
    }

    pub(crate) fn tag(&self) -> Tag {
        self.config.tag
    }
}

/// A VM as its network sees it: a namespace whose `eth0` is connected to the tap.
pub(crate) struct Guest {
    pub(crate) ns: NetNs,
    pub(crate) addresses: Addresses,
    stop: Arc<OwnedFd>,
    pump: Option<std::thread::JoinHandle<()>>,
}

impl Guest {
    /// Acts as the VM of a machine.
    pub(crate) fn new(nic: Nic, addresses: Addresses) -> Self {
        let (ns, card) = guest_namespace(nic.mac, &addresses);
        let stop = Arc::new(eventfd(0, EventfdFlags::CLOEXEC).unwrap());
        let stopped = stop.clone();
        let pump = std::thread::spawn(move || pump(&nic.tap, &card, &stopped));
        Self { ns, addresses, stop, pump: Some(pump) }
    }

    /// Adds an address that the guest was not given.
    pub(crate) fn add_address(&self, address: &str) {
        let nodad = if address.contains(':') { "nodad" } else { "" };
        self.ns.sh(&format!("ip addr add {address} dev eth0 {nodad}"));
    }
}

/// The VM's process ends: its descriptor is closed.
impl Drop for Guest {
    fn drop(&mut self) {
        rustix::io::write(&*self.stop, &1_u64.to_ne_bytes()).unwrap();
        self.pump.take().unwrap().join().unwrap();
    }
}

/// Carries frames both ways. Both taps carry the same virtio header, so it
/// passes unread.
fn pump(tap: &OwnedFd, card: &OwnedFd, stop: &OwnedFd) {
    let mut frame = vec![0_u8; 1 << 17];
    loop {
        let mut fds = [
            PollFd::new(tap, PollFlags::IN),
            PollFd::new(card, PollFlags::IN),
            PollFd::new(stop, PollFlags::IN),
        ];
        poll(&mut fds, None).unwrap();
        let [from_tap, from_card, stopped] = fds.map(|fd| fd.revents());
        if !stopped.is_empty() || from_tap.intersects(PollFlags::ERR | PollFlags::HUP) {
            return;
        }
        for (ready, from, to) in [(from_tap, tap, card), (from_card, card, tap)] {
            if ready.contains(PollFlags::IN) {
                let Ok(length) = rustix::io::read(from, &mut frame) else { return };
                // A tap that is down refuses frames, as a cable would lose them.
                let _ = rustix::io::write(to, &frame[..length]);
            }
        }
    }
}

/// Opens a tap of this name in the namespace of the calling thread.
pub(crate) fn open_tap(name: &str) -> OwnedFd {
    let file = std::fs::File::options().read(true).write(true).open("/dev/net/tun").unwrap();
    // SAFETY: `ifreq` is plain old data.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    for (to, from) in request.ifr_name.iter_mut().zip(name.bytes()) {
        *to = from as libc::c_char;
    }
    request.ifr_ifru.ifru_flags =
        (libc::IFF_TAP | libc::IFF_NO_PI | libc::IFF_VNET_HDR) as libc::c_short;
    // SAFETY: TUNSETIFF reads and writes one `ifreq`, which lives here.
    let answer = unsafe { libc::ioctl(file.as_raw_fd(), libc::TUNSETIFF as _, &mut request) };
    assert_eq!(answer, 0, "{}", std::io::Error::last_os_error());
    file.into()
}

/// The internet: a namespace behind the host's `uplink`.
pub(crate) fn internet(host: &Host) -> NetNs {
    let ns = NetNs::new();
    let pid_path = format!("/proc/{}/fd/{}", std::process::id(), ns.0.as_raw_fd());
    host.ns.sh(&format!(
        "ip link add uplink type veth peer name wan
         ip addr add 203.0.113.2/24 dev uplink
         ip addr add 2001:db8::2/64 dev uplink nodad
         ip link set wan netns {pid_path}
         ip link set uplink up
         ip route add default via 203.0.113.1
         ip -6 route add default via 2001:db8::1"
    ));
    ns.sh("ip addr add 203.0.113.1/24 dev wan
           ip addr add 169.254.169.254/32 dev wan
           ip addr add 2001:db8::1/64 dev wan nodad
           ip link set wan up");
    ns
}

/// Receives one datagram: its text and its sender.
pub(crate) fn recv(socket: &UdpSocket) -> (String, SocketAddr) {
    let mut buffer = [0; 64];
    let (length, from) = socket.recv_from(&mut buffer).expect("a datagram");
    (String::from_utf8_lossy(&buffer[..length]).into_owned(), from)
}

/// Frames in the queue of a tap that contain these bytes.
pub(crate) fn frames_with(tap: &OwnedFd, bytes: &[u8]) -> usize {
    let before = fcntl_getfl(tap).unwrap();
    fcntl_setfl(tap, before | OFlags::NONBLOCK).unwrap();
    let mut frame = [0; 2048];
    let mut found = 0;
    while let Ok(length) = rustix::io::read(tap, &mut frame) {
        found += usize::from(frame[..length].windows(bytes.len()).any(|part| part == bytes));
    }
    fcntl_setfl(tap, before).unwrap();
    found
}

/// Index of the tap of a slot: it differs for a tap that was recreated.
pub(crate) fn tap_index(ns: &NetNs, slot: u16) -> String {
    ns.sh(&format!("ip -o link | grep {slot:04x}: | cut -d: -f1"))
}

/// A guest's namespace with its interface, and the other end of the interface.
pub(crate) fn guest_namespace(mac: [u8; 6], addresses: &Addresses) -> (NetNs, OwnedFd) {
    let ns = NetNs::new();
    let card = ns.run(|| open_tap("eth0"));
    let [a, b, c, d, e, f] = mac;
    ns.sh(&format!(
        "echo 0 >/proc/sys/net/ipv6/conf/eth0/dad_transmits
         ip link set eth0 address {a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{f:02x} up
         ip addr add {}/30 dev eth0
         ip addr add {}/112 dev eth0 nodad
         ip route add default via {}
         ip -6 route add default via {}",
        addresses.ipv4, addresses.ipv6, addresses.ipv4_gateway, addresses.ipv6_gateway
    ));
    (ns, card)
}
