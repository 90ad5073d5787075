//! Sparse files, in the four formats of GNU tar: the old GNU header and pax 0.0,
//! 0.1 and 1.0 (<https://www.gnu.org/software/tar/manual/html_node/Sparse-Formats.html>).
//!
//! A map records where in the file its stored data belongs; the rest are holes,
//! which read as zeros. Maps come from the image, so each is checked: regions
//! are in order, do not overlap, stay within the file, and cover exactly the
//! data that is stored.

use crate::content::blob::Blob;
use crate::error::{Error, Result, failed};
use crate::layer::header::{self, BLOCK};
use std::fs::File;
use std::io::{self, Seek as _, SeekFrom};
use std::path::Path;
use tar::Header;

/// Regions of one file. GNU tar writes one per hole.
const MAX_REGIONS: usize = 1 << 18;
/// Bytes of a map in front of the data, at most two numbers of 20 digits per region.
const MAX_MAP_BYTES: u64 = 42 * MAX_REGIONS as u64;

/// Where stored data belongs in the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Region {
    pub(crate) offset: u64,
    pub(crate) len: u64,
}

/// A file that is stored without its holes.
#[derive(Debug)]
pub(crate) struct SparseFile {
    size: u64,
    regions: Vec<Region>,
    data: Blob,
}

impl SparseFile {
    /// Checks a map against the file's size and its stored data.
    pub(crate) fn new(size: u64, mut regions: Vec<Region>, data: Blob) -> Result<Self> {
        let mut end = 0;
        let mut stored = 0u64;
        for region in &regions {
            let after = region.offset.checked_add(region.len).filter(|after| *after <= size);
            let after = after.filter(|_| region.offset >= end);
            end = after.ok_or_else(|| {
                invalid("its regions overlap, are out of order, or exceed the file")
            })?;
            stored += region.len;
        }
        if stored != data.len {
            return Err(invalid(&format!(
                "its regions have {stored} bytes, {} bytes are stored",
                data.len
            )));
        }
        regions.retain(|region| region.len > 0);
        Ok(Self { size, regions, data })
    }

    /// The file's size, with its holes.
    pub(crate) fn size(&self) -> u64 {
        self.size
    }

    /// Bytes of the holes.
    pub(crate) fn hole_bytes(&self) -> u64 {
        self.size - self.data.len
    }

    /// Bytes of memory that the map takes.
    pub(crate) fn map_bytes(&self) -> usize {
        self.regions.len() * size_of::<Region>()
    }

    /// The parts of the file in order: a hole of so many bytes, then data.
    pub(crate) fn parts(&self) -> impl Iterator<Item = (u64, Blob)> {
        let (mut end, mut stored) = (0, 0);
        let last = Region { offset: self.size, len: 0 };
        self.regions.iter().copied().chain([last]).map(move |region| {
            let part = (region.offset - end, self.data.slice(stored, region.len));
            end = region.offset + region.len;
            stored += region.len;
            part
        })
    }

    /// The whole file as a new unnamed file in `dir`, whose holes take no space.
    pub(crate) fn expand(&self, dir: &Path) -> io::Result<Blob> {
        let mut file: File = tempfile::tempfile_in(dir)?;
        file.set_len(self.size)?;
        let mut offset = 0;
        for (hole, data) in self.parts() {
            file.seek(SeekFrom::Start(offset + hole))?;
            io::copy(&mut data.reader(), &mut file)?;
            offset += hole + data.len;
        }
        Blob::whole(file)
    }
}

fn invalid(problem: &str) -> Error {
    Error::refused(format!("the map of a sparse file is not valid: {problem}"))
}

fn too_many() -> Error {
    invalid(&format!("it has more than {MAX_REGIONS} regions"))
}

/// The map of a file with the old GNU header (type `S`). Returns the file's
/// size, the map, and the offset of the data, which follows the map's
/// extension blocks.
pub(crate) fn old_gnu(header: &Header, tar: &Blob, at: u64) -> Result<(u64, Vec<Region>, u64)> {
    let bytes = header.as_bytes();
    let size = header::number(&bytes[483..495]).ok_or_else(|| invalid("its size is no number"))?;
    let mut regions = Vec::new();
    let mut more = read_regions(&bytes[386..482], &mut regions)? && bytes[482] != 0;
    let mut at = at;
    while more {
        let mut block = [0; BLOCK as usize];
        let n = tar.read_at(&mut block, at).map_err(failed("read an unpacked layer"))?;
        if n < block.len() {
            return Err(Error::refused("the tar is truncated within a sparse map"));
        }
        at += BLOCK;
        read_regions(&block[..504], &mut regions)?;
        more = block[504] != 0;
    }
    Ok((size, regions, at))
}

/// Reads pairs of an offset and a length of twelve bytes each, up to an empty
/// one. Returns whether all were used.
fn read_regions(raw: &[u8], regions: &mut Vec<Region>) -> Result<bool> {
    for pair in raw.chunks_exact(24) {
        if pair[0] == 0 {
            return Ok(false);
        }
        let (offset, len) = (header::number(&pair[..12]), header::number(&pair[12..]));
        let (Some(offset), Some(len)) = (offset, len) else {
            return Err(invalid("a region is no number"));
        };
        if regions.len() == MAX_REGIONS {
            return Err(too_many());
        }
        regions.push(Region { offset, len });
    }
    Ok(true)
}

/// The pax records of an entry that describe a sparse file.
#[derive(Debug, Default)]
pub(crate) struct PaxSparse {
    /// `GNU.sparse.major` and `.minor`.
    version: (Option<u64>, Option<u64>),
    /// `GNU.sparse.size` (0.x) or `GNU.sparse.realsize` (1.0).
    size: Option<u64>,
    /// `GNU.sparse.map` (0.1), or repeated `.offset` and `.numbytes` (0.0).
    numbers: Option<Vec<u64>>,
}

impl PaxSparse {
    /// Takes the record `GNU.sparse.<key>`.
    pub(crate) fn set(&mut self, key: &[u8], value: &[u8]) -> Result<()> {
        match key {
            b"major" => self.version.0 = Some(decimal(value)?),
            b"minor" => self.version.1 = Some(decimal(value)?),
            b"size" | b"realsize" => self.size = Some(decimal(value)?),
            b"map" => {
                let numbers = value.split(|&b| b == b',').map(decimal);
                self.numbers = Some(numbers.take(2 * MAX_REGIONS + 1).collect::<Result<_>>()?);
            }
            b"offset" | b"numbytes" => {
                let numbers = self.numbers.get_or_insert_default();
                // Pairs in this order, each offset before its length.
                if (key == b"offset") != numbers.len().is_multiple_of(2) {
                    return Err(invalid("offsets and lengths do not alternate"));
                }
                numbers.push(decimal(value)?);
            }
            // The number of regions follows from the map; the name is the reader's.
            _ => {}
        }
        Ok(())
    }

    /// The file whose data, with the map in front for version 1.0, is `data`;
    /// none if the records describe no sparse file.
    pub(crate) fn file(&self, data: &Blob) -> Result<Option<SparseFile>> {
        let size = || self.size.ok_or_else(|| invalid("the file's size is missing"));
        match (self.version, &self.numbers) {
            ((Some(1), Some(0)), _) => {
                let (regions, data) = map_in_data(data)?;
                SparseFile::new(size()?, regions, data).map(Some)
            }
            ((None, None) | (Some(0), Some(0 | 1)), Some(numbers)) => {
                SparseFile::new(size()?, pairs(numbers)?, data.clone()).map(Some)
            }
            ((None, None), None) => Ok(None),
            ((major, minor), _) => {
                let (major, minor) = (major.unwrap_or(0), minor.unwrap_or(0));
                Err(Error::refused(format!(
                    "a sparse file has the format {major}.{minor}, which is not supported"
                )))
            }
        }
    }
}

fn decimal(value: &[u8]) -> Result<u64> {
    let parsed = std::str::from_utf8(value).ok().and_then(|text| text.parse().ok());
    parsed.ok_or_else(|| invalid("it has a value that is no number"))
}

fn pairs(numbers: &[u64]) -> Result<Vec<Region>> {
    let (pairs, rest) = numbers.as_chunks::<2>();
    if !rest.is_empty() {
        return Err(invalid("a region has no length"));
    }
    if pairs.len() > MAX_REGIONS {
        return Err(too_many());
    }
    Ok(pairs.iter().map(|&[offset, len]| Region { offset, len }).collect())
}

/// The map of version 1.0: decimal numbers, each on its line, first the number
/// of regions, padded to a block. Returns the map and the data behind it.
fn map_in_data(data: &Blob) -> Result<(Vec<Region>, Blob)> {
    let mut lines = Lines { data, at: 0, block: Vec::new() };
    let count = lines.number()?;
    let count = usize::try_from(count).ok().filter(|count| *count <= MAX_REGIONS);
    let mut regions = Vec::new();
    for _ in 0..count.ok_or_else(too_many)? {
        regions.push(Region { offset: lines.number()?, len: lines.number()? });
    }
    Ok((regions, data.slice(lines.at, u64::MAX)))
}

/// Lines of a map, read block by block; the data begins at `at` after the last.
struct Lines<'a> {
    data: &'a Blob,
    at: u64,
    block: Vec<u8>,
}

impl Lines<'_> {
    fn number(&mut self) -> Result<u64> {
        loop {
            if let Some(end) = self.block.iter().position(|&b| b == b'\n') {
                let number = decimal(&self.block[..end])?;
                self.block.drain(..=end);
                return Ok(number);
            }
            // The longest number has 20 digits.
            if self.block.len() > 20 || self.at > MAX_MAP_BYTES {
                return Err(invalid("a line is no number"));
            }
            let mut block = [0; BLOCK as usize];
            let n = self.data.read_at(&mut block, self.at);
            if n.map_err(failed("read an unpacked layer"))? < block.len() {
                return Err(invalid("it is truncated"));
            }
            self.at += BLOCK;
            self.block.extend_from_slice(&block);
        }
    }
}

#[cfg(test)]
#[path = "sparse_tests.rs"]
mod tests;
