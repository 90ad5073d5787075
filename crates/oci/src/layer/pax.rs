//! Extension headers: pax records and GNU long names, which describe the entry
//! that follows.

use crate::config::limits::Limits;
use crate::content::blob::Blob;
use crate::error::{Error, Result, failed};
use crate::layer::entry::Xattrs;
use crate::layer::sparse::PaxSparse;

/// Bytes of a pax header beside its attributes and paths: sparse maps mostly.
const OTHER_BYTES: usize = 1 << 20;

/// The content of extension headers.
#[derive(Default)]
pub(crate) struct Extensions {
    pub(crate) path: Option<Vec<u8>>,
    pub(crate) link: Option<Vec<u8>>,
    pub(crate) size: Option<u64>,
    pub(crate) uid: Option<u64>,
    pub(crate) gid: Option<u64>,
    pub(crate) mtime: Option<u64>,
    pub(crate) xattrs: Xattrs,
    pub(crate) sparse: PaxSparse,
    /// `GNU.sparse.name`, which replaces `path`.
    sparse_name: Option<Vec<u8>>,
    xattr_bytes: usize,
}

impl Extensions {
    /// The path of the entry, if it is not the header's.
    pub(crate) fn path(&self) -> Option<&Vec<u8>> {
        self.sparse_name.as_ref().or(self.path.as_ref())
    }

    /// Reads pax records: `<length> <key>=<value>\n`.
    pub(crate) fn read(&mut self, data: &Blob, limits: &Limits) -> Result<()> {
        let most = limits.xattr_bytes + 4 * limits.path_bytes + OTHER_BYTES;
        if data.len > most as u64 {
            return Err(Error::refused(format!("a pax header exceeds the limit of {most} bytes")));
        }
        let bytes = data.bytes().map_err(failed("read an unpacked layer"))?;
        let mut rest = &bytes[..];
        while !rest.is_empty() {
            let (record, after) =
                split_record(rest).ok_or_else(|| Error::refused("a pax header is damaged"))?;
            rest = after;
            let eq = record.iter().position(|&b| b == b'=');
            let eq = eq.ok_or_else(|| Error::refused("a pax header is damaged"))?;
            self.set(&record[..eq], &record[eq + 1..], limits)?;
        }
        Ok(())
    }

    fn set(&mut self, key: &[u8], value: &[u8], limits: &Limits) -> Result<()> {
        if key == b"GNU.sparse.name" {
            self.sparse_name = Some(value.to_vec());
            return Ok(());
        }
        if let Some(key) = key.strip_prefix(b"GNU.sparse.") {
            return self.sparse.set(key, value);
        }
        if let Some(name) = key.strip_prefix(b"SCHILY.xattr.") {
            return self.set_xattr(name, value, limits);
        }
        match key {
            b"path" => self.path = (!value.is_empty()).then(|| value.to_vec()),
            b"linkpath" => self.link = (!value.is_empty()).then(|| value.to_vec()),
            b"size" => self.size = Some(number(key, value)?),
            b"uid" => self.uid = Some(number(key, value)?),
            b"gid" => self.gid = Some(number(key, value)?),
            b"mtime" => self.mtime = Some(seconds(value)),
            _ => {}
        }
        Ok(())
    }

    fn set_xattr(&mut self, name: &[u8], value: &[u8], limits: &Limits) -> Result<()> {
        self.xattr_bytes += name.len() + value.len();
        if self.xattr_bytes > limits.xattr_bytes {
            return Err(Error::refused(format!(
                "the extended attributes of an entry exceed the limit of {} bytes",
                limits.xattr_bytes
            )));
        }
        // SquashFS stores these three namespaces; others (POSIX ACLs) are left out.
        let known = [&b"user."[..], b"trusted.", b"security."];
        let kept = known.iter().any(|p| name.starts_with(p) && name.len() > p.len());
        if kept && name.len() <= 255 && value.len() <= (64 << 10) && !name.contains(&0) {
            self.xattrs.insert(name.into(), value.into());
        }
        Ok(())
    }
}

/// The name in the data of a GNU long name header.
pub(crate) fn long_name(data: &Blob, limits: &Limits) -> Result<Vec<u8>> {
    if data.len > limits.path_bytes as u64 + 1 {
        return Err(Error::refused(format!(
            "a path or link is longer than the limit of {} bytes",
            limits.path_bytes
        )));
    }
    let mut name = data.bytes().map_err(failed("read an unpacked layer"))?;
    while name.last() == Some(&0) {
        name.pop();
    }
    Ok(name)
}

fn split_record(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let space = bytes.iter().take(12).position(|&b| b == b' ')?;
    let len: usize = std::str::from_utf8(&bytes[..space]).ok()?.parse().ok()?;
    let record = bytes.get(space + 1..len)?.strip_suffix(b"\n")?;
    Some((record, &bytes[len..]))
}

fn number(key: &[u8], value: &[u8]) -> Result<u64> {
    let parsed = std::str::from_utf8(value).ok().and_then(|text| text.parse().ok());
    parsed.ok_or_else(|| {
        Error::refused(format!("pax value {} is no number", String::from_utf8_lossy(key)))
    })
}

/// Whole seconds of a pax time, which may have a fraction; 0 before the epoch.
fn seconds(value: &[u8]) -> u64 {
    let text = String::from_utf8_lossy(value);
    text.split('.').next().and_then(|whole| whole.parse().ok()).unwrap_or(0)
}
