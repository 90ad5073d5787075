//! Starting a process with the streams, environment and user it is to have.

use super::child::Child;
use super::program::{self, SpawnError};
use super::stream;
use super::users::Identity;
use guest_protocol::TermSize;
use rustix::fs::{Gid, Mode, OFlags, Uid};
use rustix::pipe::PipeFlags;
use std::ffi::CString;
use std::os::fd::OwnedFd;

/// PATH of an image that sets none.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// A process to start.
pub(crate) struct Launch<'a> {
    /// The user's term for it, for messages: `entrypoint` or `command`.
    pub(crate) what: &'a str,
    /// Program and arguments.
    pub(crate) argv: &'a [String],
    /// Environment, HOME and PATH filled in.
    pub(crate) env: &'a [(String, String)],
    /// The user it runs as.
    pub(crate) identity: &'a Identity,
    /// Its working directory; exists.
    pub(crate) workdir: &'a str,
    /// It gets a terminal of this size.
    pub(crate) tty: Option<TermSize>,
    /// It gets an input; otherwise it reads `/dev/null`.
    pub(crate) input: bool,
    /// Its output is read; otherwise it goes to `/dev/null`. A terminal's always is.
    pub(crate) output: bool,
}

/// A process that has been started, and init's sides of its streams, all of them
/// non-blocking. A terminal is both its input and its output.
#[derive(Debug)]
pub(crate) struct Started {
    /// Its pid, also the number of its session and process group.
    pub(crate) pid: i32,
    /// Writes to its input.
    pub(crate) stdin: Option<OwnedFd>,
    /// Reads its output.
    pub(crate) stdout: Option<OwnedFd>,
    /// Reads its standard error.
    pub(crate) stderr: Option<OwnedFd>,
}

/// `base` with `extra` over it, and defaults for HOME, PATH and TERM.
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

/// Starts a process in a session and process group of its own.
pub(crate) fn start(launch: &Launch<'_>) -> Result<Started, SpawnError> {
    let what = launch.what;
    let Some(program) = launch.argv.first() else {
        return Err(format!("empty {what}").into());
    };
    let path = launch.env.iter().find(|(k, _)| k == "PATH").map_or(PATH, |(_, v)| v.as_str());
    let file = program::find(what, program, path, launch.workdir)?;
    if !std::path::Path::new(launch.workdir).is_dir() {
        return Err(format!("working directory `{}` does not exist", launch.workdir).into());
    }
    let cannot = |err: std::io::Error| format!("cannot make the streams of `{program}`: {err}");
    let streams = match launch.tty {
        Some(size) => {
            Streams::terminal(size).map_err(|e| format!("cannot open a terminal: {e}"))?
        }
        None => Streams::pipes(launch.input, launch.output).map_err(|err| cannot(err.into()))?,
    };
    streams.give_to(launch.identity).map_err(|err| cannot(err.into()))?;
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

/// Both sides of a child's standard streams: init's and the child's.
struct Streams {
    ours: [Option<OwnedFd>; 3],
    theirs: [OwnedFd; 3],
}

impl Streams {
    /// Makes the user that the process runs as the owner of its streams, as
    /// container engines do: it may reopen `/dev/stdout` or `/proc/self/fd/1`.
    fn give_to(&self, identity: &Identity) -> rustix::io::Result<()> {
        let (user, group) = (Uid::from_raw(identity.uid), Gid::from_raw(identity.gid));
        for fd in &self.theirs {
            if rustix::termios::isatty(fd) {
                // A terminal keeps its group, `tty`.
                rustix::fs::fchown(fd, Some(user), None)?;
            } else if rustix::fs::fstat(fd)?.st_rdev == 0 {
                rustix::fs::fchown(fd, Some(user), Some(group))?;
            }
            // `/dev/null` belongs to no process.
        }
        Ok(())
    }

    fn pipes(input: bool, output: bool) -> rustix::io::Result<Self> {
        let pipe = || rustix::pipe::pipe_with(PipeFlags::CLOEXEC);
        let null = |how| rustix::fs::open("/dev/null", how | OFlags::CLOEXEC, Mode::empty());
        let (their_input, our_input) = match input {
            true => pipe().map(|(reader, writer)| (reader, Some(writer)))?,
            false => (null(OFlags::RDONLY)?, None),
        };
        let written = || match output {
            true => pipe().map(|(reader, writer)| (Some(reader), writer)),
            false => Ok((None, null(OFlags::WRONLY)?)),
        };
        let ((stdout, their_stdout), (stderr, their_stderr)) = (written()?, written()?);
        Ok(Self {
            ours: [our_input, stdout, stderr],
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

/// Keeps the last of several variables of one name.
fn without_doubles(env: &[(String, String)]) -> impl Iterator<Item = &(String, String)> {
    let later = |at: usize, key: &str| env[at + 1..].iter().any(|(other, _)| other == key);
    env.iter().enumerate().filter(move |(at, (key, _))| !later(*at, key)).map(|(_, pair)| pair)
}

/// Explains why the kernel did not start a program that was found.
fn refusal(what: &str, program: &str, err: &std::io::Error) -> SpawnError {
    match err.raw_os_error() {
        Some(libc::EACCES) => {
            SpawnError::not_executable(format!("{what} `{program}` is not executable by its user"))
        }
        // The file was there a moment ago, so it is what the file asks for.
        Some(libc::ENOENT) => {
            format!("{what} `{program}`: its interpreter or loader is missing").into()
        }
        Some(libc::ENOEXEC) => SpawnError::not_executable(format!(
            "{what} `{program}` is not executable: neither a program of this CPU nor a script"
        )),
        _ => format!("{what} `{program}` cannot be run: {err}").into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
