//! A child between its making and its program: `clone` with shared memory, as
//! `posix_spawn` does, with steps that it does not know.
//!
//! A fork would copy init's memory map only for the program to throw it away,
//! which is a good part of what starting a program costs an emulated guest.

use crate::clock::last_errno;
use crate::users::Identity;
use rustix::io::Errno;
use std::ffi::{CStr, CString, c_char, c_int, c_long, c_void};
use std::os::fd::{AsRawFd, OwnedFd};
use std::ptr::null;

/// The steps need little; the C library's wrappers are all that runs on it.
const STACK: usize = 64 * 1024;
/// Open files a process may have without asking (E011), and at most.
static NOFILE: libc::rlimit = libc::rlimit { rlim_cur: 10240, rlim_max: 1 << 20 };

/// What the child is to become.
pub(crate) struct Child<'a> {
    /// The program's file.
    pub(crate) file: CString,
    /// Its arguments, its own name the first.
    pub(crate) argv: Vec<CString>,
    /// Its environment, as `KEY=value`.
    pub(crate) env: Vec<CString>,
    /// Its working directory.
    pub(crate) workdir: CString,
    /// Its standard streams; none of them is one of ours, so all are above 2.
    pub(crate) streams: [&'a OwnedFd; 3],
    /// The first of them is its terminal.
    pub(crate) tty: bool,
    /// As whom.
    pub(crate) identity: &'a Identity,
}

/// What the child sees of the parent's memory.
struct Shared<'a> {
    file: &'a CStr,
    argv: Vec<*const c_char>,
    env: Vec<*const c_char>,
    workdir: &'a CStr,
    streams: [c_int; 3],
    tty: bool,
    identity: &'a Identity,
    /// Why there is no program.
    error: c_int,
}

impl Child<'_> {
    /// Makes it, in a session and process group of its own; its pid, once its
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
        // SAFETY: with CLONE_VFORK this thread rests until the child has its
        // program or is gone, so stack and `shared` outlive their use and are
        // used by one at a time. All signals are blocked here, so no handler
        // runs in the child; it has a file table of its own.
        let pid = unsafe {
            let top = stack.as_mut_ptr_range().end.cast();
            let flags = libc::CLONE_VM | libc::CLONE_VFORK | libc::SIGCHLD;
            libc::clone(become_program, top, flags, (&raw mut shared).cast())
        };
        if pid < 0 {
            return Err(last_errno());
        }
        // SAFETY: `shared` is ours again; read as what another may have written.
        let error = unsafe { (&raw const shared.error).read_volatile() };
        if error == 0 {
            return Ok(pid);
        }
        // Nobody else is to see it end.
        // SAFETY: a null status is allowed.
        unsafe { libc::waitpid(pid, std::ptr::null_mut(), 0) };
        Err(Errno::from_raw_os_error(error))
    }
}

extern "C" fn become_program(shared: *mut c_void) -> c_int {
    // SAFETY: it is what `start` gave, and nobody else uses it now.
    let shared = unsafe { &mut *shared.cast::<Shared<'_>>() };
    // Only returns when it failed.
    shared.error = steps(shared).raw_os_error();
    // SAFETY: without handlers or buffers of the parent's being touched.
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
        let mut said = String::new();
        reader.read_to_string(&mut said).unwrap();
        let mut status = 0;
        // SAFETY: `status` is ours.
        assert_eq!(unsafe { libc::waitpid(pid, &raw mut status, 0) }, pid);
        Ok((libc::WEXITSTATUS(status), said))
    }

    #[test]
    fn a_child_becomes_its_program_or_says_why_not() {
        let got = run("echo $A $PWD $0; echo err >&2; exit 5", c"/bin/sh");
        if got == Err(Errno::PERM) {
            // Only a full root may set groups and raise limits, as a child does.
            return;
        }
        assert_eq!(got, Ok((5, "b / name\nerr\n".into())));
        assert_eq!(run("", c"/nope"), Err(Errno::NOENT));
        assert_eq!(run("", c"/etc/passwd"), Err(Errno::ACCESS));
    }
}
