//! One block of input, compressed on its own: a gzip member or a zstd frame.

use std::cell::RefCell;
use std::io;

use libdeflater::CompressionLvl;

use super::Compression;

/// Bytes of input in a gzip member.
const GZIP_BLOCK: usize = 1 << 20;
/// Bytes of input in a zstd frame.
const ZSTD_BLOCK: usize = 4 << 20;

/// Returns how many bytes of input make a block. It is part of the format: another number makes other bytes.
pub(super) fn length(compression: Compression) -> usize {
    match compression {
        Compression::Zstd(_) => ZSTD_BLOCK,
        Compression::None | Compression::Gzip(_) => GZIP_BLOCK,
    }
}

/// Compresses blocks; each thread has one.
pub(super) enum Blocks {
    Gzip { dense: libdeflater::Compressor, stored: libdeflater::Compressor, probe: libdeflater::Compressor },
    Zstd(zstd::bulk::Compressor<'static>),
    Plain,
}

impl Blocks {
    pub(super) fn new(compression: Compression) -> io::Result<Self> {
        Ok(match compression {
            Compression::None => Blocks::Plain,
            Compression::Gzip(level) => {
                let at = |level| CompressionLvl::new(level).map(libdeflater::Compressor::new);
                let at = |level| at(level).map_err(|_| io::Error::from(io::ErrorKind::InvalidInput));
                Blocks::Gzip { dense: at(i32::from(level.min(12)))?, stored: at(0)?, probe: at(1)? }
            }
            Compression::Zstd(level) => Blocks::Zstd(zstd::bulk::Compressor::new(i32::from(level.clamp(1, 19)))?),
        })
    }

    /// Returns `block` compressed. The result depends on `block` alone.
    pub(super) fn compress(&mut self, block: &[u8]) -> io::Result<Vec<u8>> {
        match self {
            Blocks::Plain => Ok(block.to_vec()),
            Blocks::Zstd(zstd) => zstd.compress(block),
            Blocks::Gzip { dense, stored, probe } => {
                let gzip = if is_incompressible(block, probe) { stored } else { dense };
                let mut out = vec![0; gzip.gzip_compress_bound(block.len())];
                let length = gzip.gzip_compress(block, &mut out).map_err(io::Error::other)?;
                out.truncate(length);
                Ok(out)
            }
        }
    }
}

/// Returns `block` compressed, by what this thread keeps for that: to make it anew takes longer than to compress a small layer.
pub(super) fn compress(compression: Compression, block: &[u8]) -> io::Result<Vec<u8>> {
    thread_local! {
        static KEPT: RefCell<Option<(Compression, Blocks)>> = const { RefCell::new(None) };
    }
    KEPT.with_borrow_mut(|kept| {
        let blocks = match kept.take_if(|(other, _)| *other == compression) {
            Some((_, blocks)) => Ok(blocks),
            None => Blocks::new(compression),
        };
        let (_, blocks) = kept.insert((compression, blocks?));
        blocks.compress(block)
    })
}

/// Places in a block that are looked at, and bytes at each.
const SAMPLES: usize = 16;
const SAMPLE: usize = 4 << 10;

/// Returns whether gzip would save less than about two per cent: random, encrypted or compressed data, which are stored
/// as they are, ten times faster.
///
/// First by compressing sixteen samples, which is cheap and lets go of nearly all that can be compressed; then by how
/// even the bytes of the whole block are, so that a few unlucky samples in a block of text do no harm.
fn is_incompressible(block: &[u8], probe: &mut libdeflater::Compressor) -> bool {
    if block.len() < SAMPLES * SAMPLE {
        return false;
    }
    let step = block.len() / SAMPLES;
    let sample: Vec<u8> = block.chunks_exact(step).take(SAMPLES).flat_map(|part| &part[..SAMPLE]).copied().collect();
    let mut out = vec![0; probe.deflate_compress_bound(sample.len())];
    match probe.deflate_compress(&sample, &mut out) {
        Ok(length) if length * 100 >= sample.len() * 98 => is_even(block),
        _ => false,
    }
}

/// Returns whether all byte values are about as frequent in `block`: at least some 7.9 bits of entropy in a byte. In whole
/// numbers, because logarithms differ from machine to machine, and the compressed bytes must not.
fn is_even(block: &[u8]) -> bool {
    // Four tables, because one would wait for itself on runs of equal bytes.
    let mut counts = [[0u32; 256]; 4];
    for four in block.chunks(4) {
        for (table, &byte) in counts.iter_mut().zip(four) {
            table[usize::from(byte)] += 1;
        }
    }
    let count = |byte: usize| counts.iter().map(|table| u64::from(table[byte])).sum::<u64>();
    let squares: u64 = (0..256).map(|byte| count(byte).pow(2)).sum();
    let length = block.len() as u64;
    // Equal counts would give just length² / 256.
    squares * 256 * 100 < length * length * 115
}
