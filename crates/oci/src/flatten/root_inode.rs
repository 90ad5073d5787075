//! Owner and time of the root directory of a SquashFS image.
//!
//! `sqfstar` 4.5.1 ignores the root's entry in the tar as well as `-root-uid`,
//! `-root-gid` and `-root-time`: the root directory would belong to the daemon's
//! user and have the time of the build, so equal images would differ. So the
//! root's inode is changed in the finished image. The format is described at
//! <https://dr-emann.github.io/squashfs/squashfs.html>.

use crate::layer::entry::Meta;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

const MAGIC: &[u8] = b"hsqs";
/// Bytes of a metadata block, without the two bytes of its header.
const BLOCK: u64 = 8192;
/// The bit of that header for a block that is not compressed.
const PLAIN: u16 = 0x8000;

/// Sets owner and time of the root directory of the image in `file`, whose
/// inodes and ids must not be compressed.
pub(crate) fn patch(file: &File, root: &Meta) -> io::Result<()> {
    let mut head = [0; 96];
    file.read_exact_at(&mut head, 0)?;
    if !head.starts_with(MAGIC) {
        return Err(io::Error::other("not a SquashFS image"));
    }
    let ids = u64::from(u16_of(&head[26..]));
    let (at, id_table, inodes) = (u64_of(&head[32..]), u64_of(&head[48..]), u64_of(&head[64..]));
    let (start, offset) = (inodes + (at >> 16), at & 0xffff);
    check_plain(file, start)?;
    // The inode begins with its type and mode, two bytes each; the owner follows.
    for (wanted, field) in [(root.uid, 4), (root.gid, 6)] {
        match position(file, id_table, ids, wanted)? {
            Some(id) => write(file, start, offset + field, &id.to_le_bytes())?,
            // The table has the owners of all other inodes, and none has this one.
            None => tracing::warn!(id = wanted, "owner of the root directory cannot be stored"),
        }
    }
    write(file, start, offset + 8, &root.mtime.to_le_bytes())
}

/// Writes at an offset of a table of metadata blocks, of which all but the last are full.
fn write(file: &File, table: u64, offset: u64, bytes: &[u8]) -> io::Result<()> {
    for (byte, offset) in bytes.iter().zip(offset..) {
        file.write_all_at(&[*byte], table + offset + 2 * (1 + offset / BLOCK))?;
    }
    Ok(())
}

/// The position of `wanted` in the id table.
fn position(file: &File, table: u64, ids: u64, wanted: u32) -> io::Result<Option<u16>> {
    let mut block = [0; 8];
    for n in 0..ids {
        let bytes = n * 4;
        file.read_exact_at(&mut block, table + bytes / BLOCK * 8)?;
        let start = u64::from_le_bytes(block);
        if bytes % BLOCK == 0 {
            check_plain(file, start)?;
        }
        let mut id = [0; 4];
        file.read_exact_at(&mut id, start + 2 + bytes % BLOCK)?;
        if u32::from_le_bytes(id) == wanted {
            return Ok(u16::try_from(n).ok());
        }
    }
    Ok(None)
}

fn check_plain(file: &File, block: u64) -> io::Result<()> {
    let mut head = [0; 2];
    file.read_exact_at(&mut head, block)?;
    match u16::from_le_bytes(head) & PLAIN {
        0 => Err(io::Error::other("its metadata is compressed")),
        _ => Ok(()),
    }
}

fn u16_of(bytes: &[u8]) -> u16 {
    u16::from_le_bytes([bytes[0], bytes[1]])
}

fn u64_of(bytes: &[u8]) -> u64 {
    let mut out = [0; 8];
    out.copy_from_slice(&bytes[..8]);
    u64::from_le_bytes(out)
}
