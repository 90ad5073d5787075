//! Sparse files in the four formats, and maps that are not valid.

use super::*;
use crate::config::limits::Limits;
use crate::content::unpack;
use crate::layer::entry::{Entry, EntryKind, FileData};
use crate::layer::reader;
use crate::layer::testing::header;
use std::io::Write as _;
use tar::EntryType;

/// 1 MiB of zeros with an `x` at 500 000.
const SIZE: u64 = 1 << 20;
const DIGEST: &str = "sha256:a41f621d5dd80dd874b3b3ebbbac2ab52b7af2eff44e95edf3057b50e043dd6c";

/// The stored block of the file, at 499 712.
fn data() -> Vec<u8> {
    let mut data = vec![0; 512];
    data[500_000 - 499_712] = b'x';
    data
}

fn entry(kind: EntryType, name: &str, data: &[u8], change: impl FnOnce(&mut Header)) -> Vec<u8> {
    let mut header = header(kind, name, data.len());
    change(&mut header);
    header.set_cksum();
    let mut tar = header.as_bytes().to_vec();
    tar.extend_from_slice(data);
    tar.resize(tar.len().next_multiple_of(512), 0);
    tar
}

/// A tar of one file with pax records in front.
fn pax(records: &[(&str, &str)], data: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for (key, value) in records {
        // The length counts its own digits: two or three here.
        let rest = format!(" GNU.sparse.{key}={value}\n");
        let len = if rest.len() + 2 < 100 { rest.len() + 2 } else { rest.len() + 3 };
        bytes.extend(format!("{len}{rest}").into_bytes());
    }
    let mut tar = entry(EntryType::XHeader, "pax", &bytes, |_| {});
    tar.extend(entry(EntryType::Regular, "GNUSparseFile.1/s", data, |_| {}));
    tar
}

/// The map of version 1.0, with the data behind it.
fn map_and_data(map: &str, data: &[u8]) -> Vec<u8> {
    let mut bytes = map.as_bytes().to_vec();
    bytes.resize(bytes.len().next_multiple_of(512), 0);
    bytes.extend_from_slice(data);
    bytes
}

/// Numbers in the twelve octal digits of an old GNU header.
fn octal(numbers: &[u64]) -> Vec<u8> {
    numbers.iter().flat_map(|n| format!("{n:011o}\0").into_bytes()).collect()
}

/// A tar of one file of the size with the old GNU header.
fn old_gnu_tar(size: u64, map: &[u64], data: &[u8]) -> Vec<u8> {
    let (first, rest) = map.split_at(map.len().min(8));
    let mut tar = entry(EntryType::GNUSparse, "s", data, |header| {
        let bytes = header.as_mut_bytes();
        bytes[386..386 + first.len() * 12].copy_from_slice(&octal(first));
        bytes[482] = u8::from(!rest.is_empty());
        bytes[483..495].copy_from_slice(&octal(&[size]));
    });
    let mut at = 512;
    let mut blocks = rest.chunks(42).peekable();
    while let Some(numbers) = blocks.next() {
        let mut block = octal(numbers);
        block.resize(512, 0);
        block[504] = u8::from(blocks.peek().is_some());
        tar.splice(at..at, block);
        at += 512;
    }
    tar
}

fn blob(bytes: &[u8]) -> Blob {
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(bytes).unwrap();
    Blob::whole(file).unwrap()
}

fn read(tar: &[u8]) -> Result<Vec<Entry>> {
    let mut entries = Vec::new();
    reader::for_each(&blob(tar), &Limits::default(), |entry| {
        entries.push(entry);
        Ok(())
    })?;
    Ok(entries)
}

/// The path of the only entry, and its file in full.
fn expanded(tar: &[u8]) -> (String, Blob) {
    let entries = read(tar).unwrap();
    let [Entry { path, kind: EntryKind::File(FileData::Sparse(sparse)), .. }] = &entries[..] else {
        panic!("{entries:?}")
    };
    let dir = tempfile::tempdir().unwrap();
    (String::from_utf8(path.join(&b'/')).unwrap(), sparse.expand(dir.path()).unwrap())
}

#[test]
fn the_four_formats_give_the_same_file() {
    let (data, size) = (data(), SIZE.to_string());
    let size = size.as_str();
    let formats = [
        (
            "1.0",
            pax(
                &[("major", "1"), ("minor", "0"), ("name", "s"), ("realsize", size)],
                &map_and_data("2\n499712\n512\n1048576\n0\n", &data),
            ),
        ),
        (
            "0.1",
            pax(
                &[
                    ("size", size),
                    ("numblocks", "2"),
                    ("name", "s"),
                    ("map", "499712,512,1048576,0"),
                ],
                &data,
            ),
        ),
        (
            "0.0",
            pax(
                &[
                    ("size", size),
                    ("numblocks", "2"),
                    ("name", "s"),
                    ("offset", "499712"),
                    ("numbytes", "512"),
                    ("offset", "1048576"),
                    ("numbytes", "0"),
                ],
                &data,
            ),
        ),
        ("old GNU", old_gnu_tar(SIZE, &[499_712, 512, SIZE, 0], &data)),
    ];
    for (format, mut tar) in formats {
        // The entry behind it is found as well.
        let (path, file) = expanded(&tar);
        assert_eq!((path.as_str(), file.len), ("s", SIZE), "{format}");
        assert_eq!(unpack::hash(&file, &|_| {}).unwrap().to_string(), DIGEST, "{format}");
        tar.extend(entry(EntryType::Regular, "next", b"n", |_| {}));
        assert_eq!(&*read(&tar).unwrap()[1].path[0], b"next", "{format}");
    }
}

#[test]
fn maps_of_many_regions_continue_in_further_blocks() {
    let regions: Vec<u64> = (0..60).flat_map(|n| [n * 2, 1]).collect();
    let data: Vec<u8> = (1..=60).collect();
    let text = regions.iter().map(|n| format!("{n}\n")).collect::<String>();
    let map = map_and_data(&format!("60\n{}", text), &data);
    let tars = [
        old_gnu_tar(121, &regions, &data),
        pax(&[("major", "1"), ("minor", "0"), ("name", "s"), ("realsize", "121")], &map),
    ];
    let whole: Vec<u8> = (1..=60).flat_map(|n| [n, 0]).chain([0]).collect();
    for tar in tars {
        assert_eq!(expanded(&tar).1.bytes().unwrap(), whole);
    }
}

#[test]
fn a_file_may_be_one_hole() {
    for tar in [
        old_gnu_tar(5, &[5, 0], b""),
        pax(&[("size", "5"), ("name", "s"), ("map", "5,0")], b""),
        pax(
            &[("major", "1"), ("minor", "0"), ("realsize", "5"), ("name", "s")],
            &map_and_data("0\n", b""),
        ),
    ] {
        assert_eq!(expanded(&tar).1.bytes().unwrap(), [0; 5]);
    }
}

#[test]
fn maps_that_are_not_valid_are_refused() {
    let v1 = |size: &str, map: &str, data: &[u8]| {
        pax(
            &[("major", "1"), ("minor", "0"), ("name", "s"), ("realsize", size)],
            &map_and_data(map, data),
        )
    };
    let many = (MAX_REGIONS + 1).to_string() + "\n";
    let mut truncated = old_gnu_tar(200, &(0..10).flat_map(|n| [n, 1]).collect::<Vec<_>>(), &[]);
    truncated.truncate(600);
    let tars = [
        v1("10", "2\n5\n2\n4\n1\n", &[1; 3]),
        v1("10", "1\n9\n2\n", &[1; 2]),
        v1("10", "1\n18446744073709551615\n2\n", &[1; 2]),
        v1("10", "1\n0\n4\n", &[1; 3]),
        v1("10", "1\n0\n2\n", &[1; 3]),
        v1("10", "1\n0\n", &[]),
        v1("10", "x\n", &[]),
        v1("10", &"1".repeat(600), &[]),
        v1("10", &many, &[]),
        pax(&[("map", "0,1"), ("name", "s")], &[1]),
        pax(&[("map", "0,1,2"), ("name", "s"), ("size", "9")], &[1]),
        pax(&[("numbytes", "1")], &[1]),
        pax(&[("offset", "1"), ("offset", "1")], &[1]),
        pax(&[("major", "3"), ("minor", "1")], &[1]),
        old_gnu_tar(1, &[0, 2], &[1; 2]),
        truncated,
    ];
    let problems: Vec<_> = tars
        .iter()
        .map(|tar| match read(tar) {
            Err(Error::Refused(problem)) => problem,
            other => panic!("{other:?}"),
        })
        .collect();
    expect_test::expect![[r#"
        the map of a sparse file is not valid: its regions overlap, are out of order, or exceed the file
        the map of a sparse file is not valid: its regions overlap, are out of order, or exceed the file
        the map of a sparse file is not valid: its regions overlap, are out of order, or exceed the file
        the map of a sparse file is not valid: its regions have 4 bytes, 3 bytes are stored
        the map of a sparse file is not valid: its regions have 2 bytes, 3 bytes are stored
        the map of a sparse file is not valid: a line is no number
        the map of a sparse file is not valid: it has a value that is no number
        the map of a sparse file is not valid: a line is no number
        the map of a sparse file is not valid: it has more than 262144 regions
        the map of a sparse file is not valid: the file's size is missing
        the map of a sparse file is not valid: a region has no length
        the map of a sparse file is not valid: offsets and lengths do not alternate
        the map of a sparse file is not valid: offsets and lengths do not alternate
        a sparse file has the format 3.1, which is not supported
        the map of a sparse file is not valid: its regions overlap, are out of order, or exceed the file
        the tar is truncated within a sparse map"#]].assert_eq(&problems.join("\n"));
}
