//! Headers of a tar: where they are, whether they are valid, their numbers.

use crate::content::blob::Blob;
use crate::error::{Error, Result, failed};
use tar::Header;

/// Headers and data begin at multiples of this.
pub(crate) const BLOCK: u64 = 512;

/// The header at an offset, unless the archive ends there.
pub(crate) fn read(tar: &Blob, offset: u64) -> Result<Option<Header>> {
    let mut header = Header::new_old();
    let n = tar.read_at(header.as_mut_bytes(), offset).map_err(failed("read an unpacked layer"))?;
    let bytes = header.as_bytes();
    if n == 0 || (n == bytes.len() && bytes.iter().all(|&b| b == 0)) {
        return Ok(None);
    }
    if n < bytes.len() {
        return Err(Error::refused("the tar is truncated within a header"));
    }
    let sum: u32 = bytes[..148].iter().chain(&bytes[156..]).map(|&b| u32::from(b)).sum();
    if header.cksum().ok() != Some(sum + 8 * u32::from(b' ')) {
        return Err(Error::refused("a layer is not a tar or is damaged: wrong header checksum"));
    }
    Ok(Some(header))
}

/// A number of a header: octal digits, where blanks are 0 (as Go's `archive/tar`
/// reads them), or base-256 if the first bit is set. `None` if it is negative or
/// not a number.
pub(crate) fn number(raw: &[u8]) -> Option<u64> {
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
