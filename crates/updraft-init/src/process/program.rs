//! The program file of a process, and why there is none.

use guest_protocol::ExecErrorKind;
use std::os::unix::fs::PermissionsExt;

/// Why a process could not be started.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SpawnError {
    /// For people.
    pub(crate) text: String,
    /// For programs.
    pub(crate) kind: Option<ExecErrorKind>,
}

impl SpawnError {
    fn not_found(text: String) -> Self {
        Self { text, kind: Some(ExecErrorKind::NotFound) }
    }

    /// The program exists and cannot be executed.
    pub(crate) fn not_executable(text: String) -> Self {
        Self { text, kind: Some(ExecErrorKind::NotExecutable) }
    }
}

impl From<String> for SpawnError {
    fn from(text: String) -> Self {
        Self { text, kind: None }
    }
}

impl From<&str> for SpawnError {
    fn from(text: &str) -> Self {
        text.to_owned().into()
    }
}

/// The kind of file at a path.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Found {
    Nothing,
    Directory,
    Plain,
    Program,
}

fn kind_of(path: &str) -> Found {
    match std::fs::metadata(path) {
        Err(_) => Found::Nothing,
        Ok(meta) if meta.is_dir() => Found::Directory,
        Ok(meta) if meta.permissions().mode() & 0o111 == 0 => Found::Plain,
        Ok(_) => Found::Program,
    }
}

/// Finds the file that `program` names: itself if it has a slash, else the first
/// of that name in the directories of `path`. Relative paths and directories are
/// relative to the working directory of the process.
pub(crate) fn find(
    what: &str,
    program: &str,
    path: &str,
    workdir: &str,
) -> Result<String, SpawnError> {
    find_with(what, program, path, workdir, kind_of)
}

fn find_with(
    what: &str,
    program: &str,
    path: &str,
    workdir: &str,
    kind_of: impl Fn(&str) -> Found,
) -> Result<String, SpawnError> {
    if program.is_empty() {
        return Err(format!("empty {what}").into());
    }
    if program.contains('/') {
        let full = join(workdir, program);
        return match kind_of(&full) {
            Found::Program => Ok(full),
            Found::Nothing => Err(SpawnError::not_found(format!("{what} `{program}` not found"))),
            Found::Directory => {
                Err(SpawnError::not_executable(format!("{what} `{program}` is a directory")))
            }
            Found::Plain => {
                Err(SpawnError::not_executable(format!("{what} `{program}` is not executable")))
            }
        };
    }
    let mut plain = None;
    for dir in path.split(':') {
        let full = join(&join(workdir, dir), program);
        match kind_of(&full) {
            Found::Program => return Ok(full),
            Found::Plain => plain = Some(full),
            Found::Nothing | Found::Directory => {}
        }
    }
    Err(match plain {
        Some(full) => {
            SpawnError::not_executable(format!("{what} `{program}` is not executable ({full})"))
        }
        None => SpawnError::not_found(format!("{what} `{program}` not found in PATH")),
    })
}

/// `path` as seen from `base`; an empty one is `base` itself.
fn join(base: &str, path: &str) -> String {
    match path {
        "" => base.to_owned(),
        absolute if absolute.starts_with('/') => absolute.to_owned(),
        relative => format!("{}/{relative}", base.trim_end_matches('/')),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn files(path: &str) -> Found {
        match path {
            "/bin/sh"
            | "/usr/bin/app"
            | "/srv/run"
            | "/srv/./run"
            | "/srv/./node_modules/.bin/tool" => Found::Program,
            "/usr/local/bin/app" | "/etc/motd" => Found::Plain,
            "/bin" | "/bin/dir" => Found::Directory,
            _ => Found::Nothing,
        }
    }

    #[test]
    fn programs_are_found_as_a_shell_finds_them() {
        let find = |program| {
            let path = "/usr/local/bin/:/usr/bin:/bin:./node_modules/.bin:";
            find_with("entrypoint", program, path, "/srv", files).map_err(|err| err.text)
        };
        for (program, want) in [
            ("sh", Ok("/bin/sh")),
            ("app", Ok("/usr/bin/app")),
            ("run", Ok("/srv/run")),
            ("tool", Ok("/srv/./node_modules/.bin/tool")),
            ("bin/x", Err("entrypoint `bin/x` not found")),
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
        let error = |program| {
            let only = find_with("command", program, "/usr/local/bin", "/", files);
            only.map_err(|err| (err.kind, err.text))
        };
        let text = "command `app` is not executable (/usr/local/bin/app)".to_owned();
        assert_eq!(error("app"), Err((Some(ExecErrorKind::NotExecutable), text)));
        let text = "command `bash` not found in PATH".to_owned();
        assert_eq!(error("bash"), Err((Some(ExecErrorKind::NotFound), text)));
    }
}
