//! Secrets in a file of their own: read, or made and written there.

use crate::error::DaemonError;
use camino::Utf8Path;
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::PermissionsExt;

/// Bytes of chance in a token.
const BYTES: usize = 32;

/// Reads the token with this name; makes it, readable by its owner only, if there is no file.
pub(super) fn read_or_make(
    name: &str,
    path: &Utf8Path,
    rng: &rt::Rng,
) -> Result<String, DaemonError> {
    // Not `fm…`: clients take those for macaroons and decode them.
    read_or_make_with(name, path, || format!("updraft_{}", hex::encode(rng.bytes(BYTES))))
}

/// The same of a secret that `make` makes.
pub(super) fn read_or_make_with(
    name: &str,
    path: &Utf8Path,
    make: impl FnOnce() -> String,
) -> Result<String, DaemonError> {
    let failed = |what: &str| DaemonError::failed(format!("Cannot {what} the {name} {path}"));
    match read(path) {
        Ok((_, mode)) if mode & 0o077 != 0 => {
            let why = format!("Others than its owner may use it: its mode is {:o}", mode & 0o777);
            return Err(failed("use").because(why).hint(format!("Run `chmod 600 {path}`.")));
        }
        Ok((text, _)) => {
            let token = text.trim();
            let usable = token.len() >= 16 && token.bytes().all(|b| b.is_ascii_graphic());
            // A comma separates tokens in a header.
            return if usable && !token.contains(',') {
                Ok(token.to_owned())
            } else {
                let why = "A token is one word of at least 16 visible characters without commas";
                Err(failed("use").because(why).hint("Delete the file to have one made."))
            };
        }
        Err(err) if err.kind() == io::ErrorKind::NotFound => {}
        Err(err) => return Err(failed("read").because_of(&err)),
    }
    let token = make();
    let text = format!("{token}\n");
    rt::fs::write_atomic(path.as_std_path(), text.as_bytes(), 0o600)
        .map_err(|err| failed("write").because_of(&err))?;
    Ok(token)
}

/// Text and mode of one and the same file.
fn read(path: &Utf8Path) -> io::Result<(String, u32)> {
    let mut file = File::open(path)?;
    let mode = file.metadata()?.permissions().mode();
    let mut text = String::new();
    file.read_to_string(&mut text)?;
    Ok((text, mode))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_made_once_and_kept_private() {
        let dir = tempfile::tempdir().unwrap();
        let path = Utf8Path::from_path(dir.path()).unwrap().join("token");
        let rng = rt::Rng::seeded(1);
        let token = read_or_make("admin token", &path, &rng).unwrap();
        assert_eq!(read_or_make("admin token", &path, &rng).unwrap(), token);
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        std::fs::write(&path, "short\n").unwrap();
        assert!(
            read_or_make("admin token", &path, &rng).unwrap_err().render().contains("16 visible")
        );
        for mode in [0o640, 0o604, 0o620] {
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
            let refused = read_or_make("admin token", &path, &rng).unwrap_err().render();
            assert!(refused.contains(&format!("mode is {mode:o}")), "{refused}");
            assert!(refused.contains("chmod 600"), "{refused}");
        }
    }
}
