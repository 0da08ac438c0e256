//! Archives for tests, good and bad, written header by header.

/// An archive that is being made. Methods chain; [`Archive::end`] gives the bytes.
#[derive(Default)]
pub(super) struct Archive {
    bytes: Vec<u8>,
    pax: Vec<u8>,
}

/// The fields of a header that a test may want to spoil, as they stand there.
pub(super) struct Raw<'a> {
    pub(super) name: &'a [u8],
    pub(super) flag: u8,
    pub(super) link: &'a [u8],
    pub(super) mode: &'a [u8],
    pub(super) uid: &'a [u8],
    pub(super) size: &'a [u8],
    pub(super) mtime: &'a [u8],
    pub(super) device: (&'a [u8], &'a [u8]),
    pub(super) magic: &'a [u8],
}

impl Default for Raw<'_> {
    fn default() -> Self {
        Raw {
            name: b"file",
            flag: b'0',
            link: b"",
            mode: b"0000644",
            uid: b"0000000",
            size: b"00000000000",
            mtime: b"00000000144",
            device: (b"", b""),
            magic: b"ustar\x0000",
        }
    }
}

impl Archive {
    pub(super) fn new() -> Self {
        Archive::default()
    }

    /// Adds a header with a right checksum and with `data`, padded.
    pub(super) fn raw(mut self, raw: &Raw<'_>, data: &[u8]) -> Self {
        if !self.pax.is_empty() {
            let records = std::mem::take(&mut self.pax);
            let size = format!("{:011o}", records.len());
            self = self.raw(&Raw { name: b"pax", flag: b'x', size: size.as_bytes(), ..Raw::default() }, &records);
        }
        let mut header = [0u8; 512];
        let mut put = |at: usize, text: &[u8]| header[at..at + text.len()].copy_from_slice(text);
        put(0, raw.name);
        put(100, raw.mode);
        put(108, raw.uid);
        put(116, b"0000000");
        put(124, raw.size);
        put(136, raw.mtime);
        put(148, b"        ");
        put(156, &[raw.flag]);
        put(157, raw.link);
        put(257, raw.magic);
        put(329, raw.device.0);
        put(337, raw.device.1);
        let sum: u32 = header.iter().map(|&b| u32::from(b)).sum();
        header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        self.bytes.extend_from_slice(&header);
        self.block(data)
    }

    /// Adds bytes, padded to a block.
    pub(super) fn block(mut self, data: &[u8]) -> Self {
        self.bytes.extend_from_slice(data);
        self.bytes.resize(self.bytes.len().next_multiple_of(512), 0);
        self
    }

    /// Adds a PAX record before the next entry.
    pub(super) fn pax(mut self, key: &str, value: impl AsRef<[u8]>) -> Self {
        let value = value.as_ref();
        let mut length = key.len() + value.len() + 4;
        while length != key.len() + value.len() + 3 + length.to_string().len() {
            length += 1;
        }
        self.pax.extend_from_slice(format!("{length} {key}=").as_bytes());
        self.pax.extend_from_slice(value);
        self.pax.push(b'\n');
        self
    }

    pub(super) fn file(self, name: &str, data: &[u8]) -> Self {
        let size = format!("{:011o}", data.len());
        self.raw(&Raw { name: name.as_bytes(), size: size.as_bytes(), ..Raw::default() }, data)
    }

    pub(super) fn dir(self, name: &str, mode: u32) -> Self {
        let mode = format!("{mode:07o}");
        self.raw(&Raw { name: name.as_bytes(), flag: b'5', mode: mode.as_bytes(), ..Raw::default() }, b"")
    }

    pub(super) fn symlink(self, name: &str, target: &str) -> Self {
        let (name, link) = (name.as_bytes(), target.as_bytes());
        self.raw(&Raw { name, flag: b'2', link, mode: b"0000777", ..Raw::default() }, b"")
    }

    pub(super) fn link(self, name: &str, target: &str) -> Self {
        self.raw(&Raw { name: name.as_bytes(), flag: b'1', link: target.as_bytes(), ..Raw::default() }, b"")
    }

    pub(super) fn node(self, name: &str, flag: u8, major: u32, minor: u32) -> Self {
        let (major, minor) = (format!("{major:07o}"), format!("{minor:07o}"));
        let device = (major.as_bytes(), minor.as_bytes());
        self.raw(&Raw { name: name.as_bytes(), flag, device, ..Raw::default() }, b"")
    }

    /// Returns the archive with its end.
    pub(super) fn end(self) -> Vec<u8> {
        self.block(&[0; 1024]).bytes
    }

    /// Returns the archive as it is, cut off.
    pub(super) fn cut(self) -> Vec<u8> {
        self.bytes
    }
}
