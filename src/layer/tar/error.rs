use std::io;

/// A tar archive cannot be read or written. Offsets are bytes of the uncompressed archive, names are escaped.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TarError {
    /// The bytes of the archive cannot be read: also what a decompressor reports.
    #[error("cannot read the archive after {offset} bytes")]
    Read {
        /// How much was read.
        offset: u64,
        /// Why it failed.
        #[source]
        source: io::Error,
    },
    /// The bytes of the archive cannot be written.
    #[error("cannot write the archive")]
    Write {
        /// Why it failed.
        #[source]
        source: io::Error,
    },
    /// The archive ends inside of a header or of contents.
    #[error("the archive is cut off after {offset} bytes")]
    Truncated {
        /// How much there was.
        offset: u64,
    },
    /// A header has a wrong checksum, or is none.
    #[error("no tar header at byte {offset} of the archive")]
    Checksum {
        /// Where the header begins.
        offset: u64,
    },
    /// A field of a header is not what it should be.
    #[error("{name}: the archive gives a bad {field}")]
    Field {
        /// The entry.
        name: String,
        /// Which field.
        field: &'static str,
    },
    /// A PAX extended header is not a sequence of records.
    #[error("bad extended header at byte {offset} of the archive")]
    Pax {
        /// Where its records begin.
        offset: u64,
    },
    /// An extended header, a long name or a sparse map is larger than anything real.
    #[error("{what} at byte {offset} of the archive has more than {limit} bytes")]
    TooLong {
        /// Where it begins.
        offset: u64,
        /// What it is.
        what: &'static str,
        /// The most it may have.
        limit: u64,
    },
    /// The map of a sparse file contradicts itself.
    #[error("{name}: the archive gives a bad map of a sparse file")]
    Sparse {
        /// The entry.
        name: String,
    },
    /// An entry is of a type that no file has.
    #[error("{name}: the archive gives an unknown type {flag:?}")]
    UnknownType {
        /// The entry.
        name: String,
        /// The type, as a character.
        flag: char,
    },
    /// The contents of a file to be archived cannot be read.
    #[error("cannot read the contents of {name}")]
    Contents {
        /// The entry.
        name: String,
        /// Why it failed.
        #[source]
        source: io::Error,
    },
    /// A file to be archived has another length than was announced: it changed meanwhile.
    #[error("{name}: has {found} bytes or more, not {expected}")]
    Length {
        /// The entry.
        name: String,
        /// Bytes that were announced.
        expected: u64,
        /// Bytes that were read.
        found: u64,
    },
    /// Tar has no way to say this.
    #[error("{name}: an archive cannot hold {what}")]
    Unrepresentable {
        /// The entry.
        name: String,
        /// What cannot be said.
        what: &'static str,
    },
}
