//! The labels of an image. They become part of the record of each machine that
//! runs the image, so their number and their size are bounded.

use std::collections::BTreeMap;

/// The most labels that are kept of an image.
const MAX_LABELS: usize = 64;
/// Bytes of all labels that are kept of an image, keys and values.
const MAX_BYTES: usize = 64 << 10;

/// Removes the labels beyond the limits; the first in the order of their keys
/// that fit are kept. Returns how many were removed.
pub(crate) fn bound(labels: &mut BTreeMap<String, String>) -> usize {
    let all = labels.len();
    let (mut kept, mut bytes) = (0, 0);
    labels.retain(|key, value| {
        let size = key.len() + value.len();
        let fits = kept < MAX_LABELS && size <= MAX_BYTES - bytes;
        if fits {
            kept += 1;
            bytes += size;
        }
        fits
    });
    all - labels.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_beyond_the_number_or_the_size_are_removed() {
        let labels = |n: usize, size: usize| -> BTreeMap<String, String> {
            (0..n).map(|n| (format!("{n:04}"), "x".repeat(size - 4))).collect()
        };
        for (number, size, kept) in [(64, 1024, 64), (65, 8, 64), (4, 20_000, 3), (1, 65_537, 0)] {
            let mut some = labels(number, size);
            assert_eq!(bound(&mut some), number - kept, "{number} of {size} bytes");
            assert_eq!(some, labels(kept, size));
        }
        // A large one takes no place from the small ones after it.
        let mut some = labels(3, 8);
        some.insert("0001".into(), "x".repeat(100_000));
        assert_eq!(bound(&mut some), 1);
        assert_eq!(some.len(), 2);
    }
}
