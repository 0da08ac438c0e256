//! Sparse files: old GNU, and PAX 0.0, 0.1 and 1.0. All are read as files with zeros in their holes.

use super::header::{Header, number};
use super::pax::{Pax, decimal};

/// Fragments that a sparse file may have.
pub(super) const MAX_FRAGMENTS: usize = 1 << 20;

/// Where the data of a sparse file belong.
#[derive(Debug)]
pub(super) struct Sparse {
    /// Offset and length of each fragment, in order; the data in the archive are these, without a gap.
    fragments: Vec<(u64, u64)>,
    /// Length of the file.
    pub(super) size: u64,
    /// How much of the file was given.
    position: u64,
    /// The fragment at or after `position`.
    next: usize,
}

/// What comes next in a sparse file.
pub(super) enum Run {
    /// So many zeros.
    Hole(u64),
    /// So many bytes of data.
    Data(u64),
    /// Nothing more.
    End,
}

impl Sparse {
    /// Returns the map, if its fragments are in order, within `size`, and have `stored` bytes in all.
    pub(super) fn new(fragments: Vec<(u64, u64)>, size: u64, stored: u64) -> Option<Self> {
        let (mut end, mut sum) = (0u64, 0u64);
        for &(offset, length) in &fragments {
            if offset < end {
                return None;
            }
            end = offset.checked_add(length)?;
            sum += length;
        }
        (end <= size && sum == stored).then_some(Sparse { fragments, size, position: 0, next: 0 })
    }

    /// Returns what comes next.
    pub(super) fn run(&mut self) -> Run {
        while let Some(&(offset, length)) = self.fragments.get(self.next) {
            if self.position < offset {
                return Run::Hole(offset - self.position);
            }
            if self.position < offset + length {
                return Run::Data(offset + length - self.position);
            }
            self.next += 1;
        }
        if self.position < self.size { Run::Hole(self.size - self.position) } else { Run::End }
    }

    /// Tells that `n` bytes were given.
    pub(super) fn advance(&mut self, n: u64) {
        self.position += n;
    }
}

/// Adds the fragments in `block`, from byte `at` on, that an old GNU header or its continuation has. Returns whether
/// another block follows.
pub(super) fn old_gnu(block: &Header, at: usize, count: usize, fragments: &mut Vec<(u64, u64)>) -> Option<bool> {
    for field in block.0[at..at + 24 * count].chunks_exact(24) {
        if field[0] == 0 || field[12] == 0 {
            break;
        }
        let part = |field: &[u8]| number(field).and_then(|n| u64::try_from(n).ok());
        fragments.push((part(&field[..12])?, part(&field[12..])?));
    }
    Some(block.0[at + 24 * count] != 0)
}

/// Returns the length of an old GNU sparse file.
pub(super) fn old_gnu_size(header: &Header) -> Option<u64> {
    number(&header.0[483..495]).and_then(|n| u64::try_from(n).ok())
}

/// How a PAX header describes a sparse file.
pub(super) enum PaxSparse {
    /// It does not.
    No,
    /// The map is in the header.
    InHeader(Vec<(u64, u64)>),
    /// The map stands before the data.
    InData,
}

/// Returns what `pax` says about a sparse file; `None` where it is no sense.
pub(super) fn pax(pax: &Pax) -> Option<PaxSparse> {
    if pax.get("GNU.sparse.major") == Some(b"1") && pax.get("GNU.sparse.minor") == Some(b"0") {
        return Some(PaxSparse::InData);
    }
    let numbers = match pax.get("GNU.sparse.map") {
        Some(map) => map.split(|&b| b == b',').map(decimal).collect::<Option<Vec<u64>>>()?,
        None if !pax.sparse.is_empty() => pax.sparse.clone(),
        None if pax.get("GNU.sparse.size").is_some() => Vec::new(),
        None => return Some(PaxSparse::No),
    };
    if !numbers.len().is_multiple_of(2) {
        return None;
    }
    Some(PaxSparse::InHeader(numbers.chunks_exact(2).map(|pair| (pair[0], pair[1])).collect()))
}

/// Returns the length of the file that `pax` gives.
pub(super) fn pax_size(pax: &Pax) -> Option<u64> {
    decimal(pax.get("GNU.sparse.realsize").or_else(|| pax.get("GNU.sparse.size"))?)
}
