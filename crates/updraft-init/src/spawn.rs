//! Starting a process as the image says.

use crate::stream;
use crate::users::Identity;
use std::os::fd::OwnedFd;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};
use wire::guest::TermSize;

/// PATH of an image that sets none.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
/// Open files a process may have without asking (E011), and at most.
static NOFILE: libc::rlimit = libc::rlimit { rlim_cur: 10240, rlim_max: 1 << 20 };

/// A process to start.
pub(crate) struct Launch<'a> {
    /// What the user calls it, for messages: `entrypoint` or `command`.
    pub(crate) what: &'a str,
    /// Program and arguments.
    pub(crate) argv: &'a [String],
    /// Environment, HOME and PATH filled in.
    pub(crate) env: &'a [(String, String)],
    /// As whom.
    pub(crate) identity: &'a Identity,
    /// Where; exists.
    pub(crate) workdir: &'a str,
    /// With a terminal of this size.
    pub(crate) tty: Option<TermSize>,
    /// With an input; else it reads nothing.
    pub(crate) input: bool,
}

/// A process that has been started, and our sides of its streams, none of which
/// waits. A terminal is both its input and its output.
#[derive(Debug)]
pub(crate) struct Started {
    /// Its pid, also the number of its session and process group.
    pub(crate) pid: i32,
    /// To its input.
    pub(crate) stdin: Option<OwnedFd>,
    /// From its output.
    pub(crate) stdout: Option<OwnedFd>,
    /// From its standard error.
    pub(crate) stderr: Option<OwnedFd>,
}

/// `base` with `extra` over it, and HOME, PATH and TERM where nobody set them.
pub(crate) fn environment(
    base: &[(String, String)],
    extra: &[(String, String)],
    identity: &Identity,
    tty: bool,
) -> Vec<(String, String)> {
    let mut env = base.to_vec();
    for (key, value) in extra {
        match env.iter_mut().find(|(k, _)| k == key) {
            Some(slot) => slot.1.clone_from(value),
            None => env.push((key.clone(), value.clone())),
        }
    }
    let defaults = [("HOME", identity.home.as_str()), ("PATH", PATH), ("TERM", "xterm")];
    for (key, value) in defaults.into_iter().take(if tty { 3 } else { 2 }) {
        if !env.iter().any(|(k, _)| k == key) {
            env.push((key.to_owned(), value.to_owned()));
        }
    }
    env
}

/// What is found at a path.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Found {
    Nothing,
    Directory,
    Plain,
    Program,
}

fn look(path: &str) -> Found {
    match std::fs::metadata(path) {
        Err(_) => Found::Nothing,
        Ok(meta) if meta.is_dir() => Found::Directory,
        Ok(meta) if meta.permissions().mode() & 0o111 == 0 => Found::Plain,
        Ok(_) => Found::Program,
    }
}

/// The file that `program` names: itself if it has a slash, else the first of
/// that name in `path`.
fn find(
    what: &str,
    program: &str,
    path: &str,
    workdir: &str,
    look: impl Fn(&str) -> Found,
) -> Result<String, String> {
    if program.is_empty() {
        return Err(format!("empty {what}"));
    }
    if program.contains('/') {
        let full = match program.strip_prefix('/') {
            Some(_) => program.to_owned(),
            None => format!("{}/{program}", workdir.trim_end_matches('/')),
        };
        return match look(&full) {
            Found::Program => Ok(full),
            Found::Nothing => Err(format!("{what} `{program}` not found")),
            Found::Directory => Err(format!("{what} `{program}` is a directory")),
            Found::Plain => Err(format!("{what} `{program}` is not executable")),
        };
    }
    let mut plain = None;
    for dir in path.split(':') {
        let dir = if dir.is_empty() { workdir } else { dir };
        let full = format!("{}/{program}", dir.trim_end_matches('/'));
        match look(&full) {
            Found::Program => return Ok(full),
            Found::Plain => plain = Some(full),
            Found::Nothing | Found::Directory => {}
        }
    }
    Err(match plain {
        Some(full) => format!("{what} `{program}` is not executable ({full})"),
        None => format!("{what} `{program}` not found in PATH"),
    })
}

/// Starts a process in a session and process group of its own.
pub(crate) fn start(launch: &Launch<'_>) -> Result<Started, String> {
    let what = launch.what;
    let Some(program) = launch.argv.first() else { return Err(format!("empty {what}")) };
    let path = launch.env.iter().find(|(k, _)| k == "PATH").map_or(PATH, |(_, v)| v.as_str());
    let file = find(what, program, path, launch.workdir, look)?;
    if !std::path::Path::new(launch.workdir).is_dir() {
        return Err(format!("working directory `{}` is not there", launch.workdir));
    }
    let mut command = Command::new(&file);
    command.arg0(program).args(&launch.argv[1..]).current_dir(launch.workdir);
    command.env_clear().envs(launch.env.iter().map(|(k, v)| (k, v)));
    let terminal = match launch.tty {
        Some(size) => Some(attach_terminal(&mut command, size)?),
        None => {
            let stdin = if launch.input { Stdio::piped() } else { Stdio::null() };
            command.stdin(stdin).stdout(Stdio::piped()).stderr(Stdio::piped());
            None
        }
    };
    become_child(&mut command, launch.identity.clone(), launch.tty.is_some());
    let child = command.spawn().map_err(|err| refusal(what, program, &err))?;
    // The command holds the child's side of a terminal; it would never end.
    drop(command);
    started(child, terminal).map_err(|err| format!("cannot read `{program}`: {err}"))
}

fn attach_terminal(command: &mut Command, size: TermSize) -> Result<OwnedFd, String> {
    let cannot = |err: std::io::Error| format!("cannot open a terminal: {err}");
    let (ours, theirs) = stream::open_terminal(size).map_err(|e| cannot(e.into()))?;
    command.stdin(theirs.try_clone().map_err(cannot)?);
    command.stdout(theirs.try_clone().map_err(cannot)?);
    command.stderr(theirs);
    Ok(ours)
}

fn started(mut child: std::process::Child, terminal: Option<OwnedFd>) -> std::io::Result<Started> {
    let pid = i32::try_from(child.id()).unwrap_or(i32::MAX);
    let (stdin, stdout) = match terminal {
        Some(ours) => (Some(ours.try_clone()?), Some(ours)),
        None => (child.stdin.take().map(Into::into), child.stdout.take().map(Into::into)),
    };
    let stderr = child.stderr.take().map(OwnedFd::from);
    for fd in [&stdin, &stdout, &stderr].into_iter().flatten() {
        stream::set_nonblocking(fd)?;
    }
    Ok(Started { pid, stdin, stdout, stderr })
}

/// What the child does between fork and exec, beside what `Command` does.
fn become_child(command: &mut Command, identity: Identity, tty: bool) {
    let step = |result: libc::c_long| match result {
        0.. => Ok(()),
        _ => Err(std::io::Error::last_os_error()),
    };
    let child = move || {
        // SAFETY: only async-signal-safe calls, on memory made before the fork.
        // Raw calls for the ids: the library's would signal other threads.
        unsafe {
            let mut none: libc::sigset_t = std::mem::zeroed();
            libc::sigemptyset(&raw mut none);
            libc::sigprocmask(libc::SIG_SETMASK, &raw const none, std::ptr::null_mut());
            libc::signal(libc::SIGPIPE, libc::SIG_DFL);
            step(libc::setsid().into())?;
            if tty {
                step(libc::ioctl(0, libc::TIOCSCTTY, 0).into())?;
            }
            step(libc::setrlimit(libc::RLIMIT_NOFILE, &raw const NOFILE).into())?;
            let groups = &identity.groups;
            step(libc::syscall(libc::SYS_setgroups, groups.len(), groups.as_ptr()))?;
            let (uid, gid) = (identity.uid, identity.gid);
            step(libc::syscall(libc::SYS_setresgid, gid, gid, gid))?;
            step(libc::syscall(libc::SYS_setresuid, uid, uid, uid))
        }
    };
    // SAFETY: see the closure.
    unsafe { command.pre_exec(child) };
}

fn refusal(what: &str, program: &str, err: &std::io::Error) -> String {
    match err.raw_os_error() {
        Some(libc::EACCES) => format!("{what} `{program}` is not executable by its user"),
        // The file was there a moment ago, so it is what the file asks for.
        Some(libc::ENOENT) => format!("{what} `{program}`: its interpreter or loader is missing"),
        Some(libc::ENOEXEC) => {
            format!(
                "{what} `{program}` is not executable: neither a program of this CPU nor a script"
            )
        }
        _ => format!("{what} `{program}` cannot be run: {err}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn files(path: &str) -> Found {
        match path {
            "/bin/sh" | "/usr/bin/app" | "/srv/run" | "/srv/./run" => Found::Program,
            "/usr/local/bin/app" | "/etc/motd" => Found::Plain,
            "/bin" | "/bin/dir" => Found::Directory,
            _ => Found::Nothing,
        }
    }

    #[test]
    fn programs_are_found_as_a_shell_finds_them() {
        let find =
            |program| find("entrypoint", program, "/usr/local/bin:/usr/bin:/bin:", "/srv", files);
        for (program, want) in [
            ("sh", Ok("/bin/sh")),
            ("app", Ok("/usr/bin/app")),
            ("run", Ok("/srv/run")),
            ("./run", Ok("/srv/./run")),
            ("/bin/sh", Ok("/bin/sh")),
            ("dir", Err("entrypoint `dir` not found in PATH")),
            ("nope", Err("entrypoint `nope` not found in PATH")),
            ("/nope", Err("entrypoint `/nope` not found")),
            ("/bin", Err("entrypoint `/bin` is a directory")),
            ("/etc/motd", Err("entrypoint `/etc/motd` is not executable")),
            ("", Err("empty entrypoint")),
        ] {
            assert_eq!(find(program), want.map(str::to_owned).map_err(str::to_owned));
        }
        let only = super::find("command", "app", "/usr/local/bin", "/", files);
        assert_eq!(only, Err("command `app` is not executable (/usr/local/bin/app)".into()));
    }

    #[test]
    fn an_environment_is_filled_not_overruled() {
        let identity =
            Identity { uid: 5, gid: 5, groups: vec![], home: "/h".into(), name: "u".into() };
        let own = |pairs: &[(&str, &str)]| -> Vec<(String, String)> {
            pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect()
        };
        let env =
            environment(&own(&[("A", "1"), ("PATH", "/p")]), &own(&[("A", "2")]), &identity, true);
        assert_eq!(env, own(&[("A", "2"), ("PATH", "/p"), ("HOME", "/h"), ("TERM", "xterm")]));
        let env = environment(&[], &[], &identity, false);
        assert_eq!(env, own(&[("HOME", "/h"), ("PATH", PATH)]));
    }
}
