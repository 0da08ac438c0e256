use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use rustix::fs::{Mode, OFlags};
use tar::{EntryType, Header, PaxExtensions};

use super::OutputError;
use super::bounded::Bounded;
use super::source::{Opened, Source};

const BLOCK: u64 = 512;
/// The most headers in an archive of an image: one of 1000 layers has about 4000.
const MAX_ENTRIES: usize = 200_000;
/// The longest extended header (a name, a PAX record) in bytes.
const MAX_EXTENSION: u64 = 1 << 20;
/// The longest name that is looked at: no file of an image has a longer one.
const MAX_NAME: usize = 4096;
/// The most bytes that the names and links take which are kept.
const MAX_NAMES: usize = 64 << 20;
/// The most links from name to name.
const MAX_LINKS: usize = 10;

/// A tar on disk, read in place: one pass over its headers, then each file by its position. A compressed one is
/// unpacked into a file without a name first.
#[derive(Debug)]
pub(super) struct Archive {
    path: PathBuf,
    file: File,
    entries: HashMap<String, Place>,
}

#[derive(Debug)]
enum Place {
    File { at: u64, size: u64 },
    Link(String),
}

impl Archive {
    /// Opens the archive `path`. `scratch` is a folder for what a compressed one is unpacked to.
    pub(super) fn open(path: &Path, scratch: &Path) -> Result<Self, OutputError> {
        let failed = |call| move |source| OutputError::io(call, path, source);
        // Without NONBLOCK the open of a fifo would wait for a writer.
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let fd = rustix::fs::open(path, flags, Mode::empty()).map_err(|errno| failed("open")(errno.into()))?;
        let mut file = File::from(fd);
        if !file.metadata().map_err(failed("open"))?.is_file() {
            return Err(OutputError::damaged(path, "it is not a regular file"));
        }
        let mut magic = [0; 4];
        let known = file.read_at(&mut magic, 0).map_err(failed("read"))?;
        if compression(&magic[..known]).is_some() {
            file = unpack(&file, path, scratch)?;
        }
        let entries = scan(&file, path)?;
        Ok(Archive { path: path.to_path_buf(), file, entries })
    }
}

impl Source for Archive {
    fn path(&self) -> &Path {
        &self.path
    }

    fn open(&self, name: &str) -> Result<Option<Opened<'_>>, OutputError> {
        let Some(mut name) = clean("", name) else { return Ok(None) };
        for _ in 0..=MAX_LINKS {
            match self.entries.get(&name) {
                None => return Ok(None),
                Some(Place::File { at, size }) => {
                    return Ok(Some((Box::new(Region { file: &self.file, at: *at, left: *size }), *size)));
                }
                Some(Place::Link(target)) => name.clone_from(target),
            }
        }
        Err(OutputError::damaged(&self.path, format!("links lead from {name:?} to each other without end")))
    }
}

/// Which compression a stream that begins with `start` has.
pub(super) fn compression(start: &[u8]) -> Option<&'static str> {
    match start {
        [0x1f, 0x8b, ..] => Some("gzip"),
        [0x28, 0xb5, 0x2f, 0xfd, ..] => Some("zstd"),
        _ => None,
    }
}

/// A part of a file.
struct Region<'a> {
    file: &'a File,
    at: u64,
    left: u64,
}

impl Read for Region<'_> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let want = buf.len().min(usize::try_from(self.left).unwrap_or(usize::MAX));
        let n = self.file.read_at(&mut buf[..want], self.at)?;
        self.at += n as u64;
        self.left -= n as u64;
        Ok(n)
    }
}

/// Returns a file without a name that holds what `file` has compressed.
fn unpack(file: &File, path: &Path, scratch: &Path) -> Result<File, OutputError> {
    static SERIAL: AtomicU64 = AtomicU64::new(0);
    let temp = loop {
        let serial = SERIAL.fetch_add(1, Ordering::Relaxed);
        let temp = scratch.join(format!("archive-{}-{serial}", std::process::id()));
        match File::options().read(true).write(true).create_new(true).open(&temp) {
            Ok(made) => {
                std::fs::remove_file(&temp).map_err(|source| OutputError::io("remove", &temp, source))?;
                break made;
            }
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(source) => return Err(OutputError::io("create", &temp, source)),
        }
    };
    let unpacking = |source| OutputError::io("decompress", path, source);
    let mut reader = Bounded::new(crate::layer::decompress(file).map_err(unpacking)?);
    let mut buffer = vec![0; 256 << 10];
    loop {
        match reader.read(&mut buffer) {
            Ok(0) => return Ok(temp),
            Ok(n) => (&temp).write_all(&buffer[..n]).map_err(|source| OutputError::io("write", scratch, source))?,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(source) => return Err(unpacking(source)),
        }
    }
}

/// Returns the regular files and links of the tar `file`. The last of several with one name counts, as in unpacking.
fn scan(file: &File, path: &Path) -> Result<HashMap<String, Place>, OutputError> {
    let damaged = |reason: &str| OutputError::damaged(path, reason);
    let reading = |source| OutputError::io("read", path, source);
    let length = file.metadata().map_err(reading)?.len();
    let mut entries = HashMap::new();
    let mut left = MAX_NAMES;
    let mut next = Extension::default();
    let mut at = 0;
    for _ in 0..MAX_ENTRIES {
        if at + BLOCK > length {
            // Many writers leave out the two empty blocks of the end; the begin of a header is another thing.
            return if at == length && at > 0 { Ok(entries) } else { Err(damaged("it ends in the middle of a tar")) };
        }
        let mut block = [0; BLOCK as usize];
        file.read_exact_at(&mut block, at).map_err(reading)?;
        if block.iter().all(|&b| b == 0) {
            return Ok(entries);
        }
        let header = Header::from_byte_slice(&block);
        if !checksum_fits(header, &block) {
            return Err(damaged("it is not a tar, or a header of it is damaged"));
        }
        let own = header.entry_size().map_err(|_| damaged("a header in it has a bad size"))?;
        let kind = header.entry_type();
        let extends = kind.is_gnu_longname() || kind.is_gnu_longlink() || kind.is_pax_local_extensions();
        let size = if extends { own } else { next.size.unwrap_or(own) };
        let start = at + BLOCK;
        let end = start.checked_add(size).filter(|&end| end <= length);
        let end = end.ok_or_else(|| damaged("it ends in the middle of a file"))?;
        if extends {
            if size > MAX_EXTENSION {
                return Err(damaged("a name in it is too long"));
            }
            let mut bytes = vec![0; size as usize];
            file.read_exact_at(&mut bytes, start).map_err(reading)?;
            next.add(kind, &bytes).ok_or_else(|| damaged("an extended header in it is damaged"))?;
        } else if !kind.is_pax_global_extensions() {
            let extension = std::mem::take(&mut next);
            if let Some((name, place)) = extension.entry(header, start, size) {
                let link = if let Place::Link(link) = &place { link.len() } else { 0 };
                left = left.checked_sub(name.len() + link).ok_or_else(|| damaged("its names are too long in all"))?;
                entries.insert(name, place);
            }
        }
        // The padding behind the last file may be missing.
        at = end.next_multiple_of(BLOCK).min(length);
    }
    Err(damaged("it has too many files for an archive of images"))
}

/// What extended headers say about the entry behind them.
#[derive(Default)]
struct Extension {
    name: Option<Vec<u8>>,
    link: Option<Vec<u8>>,
    size: Option<u64>,
}

impl Extension {
    fn add(&mut self, kind: EntryType, bytes: &[u8]) -> Option<()> {
        let text = || bytes.split(|&b| b == 0).next().unwrap_or_default().to_vec();
        if kind.is_gnu_longname() {
            self.name = Some(text());
        } else if kind.is_gnu_longlink() {
            self.link = Some(text());
        } else {
            for record in PaxExtensions::new(bytes) {
                let record = record.ok()?;
                match record.key_bytes() {
                    b"path" => self.name = Some(record.value_bytes().to_vec()),
                    b"linkpath" => self.link = Some(record.value_bytes().to_vec()),
                    b"size" => self.size = Some(record.value().ok()?.parse().ok()?),
                    _ => {}
                }
            }
        }
        Some(())
    }

    /// Returns the entry of `header`, if it is a file or a link with a name that leads nowhere else.
    fn entry(self, header: &Header, at: u64, size: u64) -> Option<(String, Place)> {
        let name = self.name.unwrap_or_else(|| header.path_bytes().into_owned());
        if name.len() > MAX_NAME {
            return None;
        }
        let name = clean("", std::str::from_utf8(&name).ok()?)?;
        let kind = header.entry_type();
        if kind.is_file() || kind.is_contiguous() {
            return Some((name, Place::File { at, size }));
        }
        let target = self.link.or_else(|| header.link_name_bytes().map(|link| link.into_owned()))?;
        let target = std::str::from_utf8(&target).ok().filter(|target| target.len() <= MAX_NAME)?;
        let from = if kind.is_symlink() {
            name.rsplit_once('/').map_or("", |(dir, _)| dir)
        } else if kind.is_hard_link() {
            ""
        } else {
            return None;
        };
        Some((name.clone(), Place::Link(clean(from, target)?)))
    }
}

/// Returns `name`, seen from the folder `from`, without `.` and `..`; `None` where it leads out of the archive.
fn clean(from: &str, name: &str) -> Option<String> {
    if name.starts_with('/') {
        return None;
    }
    let mut parts: Vec<&str> = Vec::new();
    for part in from.split('/').chain(name.split('/')) {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()?),
            part => parts.push(part),
        }
    }
    (!parts.is_empty()).then(|| parts.join("/"))
}

fn checksum_fits(header: &Header, block: &[u8; BLOCK as usize]) -> bool {
    let sum: u32 = block
        .iter()
        .enumerate()
        .map(|(at, &b)| if (148..156).contains(&at) { u32::from(b' ') } else { u32::from(b) })
        .sum();
    header.cksum().is_ok_and(|said| said == sum)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn archive(bytes: &[u8]) -> Result<(tempfile::TempDir, Archive), OutputError> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.tar");
        std::fs::write(&path, bytes).unwrap();
        let archive = Archive::open(&path, dir.path())?;
        Ok((dir, archive))
    }

    fn content(archive: &Archive, name: &str) -> Option<String> {
        let (mut reader, size) = archive.open(name).unwrap()?;
        let mut text = String::new();
        reader.read_to_string(&mut text).unwrap();
        assert_eq!(text.len() as u64, size);
        Some(text)
    }

    fn link(tar: &mut tar::Builder<Vec<u8>>, kind: EntryType, name: &str, target: &str) {
        let mut header = Header::new_gnu();
        header.set_entry_type(kind);
        header.set_size(0);
        tar.append_link(&mut header, name, target).unwrap();
    }

    fn file(tar: &mut tar::Builder<Vec<u8>>, name: &str, text: &str) {
        let mut header = Header::new_gnu();
        header.set_size(text.len() as u64);
        tar.append_data(&mut header, name, text.as_bytes()).unwrap();
    }

    #[test]
    fn files_are_found_by_name_through_links_and_long_names() {
        let long = format!("{}/layer.tar", "d".repeat(200));
        let mut tar = tar::Builder::new(Vec::new());
        file(&mut tar, "./manifest.json", "m");
        file(&mut tar, "a/layer.tar", "first");
        file(&mut tar, "a/layer.tar", "second");
        file(&mut tar, &long, "long");
        link(&mut tar, EntryType::Symlink, "b/layer.tar", "../a/layer.tar");
        link(&mut tar, EntryType::Link, "c/layer.tar", "b/layer.tar");
        let bytes = tar.into_inner().unwrap();
        let gzip = {
            let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
            gzip.write_all(&bytes).unwrap();
            gzip.finish().unwrap()
        };
        for bytes in [&bytes, &gzip, &zstd::encode_all(&bytes[..], 1).unwrap()] {
            let (dir, archive) = archive(bytes).unwrap();
            assert_eq!(content(&archive, "manifest.json").as_deref(), Some("m"));
            for name in ["a/layer.tar", "b/layer.tar", "c/layer.tar"] {
                assert_eq!(content(&archive, name).as_deref(), Some("second"), "{name}");
            }
            assert_eq!(content(&archive, &long).as_deref(), Some("long"));
            assert_eq!(content(&archive, "b"), None);
            assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
        }
    }

    #[test]
    fn long_names_are_not_kept_and_of_the_others_not_any_number() {
        let mut tar = tar::Builder::new(Vec::new());
        file(&mut tar, "a", "a");
        file(&mut tar, &"n/".repeat(2500), "long");
        link(&mut tar, EntryType::Symlink, "b", &"n/".repeat(2500));
        let (_dir, small) = archive(&tar.into_inner().unwrap()).unwrap();
        assert_eq!(small.entries.keys().collect::<Vec<_>>(), ["a"]);
        let mut tar = tar::Builder::new(Vec::new());
        for number in 0..MAX_NAMES / 4000 + 1 {
            link(&mut tar, EntryType::Symlink, &format!("{number:02000}"), &"n".repeat(2000));
        }
        let bytes = zstd::encode_all(&tar.into_inner().unwrap()[..], 1).unwrap();
        assert!(archive(&bytes).unwrap_err().to_string().contains("too long in all"));
    }

    #[test]
    fn links_out_of_the_archive_and_in_circles_lead_nowhere() {
        let mut tar = tar::Builder::new(Vec::new());
        link(&mut tar, EntryType::Symlink, "out", "/etc/passwd");
        link(&mut tar, EntryType::Symlink, "up", "../../etc/passwd");
        link(&mut tar, EntryType::Symlink, "one", "two");
        link(&mut tar, EntryType::Symlink, "two", "one");
        let (_dir, archive) = archive(&tar.into_inner().unwrap()).unwrap();
        assert_eq!(content(&archive, "out"), None);
        assert_eq!(content(&archive, "up"), None);
        assert_eq!(content(&archive, "../etc/passwd"), None);
        let Err(error) = archive.open("one") else { panic!("a circle was opened") };
        assert!(error.to_string().contains("without end"));
    }

    #[test]
    fn a_damaged_tar_is_an_error_and_never_a_panic() {
        let mut tar = tar::Builder::new(Vec::new());
        file(&mut tar, "a", &"x".repeat(2000));
        let bytes = tar.into_inner().unwrap();
        for (cut, says) in [(0, "middle of a tar"), (100, "middle of a tar"), (600, "middle of a file")] {
            let error = archive(&bytes[..cut]).unwrap_err().to_string();
            assert!(error.contains(says), "{cut}: {error}");
        }
        let mut flipped = bytes.clone();
        flipped[130] ^= 1;
        assert!(archive(&flipped).unwrap_err().to_string().contains("it is not a tar"));
        // A name of four gigabytes must not be read into memory.
        let mut header = Header::new_gnu();
        header.set_entry_type(EntryType::GNULongName);
        header.set_size(2 << 20);
        header.set_cksum();
        let mut huge = header.as_bytes().to_vec();
        huge.resize(3 << 20, b'n');
        assert!(archive(&huge).unwrap_err().to_string().contains("too long"));
        let mut header = Header::new_gnu();
        header.set_size(u64::MAX);
        header.set_cksum();
        assert!(archive(header.as_bytes()).is_err());
    }
}
