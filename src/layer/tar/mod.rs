//! The tar format: a reader of every dialect that layers are found in, and a writer of one.
//!
//! This part knows names as bytes; it cleans no path, knows no whiteout and touches no file. The format is that of
//! POSIX (pax, "ustar Interchange Format" and "pax Interchange Format") and of GNU tar (info tar, "Basic Tar Format").

mod error;
mod header;
mod pax;
mod reader;
mod sparse;
mod writer;

pub use error::TarError;
pub use reader::{Member, MemberKind, Reader};
pub use writer::Writer;

/// Bytes of a block: headers are one, contents are padded to a multiple of it.
const BLOCK: usize = 512;

/// Bytes that an extended header or a long name may have, as in Go's archive/tar. Nothing is allocated beyond it.
const MAX_EXTENDED: u64 = 1 << 20;

/// Returns `name` as it may be shown: control bytes and bytes that are no UTF-8 escaped, cut after 200 characters.
pub(super) fn shown(name: &[u8]) -> String {
    let mut text = String::new();
    for c in String::from_utf8_lossy(name).chars().take(200) {
        if c.is_control() { text.extend(c.escape_default()) } else { text.push(c) }
    }
    if text.is_empty() { "(no name)".to_owned() } else { text }
}

#[cfg(test)]
mod tests;
