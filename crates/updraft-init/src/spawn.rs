//! Starting a process as the image says.

use crate::child::Child;
use crate::stream;
use crate::users::Identity;
use guest_protocol::TermSize;
use rustix::fs::{Mode, OFlags};
use rustix::pipe::PipeFlags;
use std::ffi::CString;
use std::os::fd::OwnedFd;
use std::os::unix::fs::PermissionsExt;

/// PATH of an image that sets none.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
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
    let cannot = |err: std::io::Error| format!("cannot make the streams of `{program}`: {err}");
    let streams = match launch.tty {
        Some(size) => {
            Streams::terminal(size).map_err(|e| format!("cannot open a terminal: {e}"))?
        }
        None => Streams::pipes(launch.input).map_err(|err| cannot(err.into()))?,
    };
    let Streams { ours: [stdin, stdout, stderr], theirs } = streams;
    for fd in [&stdin, &stdout, &stderr].into_iter().flatten() {
        stream::set_nonblocking(fd).map_err(|err| cannot(err.into()))?;
    }
    let string = |text: String| CString::new(text).map_err(|_| "it has a zero byte".to_owned());
    let strings = || {
        let env = without_doubles(launch.env).map(|(k, v)| string(format!("{k}={v}")));
        Ok(Child {
            file: string(file)?,
            argv: launch.argv.iter().cloned().map(string).collect::<Result<_, _>>()?,
            env: env.collect::<Result<_, _>>()?,
            workdir: string(launch.workdir.to_owned())?,
            streams: theirs.each_ref(),
            tty: launch.tty.is_some(),
            identity: launch.identity,
        })
    };
    let child =
        strings().map_err(|err: String| refusal(what, program, &std::io::Error::other(err)))?;
    let pid = child.start().map_err(|err| refusal(what, program, &err.into()))?;
    Ok(Started { pid, stdin, stdout, stderr })
}

/// Both sides of a child's standard streams.
struct Streams {
    ours: [Option<OwnedFd>; 3],
    theirs: [OwnedFd; 3],
}

impl Streams {
    fn pipes(input: bool) -> rustix::io::Result<Self> {
        let pipe = || rustix::pipe::pipe_with(PipeFlags::CLOEXEC);
        let (their_input, our_input) = if input {
            let (reader, writer) = pipe()?;
            (reader, Some(writer))
        } else {
            let flags = OFlags::RDONLY | OFlags::CLOEXEC;
            (rustix::fs::open("/dev/null", flags, Mode::empty())?, None)
        };
        let ((stdout, their_stdout), (stderr, their_stderr)) = (pipe()?, pipe()?);
        Ok(Self {
            ours: [our_input, Some(stdout), Some(stderr)],
            theirs: [their_input, their_stdout, their_stderr],
        })
    }

    /// A terminal is both input and output.
    fn terminal(size: TermSize) -> std::io::Result<Self> {
        let (ours, theirs) = stream::open_terminal(size)?;
        Ok(Self {
            ours: [Some(ours.try_clone()?), Some(ours), None],
            theirs: [theirs.try_clone()?, theirs.try_clone()?, theirs],
        })
    }
}

/// Of several of one name the last holds.
fn without_doubles(env: &[(String, String)]) -> impl Iterator<Item = &(String, String)> {
    let later = |at: usize, key: &str| env[at + 1..].iter().any(|(other, _)| other == key);
    env.iter().enumerate().filter(move |(at, (key, _))| !later(*at, key)).map(|(_, pair)| pair)
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
        let doubles = own(&[("A", "1"), ("B", "2"), ("A", "3")]);
        let single: Vec<_> = without_doubles(&doubles).cloned().collect();
        assert_eq!(single, own(&[("B", "2"), ("A", "3")]));
        let env = environment(&[], &[], &identity, false);
        assert_eq!(env, own(&[("HOME", "/h"), ("PATH", PATH)]));
    }
}
