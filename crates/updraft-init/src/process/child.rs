//! A child process between `clone` and `execve`: `clone` with shared memory, as
//! `posix_spawn` does, but with steps that `posix_spawn` does not offer.
//!
//! A fork would copy init's memory map only for `execve` to discard it, which is a
//! good part of what starting a program costs an emulated guest.

use crate::process::users::Identity;
use crate::system::clock::last_errno;
use rustix::io::Errno;
use std::ffi::{CStr, CString, c_char, c_int, c_long, c_void};
use std::os::fd::{AsRawFd, OwnedFd};
use std::ptr::null;

/// Stack of the child: only the C library's system call wrappers run on it.
const STACK: usize = 64 * 1024;
/// Limit of open files: the soft one of every process, and what it may raise it to.
static NOFILE: libc::rlimit = libc::rlimit { rlim_cur: 10240, rlim_max: 1 << 20 };

/// A child process to start.
pub(crate) struct Child<'a> {
    /// The program's file.
    pub(crate) file: CString,
    /// Its arguments, its own name the first.
    pub(crate) argv: Vec<CString>,
    /// Its environment, as `KEY=value`.
    pub(crate) env: Vec<CString>,
    /// Its working directory.
    pub(crate) workdir: CString,
    /// Its standard streams. Init holds 0 to 2 open itself, so all are above 2.
    pub(crate) streams: [&'a OwnedFd; 3],
    /// The first of them is its controlling terminal.
    pub(crate) tty: bool,
    /// The user it runs as.
    pub(crate) identity: &'a Identity,
}

/// The data that the child reads of the parent's memory.
struct Shared<'a> {
    file: &'a CStr,
    argv: Vec<*const c_char>,
    env: Vec<*const c_char>,
    workdir: &'a CStr,
    streams: [c_int; 3],
    tty: bool,
    identity: &'a Identity,
    /// Error number if the program could not be executed.
    error: c_int,
}

impl Child<'_> {
    /// Starts it, in a session and process group of its own; returns its pid once its
    /// program runs.
    pub(crate) fn start(&self) -> rustix::io::Result<i32> {
        let pointers = |strings: &[CString]| -> Vec<*const c_char> {
            strings.iter().map(|s| s.as_ptr()).chain([null()]).collect()
        };
        let mut shared = Shared {
            file: &self.file,
            argv: pointers(&self.argv),
            env: pointers(&self.env),
            workdir: &self.workdir,
            streams: self.streams.map(AsRawFd::as_raw_fd),
            tty: self.tty,
            identity: self.identity,
            error: 0,
        };
        let mut stack = vec![0u128; STACK / size_of::<u128>()];
        // SAFETY: with CLONE_VFORK this thread is suspended until the child has
        // executed its program or exited, so stack and `shared` outlive their use and
        // are used by one at a time. All signals are blocked here, so no handler
        // runs in the child; it has a file table of its own.
        let pid = unsafe {
            let top = stack.as_mut_ptr_range().end.cast();
            let flags = libc::CLONE_VM | libc::CLONE_VFORK | libc::SIGCHLD;
            libc::clone(become_program, top, flags, (&raw mut shared).cast())
        };
        if pid < 0 {
            return Err(last_errno());
        }
        // SAFETY: the child no longer uses `shared`; volatile, as it may have written.
        let error = unsafe { (&raw const shared.error).read_volatile() };
        if error == 0 {
            return Ok(pid);
        }
        // Reaped here, so that the event loop never sees it.
        // SAFETY: a null status is allowed.
        unsafe { libc::waitpid(pid, std::ptr::null_mut(), 0) };
        Err(Errno::from_raw_os_error(error))
    }
}

extern "C" fn become_program(shared: *mut c_void) -> c_int {
    // SAFETY: it is what `start` passed, and the parent is suspended.
    let shared = unsafe { &mut *shared.cast::<Shared<'_>>() };
    // Returns only after a failure.
    shared.error = steps(shared).raw_os_error();
    // SAFETY: ends the child without the parent's exit handlers or buffers.
    unsafe { libc::_exit(127) }
}

fn steps(shared: &Shared<'_>) -> Errno {
    let all = || -> rustix::io::Result<()> {
        let step = |result: c_long| if result < 0 { Err(last_errno()) } else { Ok(()) };
        let Identity { uid, gid, groups, .. } = shared.identity;
        // SAFETY: plain system calls on memory made before. Raw ones for the ids:
        // the library's would signal the parent's threads.
        unsafe {
            let mut none: libc::sigset_t = std::mem::zeroed();
            libc::sigemptyset(&raw mut none);
            libc::sigprocmask(libc::SIG_SETMASK, &raw const none, std::ptr::null_mut());
            libc::signal(libc::SIGPIPE, libc::SIG_DFL);
            step(libc::setsid().into())?;
            for (to, from) in (0..).zip(shared.streams) {
                step(libc::dup2(from, to).into())?;
            }
            if shared.tty {
                step(libc::ioctl(0, libc::TIOCSCTTY, 0).into())?;
            }
            step(libc::setrlimit(libc::RLIMIT_NOFILE, &raw const NOFILE).into())?;
            step(libc::chdir(shared.workdir.as_ptr()).into())?;
            step(libc::syscall(libc::SYS_setgroups, groups.len(), groups.as_ptr()))?;
            step(libc::syscall(libc::SYS_setresgid, *gid, *gid, *gid))?;
            step(libc::syscall(libc::SYS_setresuid, *uid, *uid, *uid))?;
            let (argv, env) = (shared.argv.as_ptr(), shared.env.as_ptr());
            step(libc::execve(shared.file.as_ptr(), argv, env).into())
        }
    };
    all().err().unwrap_or(Errno::NOEXEC)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;
    use testkit::skip::{Lacks, skip};

    fn run(script: &str, file: &CStr) -> Result<(i32, String), Errno> {
        let string = |text: &str| CString::new(text).unwrap();
        // SAFETY: plain calls; the numbers cannot fail.
        let (uid, gid) = unsafe { (libc::getuid(), libc::getgid()) };
        let identity = Identity { uid, gid, groups: vec![], home: "/".into(), name: "me".into() };
        let (mut reader, writer) = std::io::pipe().unwrap();
        let (input, writer) = (std::fs::File::open("/dev/null").unwrap().into(), writer.into());
        let pid = Child {
            file: file.to_owned(),
            argv: ["name", "-c", script].map(string).into(),
            env: vec![string("A=b")],
            workdir: string("/"),
            streams: [&input, &writer, &writer],
            tty: false,
            identity: &identity,
        }
        .start()?;
        drop(writer);
        let mut output = String::new();
        reader.read_to_string(&mut output).unwrap();
        let mut status = 0;
        // SAFETY: `status` is ours.
        assert_eq!(unsafe { libc::waitpid(pid, &raw mut status, 0) }, pid);
        Ok((libc::WEXITSTATUS(status), output))
    }

    #[test]
    fn a_child_executes_its_program_or_returns_the_error() {
        let got = run("echo $A $PWD $0; echo err >&2; exit 5", c"/bin/sh");
        if got == Err(Errno::PERM) {
            // A root without CAP_SYS_RESOURCE, as in some containers, cannot raise limits.
            let lacks = match rustix::process::geteuid().is_root() {
                true => Lacks::Optional,
                false => Lacks::Required,
            };
            return skip("setting groups and raising limits needs a full root", lacks);
        }
        assert_eq!(got, Ok((5, "b / name\nerr\n".into())));
        assert_eq!(run("", c"/nope"), Err(Errno::NOENT));
        assert_eq!(run("", c"/etc/passwd"), Err(Errno::ACCESS));
    }
}
