//! Compression of a stream, on several threads and with the same bytes on any number of them; decompression.

mod block;
mod compressor;
mod decompress;

pub use compressor::Compressor;
pub use decompress::{UnknownFormat, decompress};

use std::fmt;
use std::str::FromStr;

use crate::oci::media_type;

/// How a layer is compressed, and how hard. Written as `none`, `gzip`, `gzip:9`, `zstd`, `zstd:19`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Compression {
    /// Not at all.
    None,
    /// gzip, level 0 to 12 (libdeflate's; a higher one counts as 12).
    Gzip(u8),
    /// Zstandard, level 1 to 19 (others count as the nearest).
    Zstd(u8),
}

impl Compression {
    /// gzip as it is used where nothing else is asked for.
    pub const GZIP: Self = Compression::Gzip(6);
    /// Zstandard as it is used where no level is asked for.
    pub const ZSTD: Self = Compression::Zstd(3);

    /// Returns the media type of a layer that is compressed so.
    pub fn media_type(self) -> &'static str {
        match self {
            Compression::None => media_type::LAYER,
            Compression::Gzip(_) => media_type::LAYER_GZIP,
            Compression::Zstd(_) => media_type::LAYER_ZSTD,
        }
    }
}

impl Default for Compression {
    /// Returns gzip, level 6: what every registry and runtime reads.
    fn default() -> Self {
        Compression::GZIP
    }
}

impl fmt::Display for Compression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Compression::None => f.write_str("none"),
            Compression::Gzip(level) => write!(f, "gzip:{level}"),
            Compression::Zstd(level) => write!(f, "zstd:{level}"),
        }
    }
}

/// A text names no compression, or no level of it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} {}", why_not(&self.0), text = self.0)]
pub struct CompressionError(pub String);

fn why_not(text: &str) -> &'static str {
    match text {
        // docs/adr/0015-zstd-chunked.md
        "zstd:chunked" => "is not supported: use zstd, which all read that read zstd:chunked",
        _ => "is no compression: use none, gzip, gzip:0 to gzip:12, zstd, or zstd:1 to zstd:19",
    }
}

impl FromStr for Compression {
    type Err = CompressionError;

    fn from_str(text: &str) -> Result<Self, CompressionError> {
        let bad = || CompressionError(text.chars().take(100).collect());
        let (name, level) = match text.split_once(':') {
            Some((name, level)) if level.bytes().all(|b| b.is_ascii_digit()) => {
                (name, Some(level.parse::<u8>().map_err(|_| bad())?))
            }
            Some(_) => return Err(bad()),
            None => (text, None),
        };
        match (name, level) {
            ("none" | "uncompressed", None) => Ok(Compression::None),
            ("gzip", None) => Ok(Compression::GZIP),
            ("gzip", Some(level @ 0..=12)) => Ok(Compression::Gzip(level)),
            ("zstd", None) => Ok(Compression::ZSTD),
            ("zstd", Some(level @ 1..=19)) => Ok(Compression::Zstd(level)),
            _ => Err(bad()),
        }
    }
}

#[cfg(test)]
mod tests;
