use std::io::{self, BufReader, Cursor, Read};

/// The first bytes of a stream are those of a compression that coracle does not read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the data are compressed with {format}, which is not supported: use gzip, bzip2, xz, zstd or none")]
pub struct UnknownFormat {
    /// What it is.
    pub format: &'static str,
}

/// Magic numbers of what cannot be read.
const UNKNOWN: &[(&[u8], &str)] = &[
    (b"LZIP", "lzip"),
    (b"\x5d\0\0\x80\0", "lzma"),
    (b"\x5d\0\0\0\x04", "lzma"),
    (b"\x04\x22\x4d\x18", "lz4"),
    (b"\x1f\x9d", "compress"),
];

/// Memory that one xz stream may ask for, in KiB. `xz -9` asks for 64 MiB; a header alone could ask for 4 GiB.
const XZ_MEMORY: u32 = 256 << 10;

/// Returns a reader of the uncompressed bytes of `input`. The first bytes decide: gzip (all its members), bzip2 and xz (all
/// their streams), zstd (all its frames), or as it is. However the input was made, at most some 256 MiB of memory are used.
///
/// # Errors
/// What `input` reports, or an error of the kind `Unsupported` that holds an [`UnknownFormat`]. Damaged or
/// cut off data are an error of a later read.
pub fn decompress<'a>(mut input: impl Read + Send + 'a) -> io::Result<Box<dyn Read + Send + 'a>> {
    let mut magic = Vec::with_capacity(8);
    input.by_ref().take(8).read_to_end(&mut magic)?;
    let format = UNKNOWN.iter().find(|(unknown, _)| magic.starts_with(unknown));
    if let Some((_, format)) = format {
        return Err(io::Error::new(io::ErrorKind::Unsupported, UnknownFormat { format }));
    }
    let gzip = magic.starts_with(b"\x1f\x8b");
    let frame = magic.starts_with(b"\x28\xb5\x2f\xfd");
    // pzstd begins with a frame that is to be skipped.
    let skippable = magic.len() >= 4 && magic[0] & 0xf0 == 0x50 && magic[1..4] == *b"\x2a\x4d\x18";
    let (bzip2, xz) = (is_bzip2(&magic), magic.starts_with(b"\xfd7zXZ\0"));
    let input = Cursor::new(magic).chain(input);
    Ok(if gzip {
        Box::new(flate2::bufread::MultiGzDecoder::new(BufReader::with_capacity(BUFFER, input)))
    } else if frame || skippable {
        Box::new(zstd::stream::read::Decoder::with_buffer(BufReader::with_capacity(BUFFER, input))?)
    } else if bzip2 {
        Box::new(bzip2::bufread::MultiBzDecoder::new(BufReader::with_capacity(BUFFER, input)))
    } else if xz {
        Box::new(lzma_rust2::XzReader::new_mem_limit(BufReader::with_capacity(BUFFER, input), true, XZ_MEMORY))
    } else {
        Box::new(input)
    })
}

const BUFFER: usize = 128 << 10;

/// Returns whether a stream of bzip2 begins with `start`. Its magic is text, and could be the name of a file in an archive, were
/// it not for what follows: the level, and the number pi.
fn is_bzip2(start: &[u8]) -> bool {
    start.len() >= 7 && start.starts_with(b"BZh") && matches!(&start[4..7], b"1AY" | b"\x17rE")
}
