//! Between the types of version 2 and the present ones.

use super::messages as old;
use crate as present;

/// Conversion in both directions between two structs with the same fields.
macro_rules! same_fields {
    ($($name:ident { $($field:ident),* })*) => {$(
        impl From<old::$name> for present::$name {
            fn from(from: old::$name) -> Self {
                Self { $($field: from.$field.into()),* }
            }
        }
        impl From<present::$name> for old::$name {
            fn from(from: present::$name) -> Self {
                Self { $($field: from.$field.into()),* }
            }
        }
    )*};
}

/// Conversion in both directions between two enums with the same plain variants.
macro_rules! same_variants {
    ($($name:ident { $($variant:ident),* })*) => {$(
        impl From<old::$name> for present::$name {
            fn from(from: old::$name) -> Self {
                match from { $(old::$name::$variant => Self::$variant),* }
            }
        }
        impl From<present::$name> for old::$name {
            fn from(from: present::$name) -> Self {
                match from { $(present::$name::$variant => Self::$variant),* }
            }
        }
    )*};
}

same_fields! {
    Exit { code, signal, oom }
    Listener { port, reachable }
    TermSize { rows, cols }
    ListenSocket { proto, address }
    Device { path, fstype }
    GuestFile { path, mode, content }
    Main { argv, env, user, workdir, tty }
    Resume { now, entropy, hook }
    Net { mac, ipv4, ipv4_prefix, ipv4_gateway, ipv6, ipv6_prefix, ipv6_gateway, mtu }
}

same_variants! {
    LogSource { Stdout, Stderr, Init }
    Output { Stdout, Stderr }
}

fn each<A, B: From<A>>(list: Vec<A>) -> Vec<B> {
    list.into_iter().map(B::from).collect()
}

impl From<present::Exec> for old::Exec {
    fn from(from: present::Exec) -> Self {
        let present::Exec { argv, env, user, workdir, tty, timeout_ms, unit: _ } = from;
        Self { argv, env, user, workdir, tty: tty.map(Into::into), timeout_ms }
    }
}

impl From<present::GuestConfig> for old::GuestConfig {
    fn from(from: present::GuestConfig) -> Self {
        Self {
            hostname: from.hostname,
            machine_id: from.machine_id,
            now: from.now,
            entropy: from.entropy,
            root: from.root.into(),
            scratch: from.scratch.into(),
            net: from.net.map(Into::into),
            resolv_conf: from.resolv_conf,
            hosts: from.hosts,
            files: each(from.files),
            main: from.main.into(),
            swap_mib: from.swap_mib,
            log_buffer: from.log_buffer,
        }
    }
}

impl From<old::Process> for present::Process {
    fn from(from: old::Process) -> Self {
        Self {
            pid: from.pid,
            stime: from.stime,
            rtime: from.rtime,
            command: from.command,
            directory: from.directory,
            cpu: from.cpu,
            rss: from.rss,
            listen_sockets: each(from.listen_sockets),
        }
    }
}

impl From<old::Phase> for present::Phase {
    fn from(from: old::Phase) -> Self {
        match from {
            old::Phase::AwaitingConfig => Self::AwaitingConfig,
            old::Phase::Preparing => Self::Preparing,
            old::Phase::Failed(why) => Self::Failed(why),
            old::Phase::Running(pid) => Self::Running(pid),
            old::Phase::Exited(exit) => Self::Exited(exit.into()),
        }
    }
}

impl old::ToGuest {
    /// The message in version 2; `None` if it has no such message.
    pub fn from_present(message: present::ToGuest) -> Option<Self> {
        use present::ToGuest as New;
        Some(match message {
            New::Hello { version, session, .. } => Self::Hello { version, session },
            New::QuiesceForTemplate => Self::QuiesceForTemplate,
            // It would run something other than what was configured.
            New::Configure(config) if config.units.is_some() => return None,
            // Its app would look for a file that is never written.
            New::Configure(config) if config.oidc_audience.is_some() => return None,
            // Its app would write to a disk that is not kept.
            New::Configure(config) if config.mounts.is_some() => return None,
            New::Exec(_, exec) if exec.unit.is_some() => return None,
            New::Configure(config) => Self::Configure(Box::new((*config).into())),
            New::Resumed(resume) => Self::Resumed(resume.into()),
            New::Signal(signal) => Self::Signal(signal),
            New::Stop { signal, timeout_ms } => Self::Stop { signal, timeout_ms },
            New::PowerOff => Self::PowerOff,
            New::Exec(id, exec) => Self::Exec(id, exec.into()),
            New::ExecInput(id, data) => Self::ExecInput(id, data),
            New::ExecCredit(id, bytes) => Self::ExecCredit(id, bytes),
            New::ExecResize(id, size) => Self::ExecResize(id, size.into()),
            New::ExecSignal(id, signal) => Self::ExecSignal(id, signal),
            New::ListProcesses(number) => Self::ListProcesses(number),
            New::Awake(now) => Self::Awake(now),
            New::ApiData(id, data) => Self::ApiData(id, data),
            New::ApiEnd(id) => Self::ApiEnd(id),
            New::LogReceived(..) | New::ReadStats(_) => return None,
        })
    }
}

impl From<old::ToHost> for present::ToHost {
    fn from(message: old::ToHost) -> Self {
        use old::ToHost as Old;
        match message {
            Old::Welcome { version, session, phase, listening } => {
                Self::Welcome { version, session, phase: phase.into(), listening: each(listening) }
            }
            Old::Quiesced => Self::Quiesced,
            Old::ConfigFailed(why) => Self::ConfigFailed(why),
            Old::Running { pid, stages_ms } => Self::Running { pid, stages_ms },
            Old::Exited(exit) => Self::Exited(exit.into()),
            Old::Listening(listener, began) => Self::Listening(listener.into(), began),
            Old::Log(source, data) => {
                Self::Log { source: source.into(), offset: None, data, unit: None }
            }
            Old::LogDropped(bytes) => Self::LogDropped(bytes),
            Old::ExecOutput(id, stream, data) => Self::ExecOutput(id, stream.into(), data),
            Old::ExecCredit(id, bytes) => Self::ExecCredit(id, bytes),
            Old::ExecExited(id, exit) => Self::ExecExited(id, exit.into()),
            Old::ExecFailed(id, why) => Self::ExecFailed(id, why, None),
            Old::Processes(number, list) => Self::Processes(number, each(list)),
            // Such a guest has the socket only.
            Old::ApiOpen(id) => Self::ApiOpen(id, false),
            Old::ApiData(id, data) => Self::ApiData(id, data),
            Old::ApiEnd(id) => Self::ApiEnd(id),
        }
    }
}
