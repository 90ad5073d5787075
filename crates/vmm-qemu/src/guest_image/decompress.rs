//! Decompression of kernel modules (`CONFIG_MODULE_COMPRESS_*`).

use std::io::{self, Read};

/// Most bytes of a decompressed module; those that guests need have less than 2 MiB.
const MODULE_MAX: u64 = 64 << 20;
/// Most memory for decompression, in KiB. Kernel builds use dictionaries of 1 to 2 MiB.
const XZ_MEMORY_KIB: u32 = 128 << 10;

/// The content of a module file whose name ends in `extension`: `xz`, `zst`, `gz`, or
/// any other for one that is not compressed.
///
/// # Errors
/// It is damaged, or larger than [`MODULE_MAX`].
pub(super) fn decompress(extension: Option<&str>, bytes: &[u8]) -> io::Result<Vec<u8>> {
    match extension {
        Some("xz") => read_all(lzma_rust2::XzReader::new_mem_limit(bytes, true, XZ_MEMORY_KIB)),
        Some("zst") => read_all(zstd::Decoder::with_buffer(bytes)?),
        Some("gz") => read_all(flate2::bufread::MultiGzDecoder::new(bytes)),
        _ => Ok(bytes.to_vec()),
    }
}

fn read_all(reader: impl Read) -> io::Result<Vec<u8>> {
    let mut content = Vec::new();
    reader.take(MODULE_MAX + 1).read_to_end(&mut content)?;
    if content.len() as u64 > MODULE_MAX {
        let problem = format!("it has more than {} MiB when decompressed", MODULE_MAX >> 20);
        return Err(io::Error::other(problem));
    }
    Ok(content)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    /// `xz --check=crc32 --x86 --lzma2=dict=1MiB`, as kernel builds call it, of
    /// [`content`].
    const XZ: [u8; 76] = [
        0xfd, 0x37, 0x7a, 0x58, 0x5a, 0x00, 0x00, 0x01, 0x69, 0x22, 0xde, 0x36, 0x02, 0x01, 0x04,
        0x00, 0x21, 0x01, 0x10, 0x00, 0x8b, 0x21, 0x6f, 0x49, 0xe0, 0x01, 0x17, 0x00, 0x0e, 0x5d,
        0x00, 0x36, 0x9b, 0xc8, 0xb1, 0xae, 0x12, 0xee, 0xf0, 0xa7, 0x51, 0x9f, 0x10, 0x00, 0x00,
        0x00, 0x00, 0x00, 0x6d, 0xb0, 0xc2, 0x4c, 0x00, 0x01, 0x26, 0x98, 0x02, 0x00, 0x00, 0x00,
        0xac, 0x96, 0xdf, 0x59, 0x3e, 0x30, 0x0d, 0x8b, 0x02, 0x00, 0x00, 0x00, 0x00, 0x01, 0x59,
        0x5a,
    ];

    fn content() -> Vec<u8> {
        b"module ".repeat(40)
    }

    fn gz() -> Vec<u8> {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(&content()).unwrap();
        encoder.finish().unwrap()
    }

    #[test]
    fn every_compression_that_kernels_use_is_read() {
        let zst = zstd::encode_all(&content()[..], 3).unwrap();
        let files = [(Some("xz"), XZ.to_vec()), (Some("zst"), zst), (Some("gz"), gz())];
        for (extension, bytes) in &files {
            assert_eq!(decompress(*extension, bytes).unwrap(), content(), "{extension:?}");
            let cut = &bytes[..bytes.len() - 5];
            assert!(decompress(*extension, cut).is_err(), "{extension:?} cut off");
        }
        assert_eq!(decompress(Some("ko"), b"ELF").unwrap(), b"ELF");
    }

    #[test]
    fn a_file_that_expands_without_end_is_refused() {
        let zeros = io::repeat(0).take(MODULE_MAX + 1);
        let bytes = zstd::encode_all(zeros, 1).unwrap();
        let refused = decompress(Some("zst"), &bytes).unwrap_err();
        assert!(refused.to_string().contains("more than 64 MiB"), "{refused}");
    }
}
