//! Fuzz targets: what guests write, and files of logs after a crash.

use super::LINE;
use super::files::{end_of, resume};
use super::guest::Position;
use super::lines::Splitter;
use camino::Utf8Path;
use fuzzing::fuzz;

fn lines(bytes: &[u8], part: usize) -> Vec<String> {
    let (mut splitter, mut lines) = (Splitter::default(), Vec::new());
    for mut part in bytes.chunks(part) {
        while let Some(line) = splitter.next(&mut part) {
            lines.push(line);
        }
    }
    lines.extend(splitter.rest());
    lines
}

/// Lines are the same however their bytes arrive, and none is longer than a line may be.
#[test]
fn output_of_guests() {
    let long = vec![b'x'; LINE + 3];
    let seeds = [b"one\ntwo\r\n\nthree".as_slice(), b"\xff\xfe\n\xc3\n", &long].map(<[u8]>::to_vec);
    fuzz!(1500, seeds, |bytes: &[u8]| {
        let whole = lines(bytes, usize::MAX);
        assert_eq!(lines(bytes, 1), whole);
        assert_eq!(lines(bytes, 4097), whole);
        // A byte that is no text becomes a character of three.
        assert!(whole.iter().all(|line| line.len() <= 3 * LINE && !line.contains('\n')));
    });
}

/// Offsets are those of a guest: no position goes back, whatever they are.
#[test]
fn offsets_of_guests() {
    let seeds = [
        [0u8; 27].as_slice(),
        &[0, 0, 0, 0, 0, 0, 0, 9, 5, 0, 0, 0, 0, 0, 0, 0, 3, 9],
        &[255, 255, 255, 255, 255, 255, 255, 250, 9],
    ]
    .map(<[u8]>::to_vec);
    fuzz!(8000, seeds, |bytes: &[u8]| {
        let mut position = Position::default();
        let data = [b"abc\n".as_slice(), &[b'x'; 300]].concat();
        for step in bytes.chunks_exact(9) {
            let (offset, length) = step.split_at(8);
            let offset = u64::from_be_bytes(offset.try_into().unwrap());
            let before = position;
            let new = position.advance(offset, &data[..usize::from(length[0])]).len();
            assert!(position.taken >= before.taken && position.stored >= before.stored);
            assert!(position.stored <= position.taken, "{position:?}");
            assert_eq!(
                new > 0,
                position.taken > before.taken || before.taken == u64::MAX && new > 0
            );
        }
    });
}

#[test]
fn files_of_logs() {
    let line = r#"{"offset":3,"timestamp":5,"provider":"app","level":"info","instance":"a","region":"local","message":"hi"}"#;
    let seeds = [format!("{line}\n{line}\n"), "\n".to_owned(), format!("{line}\n{{\"torn")];
    let dir = tempfile::tempdir().unwrap();
    let dir = Utf8Path::from_path(dir.path()).unwrap().to_owned();
    fuzz!(2000, seeds, |bytes: &[u8]| {
        let path = dir.join("a.log");
        std::fs::write(&path, bytes).unwrap();
        resume(std::iter::once(&*path));
        let end = end_of(&path, 128).unwrap();
        assert!(end.is_none_or(|(_, _, lines)| lines.len() <= 128 && bytes.ends_with(&lines)));
    });
}
