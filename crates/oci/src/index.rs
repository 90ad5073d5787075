//! What a layer's tar says, entry by entry, each within the limits.
//!
//! Headers are read here and not by `tar::Archive`, since extended attributes
//! are binary (a capability holds NUL and may hold a newline), sizes come from
//! either header, and every length must be checked before it is believed.

use crate::blob::Blob;
use crate::config::Limits;
use crate::fault::{Fault, Result, failed};
use std::collections::BTreeMap;
use tar::{EntryType, Header};

const BLOCK: u64 = 512;

/// Names from the root down: no empty one, no `.`, no `..`. Empty is the root.
pub(crate) type Path = Vec<Box<[u8]>>;

/// Extended attributes by name.
pub(crate) type Xattrs = BTreeMap<Box<[u8]>, Box<[u8]>>;

/// One entry of a layer.
#[derive(Debug)]
pub(crate) struct Entry {
    pub(crate) path: Path,
    pub(crate) what: What,
    pub(crate) meta: Meta,
}

/// What is at a path.
#[derive(Debug)]
pub(crate) enum What {
    Dir,
    File(Blob),
    Symlink(Box<[u8]>),
    /// Another name of the inode that is at this path now.
    Link(Path),
    Char(u32, u32),
    Block(u32, u32),
    Fifo,
    /// The path goes, as far as it came from layers below.
    Whiteout,
    /// All below the path goes, as far as it came from layers below.
    Opaque,
}

/// Owner, permissions, time.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Meta {
    pub(crate) mode: u32,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    /// Seconds since the epoch, as far as SquashFS can hold them.
    pub(crate) mtime: u32,
    /// `None` for none: most have none.
    pub(crate) xattrs: Option<Box<Xattrs>>,
}

/// What extension headers said about the entry that follows.
#[derive(Default)]
struct Extensions {
    path: Option<Vec<u8>>,
    link: Option<Vec<u8>>,
    size: Option<u64>,
    uid: Option<u64>,
    gid: Option<u64>,
    mtime: Option<u64>,
    xattrs: Xattrs,
    xattr_bytes: usize,
}

/// Calls `each` for every entry of the tar, in order.
pub(crate) fn walk(
    tar: &Blob,
    limits: &Limits,
    mut each: impl FnMut(Entry) -> Result<()>,
) -> Result<()> {
    let mut at = 0;
    let mut extensions = Extensions::default();
    while let Some(header) = header_at(tar, at)? {
        at += BLOCK;
        let kind = header.entry_type();
        let size = data_size(&header, &extensions)?;
        if size > tar.len - at {
            return Err(Fault::refused("the tar is truncated within an entry"));
        }
        let data = tar.slice(at, size);
        at += size.div_ceil(BLOCK) * BLOCK;
        match kind {
            EntryType::GNULongName => extensions.path = Some(long_name(&data, limits)?),
            EntryType::GNULongLink => extensions.link = Some(long_name(&data, limits)?),
            EntryType::XHeader => extensions.read(&data, limits)?,
            // Says what holds for all that follows; only comments in practice.
            EntryType::XGlobalHeader => {}
            _ => {
                if let Some(found) = entry(&header, std::mem::take(&mut extensions), data, limits)?
                {
                    each(found)?;
                }
            }
        }
    }
    Ok(())
}

/// The header at an offset, unless the archive ends there.
fn header_at(tar: &Blob, at: u64) -> Result<Option<Header>> {
    let mut header = Header::new_old();
    let n = tar.read_at(header.as_mut_bytes(), at).map_err(failed("read a spooled layer"))?;
    let bytes = header.as_bytes();
    if n == 0 || (n == bytes.len() && bytes.iter().all(|&b| b == 0)) {
        return Ok(None);
    }
    if n < bytes.len() {
        return Err(Fault::refused("the tar is truncated within a header"));
    }
    let sum: u32 = bytes[..148].iter().chain(&bytes[156..]).map(|&b| u32::from(b)).sum();
    if header.cksum().ok() != Some(sum + 8 * u32::from(b' ')) {
        return Err(Fault::refused(
            "a layer is no tar, or is damaged: a header's checksum is wrong",
        ));
    }
    Ok(Some(header))
}

fn data_size(header: &Header, extensions: &Extensions) -> Result<u64> {
    use EntryType as T;
    match header.entry_type() {
        // These have no data whatever their header says (as Go reads them).
        T::Link | T::Symlink | T::Char | T::Block | T::Directory | T::Fifo => Ok(0),
        T::XHeader | T::XGlobalHeader | T::GNULongName | T::GNULongLink => {
            field(&header.as_old().size)
                .ok_or_else(|| Fault::refused("an extension's size is no number"))
        }
        _ => match extensions.size {
            Some(size) => Ok(size),
            None => field(&header.as_old().size)
                .ok_or_else(|| Fault::refused("an entry's size is no number")),
        },
    }
}

/// A number of a header: octal digits, blank for 0 (as Go reads it), or the
/// base-256 form if the first bit is set. `None` if negative or none.
fn field(raw: &[u8]) -> Option<u64> {
    let first = *raw.first()?;
    if first & 0x80 != 0 {
        let negative = first & 0x40 != 0;
        let high = u64::from(first & 0x3f);
        let value = raw[1..].iter().try_fold(high, |value, &byte| {
            value.checked_mul(256).map(|value| value | u64::from(byte))
        });
        return value.filter(|_| !negative);
    }
    let digits = raw.trim_ascii_start();
    let end = digits.iter().position(|b| matches!(b, 0 | b' ')).unwrap_or(digits.len());
    digits[..end].iter().try_fold(0u64, |value, &digit| match digit {
        b'0'..=b'7' => value.checked_mul(8).map(|value| value + u64::from(digit - b'0')),
        _ => None,
    })
}

fn long_name(data: &Blob, limits: &Limits) -> Result<Vec<u8>> {
    if data.len > limits.path_bytes as u64 + 1 {
        return Err(too_long(limits));
    }
    let mut name = data.bytes().map_err(failed("read a spooled layer"))?;
    while name.last() == Some(&0) {
        name.pop();
    }
    Ok(name)
}

fn too_long(limits: &Limits) -> Fault {
    Fault::refused(format!(
        "a path or link is longer than the limit of {} bytes",
        limits.path_bytes
    ))
}

impl Extensions {
    /// Reads pax records: `<length> <key>=<value>\n`.
    fn read(&mut self, data: &Blob, limits: &Limits) -> Result<()> {
        let most = limits.xattr_bytes + 4 * limits.path_bytes + (64 << 10);
        if data.len > most as u64 {
            return Err(Fault::refused(format!("a pax header exceeds the limit of {most} bytes")));
        }
        let bytes = data.bytes().map_err(failed("read a spooled layer"))?;
        let mut rest = &bytes[..];
        while !rest.is_empty() {
            let (record, after) =
                split_record(rest).ok_or_else(|| Fault::refused("a pax header is damaged"))?;
            rest = after;
            let eq = record.iter().position(|&b| b == b'=');
            let eq = eq.ok_or_else(|| Fault::refused("a pax header is damaged"))?;
            self.set(&record[..eq], &record[eq + 1..], limits)?;
        }
        Ok(())
    }

    fn set(&mut self, key: &[u8], value: &[u8], limits: &Limits) -> Result<()> {
        if key.starts_with(b"GNU.sparse.") {
            return Err(Fault::refused("sparse entries are not supported"));
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
            return Err(Fault::refused(format!(
                "the extended attributes of an entry exceed the limit of {} bytes",
                limits.xattr_bytes
            )));
        }
        // SquashFS holds these three namespaces; others (POSIX ACLs) are left out.
        let known = [&b"user."[..], b"trusted.", b"security."];
        let kept = known.iter().any(|p| name.starts_with(p) && name.len() > p.len());
        if kept && name.len() <= 255 && value.len() <= (64 << 10) && !name.contains(&0) {
            self.xattrs.insert(name.into(), value.into());
        }
        Ok(())
    }
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
        Fault::refused(format!("pax value {} is no number", String::from_utf8_lossy(key)))
    })
}

/// Whole seconds of a pax time, which may have a fraction; 0 if before the epoch.
fn seconds(value: &[u8]) -> u64 {
    let text = String::from_utf8_lossy(value);
    text.split('.').next().and_then(|whole| whole.parse().ok()).unwrap_or(0)
}

fn entry(header: &Header, ext: Extensions, data: Blob, limits: &Limits) -> Result<Option<Entry>> {
    let raw = ext.path.clone().unwrap_or_else(|| header.path_bytes().into_owned());
    let shown = show(&raw);
    let refuse = |problem: &str| Fault::refused(format!("entry {shown:?} {problem}"));
    let path = path(&raw, limits).map_err(|problem| refuse(&problem))?;
    let meta = meta(header, &ext).map_err(refuse)?;
    let link = || -> Vec<u8> {
        ext.link.clone().unwrap_or_else(|| {
            header.link_name_bytes().map(|name| name.into_owned()).unwrap_or_default()
        })
    };
    let device = || -> Result<(u32, u32)> {
        let bytes = header.as_bytes();
        match (field(&bytes[329..337]), field(&bytes[337..345])) {
            (Some(major), Some(minor)) if major < 1 << 12 && minor < 1 << 20 => {
                Ok((major as u32, minor as u32))
            }
            _ => Err(refuse("has device numbers that are none")),
        }
    };
    let what = match header.entry_type() {
        // Version 7 had no type for directories.
        EntryType::Regular if raw.ends_with(b"/") => What::Dir,
        EntryType::Regular | EntryType::Continuous => What::File(data),
        EntryType::Directory => What::Dir,
        EntryType::Symlink => {
            let target = link();
            if target.is_empty() || target.len() > limits.path_bytes || target.contains(&0) {
                return Err(refuse("is a symbolic link with an empty, overlong or broken target"));
            }
            What::Symlink(target.into())
        }
        EntryType::Link => {
            let target = link();
            What::Link(self::path(&target, limits).map_err(|problem| {
                refuse(&format!("is a hard link to {:?}, which {problem}", show(&target)))
            })?)
        }
        EntryType::Char => device().map(|(major, minor)| What::Char(major, minor))?,
        EntryType::Block => device().map(|(major, minor)| What::Block(major, minor))?,
        EntryType::Fifo => What::Fifo,
        EntryType::GNUSparse => return Err(refuse("is sparse, which is not supported")),
        other => {
            let byte = char::from(other.as_byte());
            return Err(refuse(&format!("is of the unknown type {byte:?}")));
        }
    };
    whiteout(Entry { path, what, meta }).map_err(|problem| refuse(&problem))
}

fn meta(header: &Header, ext: &Extensions) -> Result<Meta, &'static str> {
    let old = header.as_old();
    let id = |told: Option<u64>, raw: &[u8]| {
        let id = told.or_else(|| field(raw)).ok_or("has an owner that is no number")?;
        u32::try_from(id).map_err(|_| "has an owner beyond 32 bits")
    };
    // A time that is none, or before the epoch, is no reason to refuse an image.
    let mtime = ext.mtime.or_else(|| field(&old.mtime)).unwrap_or(0);
    let mode = field(&old.mode).ok_or("has a mode that is no number")?;
    Ok(Meta {
        mode: (mode & 0o7777) as u32,
        uid: id(ext.uid, &old.uid)?,
        gid: id(ext.gid, &old.gid)?,
        mtime: u32::try_from(mtime).unwrap_or(u32::MAX),
        xattrs: (!ext.xattrs.is_empty()).then(|| Box::new(ext.xattrs.clone())),
    })
}

/// Names with the prefix `.wh.` stand for the absence of something.
fn whiteout(mut entry: Entry) -> Result<Option<Entry>, String> {
    let above = entry.path.len().saturating_sub(1);
    // The remains of AUFS' own bookkeeping; they are no files of the image.
    let aufs = |name: &[u8]| name.starts_with(b".wh..wh.") && name != b".wh..wh..opq";
    if entry.path.iter().any(|name| aufs(name)) {
        return Ok(None);
    }
    if entry.path.iter().take(above).any(|name| name.starts_with(b".wh.")) {
        return Err("is below a whiteout".into());
    }
    let Some(name) = entry.path.last().and_then(|name| name.strip_prefix(b".wh.")) else {
        return Ok(Some(entry));
    };
    match name {
        b".wh..opq" => {
            entry.path.pop();
            entry.what = What::Opaque;
        }
        b"" | b"." | b".." => return Err("is a whiteout of nothing".into()),
        name => {
            let name = name.into();
            entry.path.pop();
            entry.path.push(name);
            entry.what = What::Whiteout;
        }
    }
    Ok(Some(entry))
}

/// `./a`, `/a` and `a/` are the same; what could leave the root is refused.
pub(crate) fn path(raw: &[u8], limits: &Limits) -> Result<Path, String> {
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

/// A path for people: short, and printable once quoted.
pub(crate) fn show(raw: &[u8]) -> String {
    let text = String::from_utf8_lossy(raw);
    match text.char_indices().nth(120) {
        Some((cut, _)) => format!("{}…", &text[..cut]),
        None => text.into_owned(),
    }
}
