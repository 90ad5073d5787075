//! Fuzz targets of the parsers that read guests, clients and images.
//!
//! A target is a test made with [`fuzz!`](crate::fuzz). Under `cargo test` it reads a fixed number
//! of inputs, always the same ones. Under `cargo bolero test` (`make fuzz`) libFuzzer looks for
//! inputs that reach new code, for as long as it is let.
//!
//! Inputs are edits of valid seeds rather than random bytes, which hardly any parser reads
//! beyond the first. The edits are what the fuzzer chooses.

pub use bolero;

/// One change of a seed: kind, place and value.
pub type Edit = (u8, u16, u8);

/// Pieces that formats give a meaning to.
const WORDS: &[&[u8]] = &[
    b"\0",
    b"\n",
    b"\r\n",
    b"\"",
    b"{",
    b"}",
    b"[",
    b"]",
    b":",
    b",",
    b"null",
    b"true",
    b"-1",
    b"1e400",
    b"18446744073709551616",
    b"\xff\xff\xff\xff",
    b"\x7f\xff\xff\xff",
    b"../",
    b"/",
    b"=",
    b"%",
    b"*",
    b"-",
    b"\xc3\x28",
    b"\\u0000",
    b" ",
];
/// Longest input, in bytes.
const LONGEST: usize = 64 << 10;

/// One of the seeds with edits.
pub fn edited<S: AsRef<[u8]>>(seeds: &[S], which: u8, edits: &[Edit]) -> Vec<u8> {
    let seed = |n: u8| match seeds.is_empty() {
        true => &[],
        false => seeds[usize::from(n) % seeds.len()].as_ref(),
    };
    let mut bytes = seed(which).to_vec();
    for &(kind, place, value) in edits {
        let at = (usize::from(place) * (bytes.len() + 1)) >> 16;
        match kind % 8 {
            0 if at < bytes.len() => bytes[at] = value,
            1 if at < bytes.len() => bytes[at] ^= 1 << (value % 8),
            2 => bytes.insert(at, value),
            3 => drop(bytes.drain(at..(at + usize::from(value)).min(bytes.len()))),
            4 => bytes.truncate(at),
            // A part once more, in the middle of it.
            5 => {
                let end = (at + usize::from(value)).min(bytes.len());
                let part = bytes[at..end].to_vec();
                bytes.splice(at..at, part);
            }
            6 => {
                let word = WORDS[usize::from(value) % WORDS.len()];
                bytes.splice(at..at, word.iter().copied());
            }
            // The begin of one seed and the end of another.
            _ => {
                let other = seed(value);
                let from = (usize::from(place) * (other.len() + 1)) >> 16;
                bytes.truncate(at);
                bytes.extend_from_slice(&other[from..]);
            }
        }
        bytes.truncate(LONGEST);
    }
    bytes
}

/// A fuzz target: `fuzz!(iterations, seeds, |bytes| …)`. It fails if the closure panics.
///
/// `seeds` is a list of valid inputs, and `iterations` how many inputs `cargo test` tries.
#[macro_export]
macro_rules! fuzz {
    ($iterations:expr, $seeds:expr, $target:expr) => {{
        let seeds = $seeds;
        let target = $target;
        // The seeds as they are come first.
        for seed in &seeds {
            target(AsRef::<[u8]>::as_ref(seed));
        }
        $crate::bolero::check!()
            .with_iterations($iterations)
            .with_type::<(u8, Vec<$crate::Edit>)>()
            .for_each(|(which, edits)| target(&$crate::edited(&seeds, *which, edits)));
    }};
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn edits_change_a_seed() {
        let seeds = [b"abcd".as_slice(), b"xyz"];
        let half = 0x8000;
        for (edit, expected) in [
            ((0, half, b'!'), "ab!d"),
            ((2, half, b'!'), "ab!cd"),
            ((3, half, 1), "abd"),
            ((4, half, 0), "ab"),
            ((5, half, 9), "abcdcd"),
            ((6, half, 10), "abnullcd"),
            ((7, half, 1), "abz"),
            ((0, u16::MAX, b'!'), "abcd"),
        ] {
            let edited = edited(&seeds, 0, &[edit]);
            assert_eq!(String::from_utf8_lossy(&edited), expected, "{edit:?}");
        }
        assert_eq!(edited::<&[u8]>(&[], 7, &[(0, 0, 1), (2, 0, b'a')]), b"a");
    }
}
