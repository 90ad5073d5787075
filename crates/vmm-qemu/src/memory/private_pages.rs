//! The pages of a guest that live in its VM's process alone.
//!
//! A VM that maps a memory file privately writes to copies of its pages. The
//! kernel lists them in `/proc/<pid>/pagemap`: pages that are there
//! and belong to no file. They are read through `/proc/<pid>/mem`, while the VM
//! is paused. See proc_pid_pagemap(5) and Documentation/admin-guide/mm/pagemap.rst.

use super::sparse::{CHUNK, PAGE};
use std::fs::{self, File};
use std::io;
use std::ops::Range;
use std::os::unix::fs::{FileExt, MetadataExt};
use tokio_util::sync::CancellationToken;

const PRESENT: u64 = 1 << 63;
const SWAPPED: u64 = 1 << 62;
/// The page is the file's, or shared memory.
const OF_FILE: u64 = 1 << 61;
/// Entries of pagemap read at a time.
const ENTRIES: usize = 64 * 1024;

/// A process's mapping of its guest's memory.
#[derive(Debug)]
pub(crate) struct PrivatePages {
    memory: File,
    pagemap: File,
    mapped: Vec<Mapped>,
    /// Whether writes go to the file: then no page is the process's own.
    shared: bool,
}

/// A piece of it: addresses of the process, and where they begin in the file.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Mapped {
    addresses: Range<u64>,
    offset: u64,
}

impl PrivatePages {
    /// Looks for the mapping of `file` in process `pid`.
    ///
    /// # Errors
    /// It is not mapped whole, or the process has gone.
    pub(crate) fn find(pid: u32, file: &File) -> io::Result<Self> {
        let maps = fs::read_to_string(format!("/proc/{pid}/maps"))?;
        let found = file.metadata()?;
        let (mapped, shared) = mapped(&maps, found.ino());
        let whole: u64 = mapped.iter().map(|m| m.addresses.end - m.addresses.start).sum();
        if whole != found.len() {
            return Err(io::Error::other("the guest's memory is not mapped whole"));
        }
        let memory = File::open(format!("/proc/{pid}/mem"))?;
        let pagemap = File::open(format!("/proc/{pid}/pagemap"))?;
        Ok(Self { memory, pagemap, mapped, shared })
    }

    /// Writes go to the file, which therefore is the guest's whole memory.
    pub(crate) fn is_shared(&self) -> bool {
        self.shared
    }

    /// Bytes of pages that are the process's own.
    ///
    /// # Errors
    /// The process has gone.
    pub(crate) fn bytes(&self) -> io::Result<u64> {
        let mut bytes = 0;
        self.each_run(|_, run| {
            bytes += run.end - run.start;
            Ok(())
        })?;
        Ok(bytes)
    }

    /// Writes the process's own pages to their places in `target`. Returns the
    /// bytes written. The VM must be paused.
    ///
    /// # Errors
    /// Those of both sides; `Interrupted` if `cancel` was called.
    pub(crate) fn write_to(&self, target: &File, cancel: &CancellationToken) -> io::Result<u64> {
        let (mut buffer, mut written) = (vec![0; CHUNK], 0);
        self.each_run(|mapped, run| {
            let mut at = run.start;
            while at < run.end {
                if cancel.is_cancelled() {
                    return Err(io::ErrorKind::Interrupted.into());
                }
                let want = usize::try_from(run.end - at).map_or(CHUNK, |left| left.min(CHUNK));
                self.memory.read_exact_at(&mut buffer[..want], at)?;
                let offset = mapped.offset + (at - mapped.addresses.start);
                target.write_all_at(&buffer[..want], offset)?;
                at += want as u64;
                written += want as u64;
            }
            Ok(())
        })?;
        Ok(written)
    }

    /// Gives the address ranges of own pages, neighbours joined.
    fn each_run(
        &self,
        mut each: impl FnMut(&Mapped, Range<u64>) -> io::Result<()>,
    ) -> io::Result<()> {
        if self.shared {
            return Ok(());
        }
        let mut bytes = vec![0; ENTRIES * 8];
        for mapped in &self.mapped {
            let mut at = mapped.addresses.start;
            while at < mapped.addresses.end {
                let left = (mapped.addresses.end - at) / PAGE;
                let entries = usize::try_from(left).map_or(ENTRIES, |left| left.min(ENTRIES));
                let bytes = &mut bytes[..entries * 8];
                self.pagemap.read_exact_at(bytes, at / PAGE * 8)?;
                for pages in own_runs(bytes) {
                    each(mapped, at + pages.start * PAGE..at + pages.end * PAGE)?;
                }
                at += entries as u64 * PAGE;
            }
        }
        Ok(())
    }
}

/// The mappings of the file with this inode in a text of `/proc/<pid>/maps`, and
/// whether writes to them go to the file. The device is not compared: some file
/// systems report another one here than in stat(2).
fn mapped(maps: &str, inode: u64) -> (Vec<Mapped>, bool) {
    let mut shared = false;
    let parse = |line: &str| {
        let mut fields = line.split_ascii_whitespace();
        let (from, to) = fields.next()?.split_once('-')?;
        let (rights, offset) = (fields.next()?, fields.next()?);
        let found: u64 = fields.nth(1)?.parse().ok()?;
        (found == inode).then_some(())?;
        let number = |text| u64::from_str_radix(text, 16).ok();
        shared |= rights.ends_with('s');
        Some(Mapped { addresses: number(from)?..number(to)?, offset: number(offset)? })
    };
    let found = maps.lines().filter_map(parse).collect();
    (found, shared)
}

/// Runs of pages that are the process's own, counted from the first entry.
fn own_runs(pagemap: &[u8]) -> Vec<Range<u64>> {
    let mut runs: Vec<Range<u64>> = Vec::new();
    let (entries, _) = pagemap.as_chunks::<8>();
    for (page, entry) in entries.iter().enumerate() {
        let entry = u64::from_ne_bytes(*entry);
        if entry & (PRESENT | SWAPPED) == 0 || entry & OF_FILE != 0 {
            continue;
        }
        let page = page as u64;
        match runs.last_mut().filter(|last| last.end == page) {
            Some(last) => last.end = page + 1,
            None => runs.push(page..page + 1),
        }
    }
    runs
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::mm::{MapFlags, ProtFlags, mmap, munmap};

    const PAGES: u64 = 64;

    /// Maps a file of 64 pages, writes to two pages through the mapping, reads
    /// another, and looks at itself.
    fn written(flags: MapFlags) -> (File, File, Vec<u8>) {
        let file = crate::memory::ram_file::fresh(1).unwrap();
        file.set_len(PAGES * PAGE).unwrap();
        file.write_all_at(b"template", 0).unwrap();
        file.write_all_at(b"template", 9 * PAGE).unwrap();
        let len = (PAGES * PAGE) as usize;
        let rights = ProtFlags::READ | ProtFlags::WRITE;
        // SAFETY: a new mapping of a file that is as long.
        let map = unsafe { mmap(std::ptr::null_mut(), len, rights, flags, &file, 0) }.unwrap();
        let bytes = map.cast::<u8>();
        // SAFETY: within the mapping, which only this test knows.
        unsafe {
            bytes.add(9 * PAGE as usize).write_volatile(b'T');
            bytes.add(63 * PAGE as usize).write_volatile(b'E');
            let _ = bytes.read_volatile();
        }
        let target = tempfile::tempfile().unwrap();
        target.set_len(PAGES * PAGE).unwrap();
        let private_pages = PrivatePages::find(std::process::id(), &file).unwrap();
        let bytes = private_pages.bytes().unwrap();
        let wrote = private_pages.write_to(&target, &CancellationToken::new()).unwrap();
        assert_eq!((bytes, private_pages.is_shared()), (wrote, flags.contains(MapFlags::SHARED)));
        // SAFETY: nothing refers to the mapping any more.
        unsafe { munmap(map, len) }.unwrap();
        let mut found = vec![0; len];
        target.read_exact_at(&mut found, 0).unwrap();
        (file, target, found)
    }

    #[test]
    fn only_what_was_written_to_is_the_processs_own() {
        let (_, _, found) = written(MapFlags::PRIVATE);
        let pages: Vec<usize> = found
            .chunks(PAGE as usize)
            .enumerate()
            .filter(|(_, page)| page.iter().any(|byte| *byte != 0))
            .map(|(number, _)| number)
            .collect();
        assert_eq!(pages, [9, 63]);
        assert_eq!(&found[9 * PAGE as usize..][..8], b"Template");
    }

    #[test]
    fn writes_to_a_shared_mapping_are_the_files() {
        let (file, _, found) = written(MapFlags::SHARED);
        assert!(found.iter().all(|byte| *byte == 0));
        let mut byte = [0];
        file.read_exact_at(&mut byte, 63 * PAGE).unwrap();
        assert_eq!(byte, [b'E']);
    }

    #[test]
    fn mappings_are_found_by_their_inode() {
        let maps = "\
7f10-7f20 rw-p 00001000 00:01 77   /memfd:guest-memory (deleted)\n\
7f20-7f30 r--p 00000000 00:01 78   /lib/x\n\
7f30-7f40 rw-p 00000000 00:00 0 \n";
        let (found, shared) = mapped(maps, 77);
        assert_eq!(found, [Mapped { addresses: 0x7f10..0x7f20, offset: 0x1000 }]);
        assert!(!shared);
    }
}
