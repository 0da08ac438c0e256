use std::io::{self, Read, Write};

use super::*;

/// Bytes that nothing compresses.
fn random(length: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15u64;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 56) as u8
    };
    (0..length).map(|_| next()).collect()
}

/// Lines such as a program has, no two alike.
fn text(length: usize) -> Vec<u8> {
    let noise = random(length / 8 + 1);
    let words = ["let", "entry", "path", "=", "fn", "return", "(mode: u32)", "{", "}", "if", "size", "self.index"];
    let mut out = Vec::with_capacity(length + 80);
    for (at, &byte) in noise.iter().cycle().enumerate() {
        out.extend_from_slice(words[usize::from(byte) % words.len()].as_bytes());
        out.extend_from_slice(if byte > 230 { b"\n" } else { b" " });
        if byte < 16 {
            out.extend_from_slice(format!("{at:x} ").as_bytes());
        }
        if out.len() >= length {
            break;
        }
    }
    out.truncate(length);
    out
}

fn compress(data: &[u8], compression: Compression, threads: usize, write: usize) -> Vec<u8> {
    let mut compressor = Compressor::new(Vec::new(), compression, threads);
    data.chunks(write).for_each(|part| compressor.write_all(part).unwrap());
    compressor.finish().unwrap()
}

fn plain(data: &[u8]) -> io::Result<Vec<u8>> {
    let mut out = Vec::new();
    decompress(data)?.read_to_end(&mut out)?;
    Ok(out)
}

const ALL: [Compression; 5] =
    [Compression::None, Compression::GZIP, Compression::Gzip(0), Compression::ZSTD, Compression::Zstd(1)];

#[test]
fn what_is_compressed_can_be_read_again() {
    for length in [0, 1, 511, (1 << 20) - 1, 1 << 20, (1 << 20) + 1, 9 << 20] {
        let data = text(length);
        for compression in ALL {
            let packed = compress(&data, compression, 2, 70_000);
            assert!(plain(&packed).unwrap() == data, "{compression} {length}");
        }
    }
}

#[test]
fn the_bytes_do_not_depend_on_threads_or_on_how_they_are_written() {
    let data = [text(6 << 20), random(3 << 20), text(1 << 20)].concat();
    for compression in ALL {
        let expected = compress(&data, compression, 1, data.len());
        for (threads, write) in [(2, 4096), (7, 1 << 20), (7, 333_333), (0, 1 << 22)] {
            assert!(compress(&data, compression, threads, write) == expected, "{compression} {threads} {write}");
        }
    }
}

#[test]
fn an_empty_input_is_an_empty_member() {
    let gzip = compress(b"", Compression::GZIP, 1, 1);
    assert_eq!(&gzip[..10], b"\x1f\x8b\x08\0\0\0\0\0\0\xff", "no name, no time, no system");
    assert_eq!(plain(&gzip).unwrap(), b"");
    assert_eq!(plain(&compress(b"", Compression::ZSTD, 1, 1)).unwrap(), b"");
    assert_eq!(compress(b"", Compression::None, 1, 1), b"");
}

#[test]
fn random_data_are_stored_and_all_that_can_be_compressed_is() {
    const MIB: usize = 1 << 20;
    let base64: Vec<u8> = random(MIB)
        .iter()
        .map(|b| b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"[usize::from(b & 63)])
        .collect();
    let hex: Vec<u8> = random(MIB).iter().map(|b| b"0123456789abcdef"[usize::from(b & 15)]).collect();
    let program = std::fs::read(std::env::current_exe().unwrap()).unwrap();
    // A third is text, but hidden from all samples but one.
    let mixed: Vec<u8> = random(MIB)
        .chunks(MIB / 16)
        .zip(0..)
        .flat_map(|(part, at)| {
            let mut part = part.to_vec();
            let (from, to) = if at == 3 { (0, 4096) } else { (4096, 4096 + 22_000) };
            part[from..to].copy_from_slice(&text(to - from));
            part
        })
        .collect();
    for (name, data, most) in [
        ("text", &text(MIB)[..], 40),
        ("base64", &base64, 77),
        ("hex", &hex, 60),
        ("a program", &program[..program.len().min(MIB)], 80),
        ("mixed", &mixed, 90),
        ("zeros", &vec![0; MIB], 1),
    ] {
        let packed = compress(data, Compression::GZIP, 1, MIB);
        assert!(packed.len() * 100 <= data.len() * most, "{name}: {} of {}", packed.len(), data.len());
    }
    let noise = random(MIB);
    assert_eq!(compress(&noise, Compression::GZIP, 1, MIB), compress(&noise, Compression::Gzip(0), 1, MIB));
    assert!(compress(&noise, Compression::GZIP, 1, MIB).len() < MIB + 200);
}

#[test]
fn members_and_frames_of_others_are_read_to_the_last() {
    let gzip = |data: &[u8]| {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(data).unwrap();
        encoder.finish().unwrap()
    };
    assert_eq!(plain(&[gzip(b"one "), gzip(b""), gzip(b"two")].concat()).unwrap(), b"one two");
    let zstd = |data: &[u8]| zstd::bulk::compress(data, 3).unwrap();
    let skippable = b"\x50\x2a\x4d\x18\x04\0\0\0abcd";
    assert_eq!(plain(&[skippable, &zstd(b"one ")[..], skippable, &zstd(b"two")].concat()).unwrap(), b"one two");
    assert_eq!(plain(b"BZh.txt and so on").unwrap(), b"BZh.txt and so on");
}

fn bzip2(data: &[u8]) -> Vec<u8> {
    let mut encoder = ::bzip2::write::BzEncoder::new(Vec::new(), ::bzip2::Compression::fast());
    encoder.write_all(data).unwrap();
    encoder.finish().unwrap()
}

fn xz(data: &[u8]) -> Vec<u8> {
    let options = lzma_rust2::XzOptions::with_preset(1);
    let mut encoder = lzma_rust2::XzWriter::new(Vec::new(), options).unwrap();
    encoder.write_all(data).unwrap();
    encoder.finish().unwrap()
}

#[test]
fn bzip2_and_xz_are_read_to_their_last_stream() {
    for pack in [bzip2, xz] {
        assert_eq!(plain(&[pack(b"one "), pack(b""), pack(b"two")].concat()).unwrap(), b"one two");
        let data = text(2 << 20);
        let packed = pack(&data);
        assert!(plain(&packed).unwrap() == data);
        for cut in [20, packed.len() / 2, packed.len() - 1] {
            assert!(plain(&packed[..cut]).is_err(), "{cut} of {}", packed.len());
        }
        let mut damaged = packed.clone();
        damaged[packed.len() / 2] ^= 1;
        assert!(plain(&damaged).is_err());
    }
}

#[test]
fn a_header_of_xz_cannot_ask_for_all_memory() {
    let mut packed = xz(b"text");
    // The dictionary of the LZMA2 filter: block header size, flags, filter 0x21, one byte of properties.
    let at = packed.windows(2).position(|pair| pair == [0x21, 1]).unwrap() + 2;
    packed[at] = 40;
    let length = (usize::from(packed[12]) + 1) * 4;
    let sum = crc32(&packed[12..12 + length - 4]);
    packed[12 + length - 4..12 + length].copy_from_slice(&sum.to_le_bytes());
    let error = plain(&packed).unwrap_err();
    assert!(error.to_string().contains("memory"), "{error}");
}

fn crc32(data: &[u8]) -> u32 {
    !data.iter().fold(!0, |crc, &byte| {
        (0..8).fold(crc ^ u32::from(byte), |crc, _| if crc & 1 == 1 { crc >> 1 ^ 0xedb8_8320 } else { crc >> 1 })
    })
}

#[test]
fn damage_and_a_cut_are_errors() {
    let data = text(3 << 20);
    for compression in [Compression::GZIP, Compression::ZSTD] {
        let packed = compress(&data, compression, 1, 1 << 20);
        for cut in [5, 12, packed.len() / 2, packed.len() - 1] {
            assert!(plain(&packed[..cut]).is_err(), "{compression} {cut}");
        }
    }
    let mut gzip = compress(&data, Compression::GZIP, 1, 1 << 20);
    let middle = gzip.len() / 2;
    gzip[middle] ^= 1;
    assert!(plain(&gzip).is_err());
}

#[test]
fn a_format_that_cannot_be_read_is_named() {
    for (start, name) in [(&b"LZIP\x01"[..], "lzip"), (b"\x04\x22\x4d\x18\0", "lz4"), (b"\x1f\x9d\x90", "compress")] {
        let error = plain(start).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::Unsupported);
        assert!(error.to_string().contains(name), "{error}");
    }
}

#[test]
fn an_error_of_the_inner_writer_comes_out_and_stays() {
    struct Full(usize);
    impl Write for Full {
        fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
            if self.0 == 0 {
                return Err(io::ErrorKind::StorageFull.into());
            }
            let n = buf.len().min(self.0);
            self.0 -= n;
            Ok(n)
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    for compression in ALL {
        let mut compressor = Compressor::new(Full(1000), compression, 3);
        let result = compressor.write_all(&random(40 << 20));
        assert_eq!(result.unwrap_err().kind(), io::ErrorKind::StorageFull, "{compression}");
        assert!(compressor.write_all(b"x").is_err() && compressor.finish().is_err(), "{compression}");
    }
}

#[test]
fn a_compressor_that_is_dropped_leaves_no_thread_and_does_not_hang() {
    for length in [0, 1, 30 << 20] {
        let mut compressor = Compressor::new(io::sink(), Compression::Zstd(1), 4);
        compressor.write_all(&vec![0; length]).unwrap();
        drop(compressor);
    }
}

#[test]
fn compressions_are_written_as_they_are_read() {
    for (text, compression) in [
        ("none", Compression::None),
        ("uncompressed", Compression::None),
        ("gzip", Compression::Gzip(6)),
        ("gzip:0", Compression::Gzip(0)),
        ("gzip:12", Compression::Gzip(12)),
        ("zstd", Compression::Zstd(3)),
        ("zstd:19", Compression::Zstd(19)),
    ] {
        assert_eq!(text.parse(), Ok(compression), "{text}");
        assert_eq!(compression.to_string().parse(), Ok(compression), "{text}");
    }
    for bad in ["", "gzip:", "gzip:13", "gzip:+1", "zstd:0", "zstd:20", "zstd:300", "none:1", "bzip2", "GZIP"] {
        assert!(bad.parse::<Compression>().is_err(), "{bad}");
    }
}
