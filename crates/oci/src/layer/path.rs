//! Paths of a layer, normalized.

use crate::config::limits::Limits;

/// The names from the root down, without empty names, `.` and `..`. The root is
/// the empty path.
pub(crate) type Path = Vec<Box<[u8]>>;

/// Normalizes a path: `./a`, `/a` and `a/` are the same. A path that could
/// leave the root is refused.
pub(crate) fn normalize(raw: &[u8], limits: &Limits) -> Result<Path, String> {
    if raw.len() > limits.path_bytes {
        return Err(format!("is longer than the limit of {} bytes", limits.path_bytes));
    }
    if raw.contains(&0) {
        return Err("contains NUL".into());
    }
    let mut path = Path::new();
    for name in raw.split(|&b| b == b'/') {
        match name {
            b"" | b"." => {}
            b".." => return Err("contains '..'".into()),
            name if name.len() > 255 => return Err("has a name of more than 255 bytes".into()),
            name => path.push(name.into()),
        }
    }
    if path.len() > limits.depth {
        return Err(format!("is deeper than the limit of {} directories", limits.depth));
    }
    Ok(path)
}

/// A path for messages: shortened, and printable once quoted.
pub(crate) fn display(raw: &[u8]) -> String {
    let text = String::from_utf8_lossy(raw);
    match text.char_indices().nth(120) {
        Some((cut, _)) => format!("{}…", &text[..cut]),
        None => text.into_owned(),
    }
}
