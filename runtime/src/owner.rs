//! The owner of a file as text in an extended attribute, for places where files can not belong to whom they belong in the
//! image, and the device that an ordinary file stands for. Touches no file.

use std::fmt;

/// The name of the attribute. It is on regular files and directories only, never comes from an image, and never goes into
/// one.
pub const XATTR: &str = "user.coracle.file";

const TYPE_BITS: u32 = libc::S_IFMT;

/// Whom a file belongs to in the image, and which device it is there.
///
/// As text: `UID:GID`, or `UID:GID:MODE:MAJOR:MINOR` for a device; decimal but for MODE, which is octal with the bits of the
/// type.
///
/// ```
/// use coracle_runtime::owner::{Device, FileOwner};
/// let null = Device { mode: 0o20666, major: 1, minor: 3 };
/// let owner = FileOwner { uid: 0, gid: 5, device: Some(null) };
/// assert_eq!(owner.to_string(), "0:5:20666:1:3");
/// assert_eq!(FileOwner::parse(b"0:5:20666:1:3"), Some(owner));
/// ```
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct FileOwner {
    /// User id in the image.
    pub uid: u32,
    /// Group id in the image.
    pub gid: u32,
    /// The device that the file stands for; it is empty on disk, with the mode 0600. `None` for any other file, which is
    /// what it is on disk.
    pub device: Option<Device>,
}

/// A device node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Device {
    /// Permission bits, with those of the type: S_IFCHR or S_IFBLK.
    pub mode: u32,
    /// Major number.
    pub major: u32,
    /// Minor number.
    pub minor: u32,
}

impl FileOwner {
    /// Returns the owner of a file that is no device.
    pub const fn new(uid: u32, gid: u32) -> Self {
        FileOwner { uid, gid, device: None }
    }

    /// Returns what the value `text` of the attribute says; `None` where it is not exactly what `Display` writes.
    pub fn parse(text: &[u8]) -> Option<Self> {
        let text = std::str::from_utf8(text).ok()?;
        let mut fields = text.split(':');
        let mut owner = FileOwner::new(fields.next()?.parse().ok()?, fields.next()?.parse().ok()?);
        if let Some(mode) = fields.next() {
            let mode = u32::from_str_radix(mode, 8).ok()?;
            let device = Device { mode, major: fields.next()?.parse().ok()?, minor: fields.next()?.parse().ok()? };
            let is_device = matches!(mode & TYPE_BITS, libc::S_IFCHR | libc::S_IFBLK);
            if !is_device || mode & !(TYPE_BITS | 0o7777) != 0 {
                return None;
            }
            owner.device = Some(device);
        }
        // One value, one text: no sign, no leading zero, no further field.
        (owner.to_string() == text).then_some(owner)
    }

    /// Returns whether a file without the attribute says the same.
    pub fn is_default(&self) -> bool {
        *self == FileOwner::default()
    }
}

impl Device {
    /// Returns whether it is a block device, not a character device.
    pub fn is_block(&self) -> bool {
        self.mode & TYPE_BITS == libc::S_IFBLK
    }
}

impl fmt::Display for FileOwner {
    /// Writes the value of the attribute.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.uid, self.gid)?;
        match &self.device {
            Some(Device { mode, major, minor }) => write!(f, ":{mode:o}:{major}:{minor}"),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_back() {
        let device = |mode, major, minor| Some(Device { mode, major, minor });
        for (text, device) in [
            ("0:0", None),
            ("1000:4294967295", None),
            ("0:6:60660:8:1", device(0o60660, 8, 1)),
            ("7:8:26755:4095:1048575", device(0o26755, 4095, 1_048_575)),
        ] {
            let owner = FileOwner::parse(text.as_bytes()).expect(text);
            assert_eq!(owner.device, device);
            assert_eq!(owner.to_string(), text);
        }
        assert!(FileOwner::parse(b"0:0").expect("an owner").is_default());
        assert!(FileOwner::parse(b"0:6:60660:8:1").expect("an owner").device.expect("a device").is_block());
    }

    #[test]
    fn any_other_text_says_nothing() {
        for text in [
            "",
            ":",
            "0",
            "0:",
            ":0",
            "-1:0",
            "+1:0",
            "01:0",
            "0:0:",
            " 0:0",
            "0:0\n",
            "0:4294967296",
            "a:b",
            "0:0:20666",
            "0:0:20666:1",
            "0:0:20666:1:3:5",
            "0:0:100644:1:3",
            "0:0:0:1:3",
            "0:0:9:1:3",
            "0:0:1020666:1:3",
            "0:0:20666:1:3\0",
            "0:0:020666:1:3",
        ] {
            assert_eq!(FileOwner::parse(text.as_bytes()), None, "{text:?}");
        }
        assert_eq!(FileOwner::parse(b"0:\xff"), None);
    }
}
