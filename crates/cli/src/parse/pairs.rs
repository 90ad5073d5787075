//! `KEY=value` flags, and files for the guest.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use std::path::Path;
use wire::machines::{File, Mount};

/// `KEY=value`; the value may be empty or hold further `=`.
pub(crate) fn key_value(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
        _ => Err(format!("{text:?} is not of the form KEY=value")),
    }
}

/// `/path/in/guest=text`; the text is encoded here.
pub(crate) fn file_literal(text: &str) -> Result<File, String> {
    let (path, value) = guest_file(text)?;
    Ok(file(path, value.as_bytes()))
}

/// `/path/in/guest=local/path`, the latter relative to `cwd`.
pub(crate) fn file_local(text: &str, cwd: &Path) -> Result<File, String> {
    let (path, local) = guest_file(text)?;
    let local = cwd.join(local);
    let bytes = std::fs::read(&local).map_err(|err| format!("read {}: {err}", local.display()))?;
    Ok(file(path, &bytes))
}

/// `NAME:/path` or `vol_ID:/path` of a volume.
pub(crate) fn mount(text: &str) -> Result<Mount, String> {
    let (volume, path) = text.split_once(':').unwrap_or((text, ""));
    if volume.is_empty() || !path.starts_with('/') {
        return Err("write NAME:/PATH or ID:/PATH".to_owned());
    }
    let path = Some(path.to_owned());
    let (id, name) = match volume.starts_with("vol_") {
        true => (Some(volume.to_owned()), None),
        false => (None, Some(volume.to_owned())),
    };
    Ok(Mount { volume: id, name, path, ..Mount::default() })
}

/// `/path/in/guest=NAME` of a secret, whose value is the content in base64.
pub(crate) fn file_secret(text: &str) -> Result<File, String> {
    let (guest_path, name) = guest_file(text)?;
    Ok(File { guest_path, secret_name: Some(name), ..File::default() })
}

fn guest_file(text: &str) -> Result<(String, String), String> {
    let (path, value) = key_value(text)?;
    if !path.starts_with('/') {
        return Err(format!("{path:?} is no absolute path in the machine"));
    }
    Ok((path, value))
}

fn file(guest_path: String, bytes: &[u8]) -> File {
    File { guest_path, raw_value: Some(STANDARD.encode(bytes)), ..File::default() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pairs_and_files() {
        assert_eq!(key_value("A=b=c"), Ok(("A".into(), "b=c".into())));
        assert_eq!(key_value("A="), Ok(("A".into(), String::new())));
        assert!(key_value("A").is_err() && key_value("=x").is_err());
        let literal = file_literal("/etc/motd=hi").unwrap();
        assert_eq!(
            (literal.guest_path.as_str(), literal.raw_value.as_deref()),
            ("/etc/motd", Some("aGk="))
        );
        assert_eq!(file_secret("/etc/key=KEY").unwrap().secret_name.as_deref(), Some("KEY"));
        assert!(file_literal("motd=hi").unwrap_err().contains("absolute"));
        assert!(
            file_local("/x=nowhere", Path::new("/nonexistent")).unwrap_err().contains("nowhere")
        );
    }
}
