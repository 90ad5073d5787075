//! The rules of merging, as scripts: layers in, tree out.
//!
//! One entry per line: `dir NAME [MODE]`, `file NAME TEXT`, `link NAME TARGET`,
//! `sym NAME TARGET`, `chr NAME MAJOR MINOR`, `fifo NAME`; a whiteout is a file
//! named so. `--` begins the next layer.

use super::*;
use crate::flatten::tree::Kind;
use crate::layer::entry::FileData;
use crate::layer::testing::header;
use expect_test::{Expect, expect};
use std::io::Write as _;
use tar::{EntryType, Header};

fn layer(script: &str) -> Blob {
    let mut tar = Vec::new();
    for line in script.lines().map(str::trim).filter(|line| !line.is_empty()) {
        let words: Vec<_> = line.split(' ').collect();
        let kind = match words[0] {
            "dir" => EntryType::Directory,
            "file" => EntryType::Regular,
            "link" => EntryType::Link,
            "sym" => EntryType::Symlink,
            "chr" => EntryType::Char,
            "fifo" => EntryType::Fifo,
            other => panic!("no such word: {other}"),
        };
        let mut header = header(kind, words[1], 0);
        let mut data = "";
        match (kind, words.get(2)) {
            (EntryType::Regular, Some(text)) => data = text,
            (EntryType::Directory, Some(mode)) => {
                header.set_mode(u32::from_str_radix(mode, 8).unwrap());
            }
            (EntryType::Link | EntryType::Symlink, Some(target)) => {
                header.as_old_mut().linkname[..target.len()].copy_from_slice(target.as_bytes());
            }
            (EntryType::Char, Some(major)) => {
                header.set_device_major(major.parse().unwrap()).unwrap();
                header.set_device_minor(words[3].parse().unwrap()).unwrap();
            }
            _ => {}
        }
        header.set_size(data.len() as u64);
        header.set_cksum();
        tar.extend_from_slice(header.as_bytes());
        tar.extend_from_slice(data.as_bytes());
        tar.resize(tar.len().next_multiple_of(512), 0);
    }
    tar.extend_from_slice(&[0; 1024]);
    blob(&tar)
}

fn blob(bytes: &[u8]) -> Blob {
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(bytes).unwrap();
    Blob::whole(file).unwrap()
}

fn print(tree: &Tree, dir: usize, indent: usize, out: &mut String) {
    let Kind::Dir(children) = &tree.inode(dir).kind else { return };
    for (name, child) in children {
        let inode = tree.inode(child.inode);
        let name = String::from_utf8_lossy(name);
        *out += &"  ".repeat(indent);
        *out += &match &inode.kind {
            Kind::Dir(_) => format!("{name}/ {:o}\n", inode.meta.mode),
            Kind::File(FileData::Dense(blob)) => {
                let text = String::from_utf8(blob.bytes().unwrap()).unwrap();
                format!("{name} {text:?} #{}\n", child.inode)
            }
            Kind::File(FileData::Sparse(sparse)) => {
                let part = |(hole, data): (u64, Blob)| {
                    format!("{hole} {:?}", String::from_utf8(data.bytes().unwrap()).unwrap())
                };
                let parts: Vec<_> = sparse.parts().map(part).collect();
                format!("{name} {} bytes: {}\n", sparse.size(), parts.join(" "))
            }
            Kind::Symlink(target) => format!("{name} -> {}\n", String::from_utf8_lossy(target)),
            Kind::Char(major, minor) => format!("{name} char {major}:{minor}\n"),
            Kind::Block(major, minor) => format!("{name} block {major}:{minor}\n"),
            Kind::Fifo => format!("{name} fifo\n"),
        };
        print(tree, child.inode, indent + 1, out);
    }
}

fn check(script: &str, expected: Expect) {
    let layers: Vec<_> = script.split("--\n").map(layer).collect();
    let mut out = String::new();
    match merge(&layers, Limits { depth: 8, entries: 20, ..Limits::default() }) {
        Ok(tree) => print(&tree, Tree::ROOT, 0, &mut out),
        Err(Error::Refused(problem)) => out = format!("refused: {problem}\n"),
        Err(Error::Failed(error)) => panic!("{error}"),
    }
    expected.assert_eq(&out);
}

#[test]
fn later_layers_replace_and_extend() {
    check(
        "dir a 700\nfile a/x one\nfile f one\ndir d\nfile d/in one\nsym l f\n--
         dir a 755\nfile a/y two\nfile d two\ndir f\nfile l two",
        expect![[r#"
            a/ 755
              x "one" #2
              y "two" #7
            d "two" #8
            f/ 644
            l "two" #10
        "#]],
    );
}

#[test]
fn one_path_in_many_spellings() {
    check(
        "file ./a/x 1\nfile /a/y 2\ndir a/ 711\nfile a//z 3\ndir ./ 700",
        expect![[r#"
        a/ 711
          x "1" #2
          y "2" #3
          z "3" #4
    "#]],
    );
}

#[test]
fn a_whiteout_takes_what_came_from_below_only() {
    check(
        "file a/gone 1\nfile a/stays 1\ndir d/sub\nfile d/sub/old 1\n--
         file a/.wh.gone\nfile d/sub/new 2\nfile d/.wh.sub\nfile a/.wh.stays\nfile a/stays 2\nfile .wh.nothing",
        expect![[r#"
            a/ 755
              stays "2" #8
            d/ 755
              sub/ 755
                new "2" #7
        "#]],
    );
}

#[test]
fn an_opaque_directory_hides_all_below_at_any_place_in_the_layer() {
    check(
        "file d/old 1\nfile d/sub/old 1\n--
         file d/new 2\nfile d/.wh..wh..opq\nfile d/sub/new 2",
        expect![[r#"
            d/ 755
              new "2" #5
              sub/ 755
                new "2" #7
        "#]],
    );
    check(
        "file a 1\nfile b/c 1\n--\nfile .wh..wh..opq\nfile n 2",
        expect![[r#"
        n "2" #4
    "#]],
    );
}

#[test]
fn whiteout_games() {
    check(
        "file .wh.. 1",
        expect![[r#"
        refused: layer 1: entry ".wh.." is a whiteout of nothing
    "#]],
    );
    check(
        "file .wh... 1",
        expect![[r#"
        refused: layer 1: entry ".wh..." is a whiteout of nothing
    "#]],
    );
    check(
        "file .wh. 1",
        expect![[r#"
        refused: layer 1: entry ".wh." is a whiteout of nothing
    "#]],
    );
    check(
        "file .wh.a/b 1",
        expect![[r#"
        refused: layer 1: entry ".wh.a/b" is below a whiteout
    "#]],
    );
    check(
        "file a 1\n--\nfile .wh..wh.plnk/x",
        expect![[r#"
        a "1" #1
    "#]],
    );
    check(
        "file a 1\n--\nfile .wh..wh.aufs",
        expect![[r#"
        a "1" #1
    "#]],
    );
    // Through a link that leaves, goes in circles, or leads nowhere: nothing happens.
    check(
        "file keep 1\nsym up ../..\nsym loop loop\n--
         file up/.wh.gone\nfile loop/.wh.keep\nfile none/.wh.keep",
        expect![[r#"
            keep "1" #1
            loop -> loop
            up -> ../..
        "#]],
    );
}

#[test]
fn hard_links_keep_what_they_linked_to() {
    check(
        "file a one\nlink b a\n--\nlink c /b\nfile a two\n--\nfile .wh.b\nlink a a",
        expect![[r#"
            a "two" #2
            c "one" #1
        "#]],
    );
}

#[test]
fn hard_link_games() {
    check(
        "link a ../../etc/shadow",
        expect![[r#"
        refused: layer 1: entry "a" is a hard link to "../../etc/shadow", which contains '..'
    "#]],
    );
    check(
        "link a /etc/shadow",
        expect![[r#"
        refused: layer 1: entry "a": is a hard link to "etc/shadow", which is not there
    "#]],
    );
    check(
        "dir d\nlink a d",
        expect![[r#"
        refused: layer 1: entry "a": is a hard link to the directory "d"
    "#]],
    );
    check(
        "sym s /\nlink a s/etc/shadow",
        expect![[r#"
        refused: layer 1: entry "a": is a hard link to "s/etc/shadow", which is not there
    "#]],
    );
    check(
        "link a .",
        expect![[r#"
        refused: layer 1: entry "a": is a hard link to "", which is not there
    "#]],
    );
}

#[test]
fn links_on_the_way_are_followed_within_the_root() {
    check(
        "dir usr/lib\nsym lib usr/lib\nsym usr/lib64 ../../../usr/lib\nsym abs /usr\n--
         file lib/x 1\nfile usr/lib64/y 1\nfile abs/lib/z 1\nlink h lib/x",
        expect![[r#"
            abs -> /usr
            h "1" #6
            lib -> usr/lib
            usr/ 755
              lib/ 644
                x "1" #6
                y "1" #7
                z "1" #8
              lib64 -> ../../../usr/lib
        "#]],
    );
}

#[test]
fn directories_are_created_where_dangling_links_lead() {
    check(
        "dir var\nsym var/run /run\n--\nfile var/run/app/pid 1",
        expect![[r#"
            run/ 755
              app/ 755
                pid "1" #5
            var/ 644
              run -> /run
        "#]],
    );
    // Relative, through another link, above the root: all within the root.
    check(
        "sym a ../../b/c\nsym b d\n--\nfile a/x 1\n--\nfile a/y 2\nfile a/.wh.x",
        expect![[r#"
            a -> ../../b/c
            b -> d
            d/ 755
              c/ 755
                y "2" #6
        "#]],
    );
    // Directories that links create count against the limit of depth.
    check(
        "sym a 1/2/3/4/5/6/7/8/9\nfile a/x 1",
        expect![[r#"
        refused: layer 1: entry "a/x": is deeper than the limit of 8 directories
    "#]],
    );
    // A whiteout creates nothing.
    check(
        "sym a /b\n--\nfile a/.wh.x",
        expect![[r#"
        a -> /b
    "#]],
    );
}

#[test]
fn links_in_circles_are_refused() {
    check(
        "sym a b\nsym b a\nfile a/x x",
        expect![[r#"
        refused: layer 1: entry "a/x": is below symbolic links that go in circles
    "#]],
    );
    check(
        "sym a ../../..\nfile a/x 1",
        expect![[r#"
        a -> ../../..
        x "1" #2
    "#]],
    );
    check(
        "file a 1\nfile a/x 1",
        expect![[r#"
            refused: layer 1: entry "a/x": is below something that is not a directory
        "#]],
    );
}

#[test]
fn a_directory_replaces_a_link_of_its_name() {
    check(
        "dir usr/lib\nfile usr/lib/x 1\nsym lib usr/lib\n--\ndir lib\nfile lib/.wh.x\nfile lib/y 2",
        expect![[r#"
        lib/ 644
          y "2" #6
        usr/ 755
          lib/ 644
            x "1" #3
    "#]],
    );
}

#[test]
fn paths_that_could_leave_the_root_are_refused() {
    check(
        "file ../x 1",
        expect![[r#"
        refused: layer 1: entry "../x" contains '..'
    "#]],
    );
    check(
        "file a/../../x 1",
        expect![[r#"
        refused: layer 1: entry "a/../../x" contains '..'
    "#]],
    );
    check("file / 1", expect![[""]]);
    check(
        "sym . /etc",
        expect![[r#"
        refused: layer 1: entry "": would replace the root
    "#]],
    );
}

#[test]
fn devices_are_data() {
    check(
        "chr null 1 3\nfifo p",
        expect![[r#"
        null char 1:3
        p fifo
    "#]],
    );
}

#[test]
fn limits_hold() {
    check(
        "file 1/2/3/4/5/6/7/8/9 1",
        expect![[r#"
        refused: layer 1: entry "1/2/3/4/5/6/7/8/9" is deeper than the limit of 8 directories
    "#]],
    );
    check(
        "dir a/a/a/a/a/a\nsym s a/a/a/a/a/a\ndir s/b/b/b",
        expect![[r#"
            refused: layer 1: entry "s/b/b/b": is deeper than the limit of 8 directories
        "#]],
    );
    check(
        &"file a 1\n".repeat(21),
        expect![[r#"
        refused: layer 1: exceeds the limit of 20 entries
    "#]],
    );
}

#[test]
fn damaged_tars_are_refused() {
    let refused = |bytes: &[u8]| match merge(&[blob(bytes)], Limits::default()) {
        Err(Error::Refused(problem)) => problem,
        other => panic!("{other:?}"),
    };
    let whole = layer("file a 0123456789").bytes().unwrap();
    let mut flipped = whole.clone();
    flipped[3] ^= 1;
    let mut negative = whole.clone();
    negative[124..136].copy_from_slice(b"zzzzzzzzzzzz");
    let mut sum = Header::new_old();
    sum.as_mut_bytes().copy_from_slice(&negative[..512]);
    sum.set_cksum();
    negative[..512].copy_from_slice(sum.as_bytes());
    let problems = [
        refused(&whole[..300]),
        refused(&whole[..515]),
        refused(&flipped),
        refused(&negative),
        refused(&[7; 2048]),
    ];
    expect![[r#"
        layer 1: the tar is truncated within a header
        layer 1: the tar is truncated within an entry
        layer 1: a layer is not a tar or is damaged: wrong header checksum
        layer 1: an entry's size is no number
        layer 1: a layer is not a tar or is damaged: wrong header checksum"#]]
    .assert_eq(&problems.join("\n"));
    assert!(merge(&[blob(b"")], Limits::default()).is_ok());
}

#[test]
fn extension_headers_are_checked() {
    let with_pax = |records: &[(&[u8], &[u8])]| {
        let mut bytes = Vec::new();
        for (key, value) in records {
            pack::record(&mut bytes, key, value);
        }
        let records = if records.is_empty() { b"99999999999 path=x\n".to_vec() } else { bytes };
        let mut pax = header(EntryType::XHeader, "pax", 0);
        pax.set_size(records.len() as u64);
        pax.set_cksum();
        let mut tar = pax.as_bytes().to_vec();
        tar.extend_from_slice(&records);
        tar.resize(tar.len().next_multiple_of(512), 0);
        tar.extend_from_slice(&layer("file a 1").bytes().unwrap());
        match merge(&[blob(&tar)], Limits { xattr_bytes: 40, ..Limits::default() }) {
            Ok(tree) => {
                let mut out = String::new();
                print(&tree, Tree::ROOT, 0, &mut out);
                let Kind::Dir(children) = &tree.inode(Tree::ROOT).kind else { unreachable!() };
                for name in children.values() {
                    let meta = &tree.inode(name.inode).meta;
                    out += &format!(
                        "{} {} {:?}",
                        meta.uid,
                        meta.mtime,
                        meta.xattrs
                            .as_ref()
                            .map(|x| x.values().map(|v| v.to_vec()).collect::<Vec<_>>())
                    );
                }
                out
            }
            Err(Error::Refused(problem)) => problem,
            Err(Error::Failed(error)) => panic!("{error}"),
        }
    };
    let long = "x".repeat(40);
    let problems = [
        with_pax(&[(b"path", b"a/b"), (b"uid", b"70000"), (b"mtime", b"7.9999")]),
        with_pax(&[(b"mtime", b"-5.5"), (b"comment", b"any"), (b"path", b"")]),
        with_pax(&[(b"path", b"../../x")]),
        with_pax(&[(b"path", b"a\0b")]),
        with_pax(&[(b"SCHILY.xattr.user.k", b"\0\n\x01")]),
        with_pax(&[(b"SCHILY.xattr.system.posix_acl_access", b"0")]),
        with_pax(&[(b"SCHILY.xattr.user.k", long.as_bytes())]),
        with_pax(&[(b"GNU.sparse.major", b"2")]),
        with_pax(&[(b"uid", b"4294967295")]),
        with_pax(&[(b"gid", b"4294967295")]),
        with_pax(&[(b"size", b"")]),
        with_pax(&[(b"size", b"99999999999999999")]),
        with_pax(&[(b"uid", b"4294967296")]),
        with_pax(&[]),
    ];
    expect![[r#"
        a/ 755
          b "1" #2
        0 0 None
        a "1" #1
        0 0 None
        layer 1: entry "../../x" contains '..'
        layer 1: entry "a\0b" contains NUL
        a "1" #1
        0 0 Some([[0, 10, 1]])
        a "1" #1
        0 0 None
        layer 1: the extended attributes of an entry exceed the limit of 40 bytes
        layer 1: a sparse file has the format 2.0, which is not supported
        layer 1: entry "a" has the owner 4294967295, and ids end at 4294967294
        layer 1: entry "a" has the owner 4294967295, and ids end at 4294967294
        layer 1: pax value size is no number
        layer 1: the tar is truncated within an entry
        layer 1: entry "a" has the owner 4294967296, and ids end at 4294967294
        layer 1: a pax header is damaged"#]]
    .assert_eq(&problems.join("\n"));
}

/// A file with one attribute, whose value has so many bytes.
fn with_xattr(name: &str, bytes: usize) -> Vec<u8> {
    let mut records = Vec::new();
    pack::record(&mut records, b"SCHILY.xattr.user.x", &vec![b'v'; bytes]);
    let mut tar = Vec::new();
    let mut pax = header(EntryType::XHeader, "pax", 0);
    pax.set_size(records.len() as u64);
    let mut file = header(EntryType::Regular, name, 0);
    for header in [&mut pax, &mut file] {
        header.set_cksum();
    }
    tar.extend_from_slice(pax.as_bytes());
    tar.extend_from_slice(&records);
    tar.resize(tar.len().next_multiple_of(512), 0);
    tar.extend_from_slice(file.as_bytes());
    tar
}

#[test]
fn names_links_and_attributes_have_one_budget_for_the_image() {
    let limits = Limits { metadata_bytes: 10_000, ..Limits::default() };
    let refused = |layers: &[Blob]| match merge(layers, limits) {
        Ok(_) => None,
        Err(Error::Refused(problem)) => Some(problem),
        Err(Error::Failed(error)) => panic!("{error}"),
    };
    let long = "t".repeat(90);
    let links = |n: usize| -> String { (0..n).map(|n| format!("sym l{n} {long}\n")).collect() };
    let deep = |n: usize| -> String { (0..n).map(|n| format!("file {n}/a/b/c x\n")).collect() };
    // The same file in every layer: replaced, and counted each time.
    let layers = |n: usize| -> Vec<_> { (0..n).map(|_| blob(&with_xattr("f", 4000))).collect() };
    assert_eq!(refused(&[layer(&links(50))]), None);
    assert_eq!(refused(&[layer(&deep(10))]), None);
    assert_eq!(refused(&layers(2)), None);
    for layers in [vec![layer(&links(200))], vec![layer(&deep(20))], layers(3)] {
        let problem = refused(&layers).expect("it is refused");
        assert!(
            problem.ends_with(
                "its names, links and attributes exceed the limit of 10000 bytes (metadata_bytes)"
            ),
            "{problem}"
        );
    }
}
