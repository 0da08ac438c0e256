//! A base image with all that is hard to unpack without privileges: `nodes`, busybox and a folder /nodes.

use std::path::Path;

use coracle::oci::Digest;
use tar::{EntryType, Header};

use super::base;

/// cap_net_raw+ep, in the form of file systems (version 2).
const NET_RAW: &[u8] = &[1, 0, 0, 2, 0, 32, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];

/// Makes a layout of it in `dir`.
pub fn layout(dir: &Path) {
    let layer = Archive(tar::Builder::new(Vec::new()))
        .put(EntryType::Directory, "nodes/", "", 0o755, (0, 0))
        .device("nodes/moved", 0o666, (1, 3))
        .device("nodes/removed", 0o640, (10, 200))
        .device("nodes/kept", 0o620, (5, 1))
        .put(EntryType::Directory, "nodes/tree/", "", 0o750, (3, 4))
        .device("nodes/tree/null", 0o666, (1, 3))
        .put(EntryType::Fifo, "nodes/fifo", "", 0o640, (7, 8))
        .file("nodes/file", 0o644, (0, 0))
        .put(EntryType::Symlink, "nodes/link", "file", 0o777, (9, 9))
        .put(EntryType::Directory, "nodes/dir/", "", 0o2775, (0, 50))
        .file("nodes/dir/x", 0o600, (33, 33))
        .put(EntryType::Directory, "nodes/opaque/", "", 0o755, (0, 0))
        .file("nodes/opaque/one", 0o644, (0, 0))
        .file("nodes/opaque/two", 0o644, (0, 0))
        .file("nodes/first", 0o644, (1, 2))
        .put(EntryType::Link, "nodes/second", "nodes/first", 0o644, (1, 2))
        .xattr("user.test", b"a value")
        .file("nodes/attributes", 0o644, (0, 0))
        .xattr("security.capability", NET_RAW)
        .file("nodes/capable", 0o755, (0, 0))
        .file("nodes/setuid", 0o4755, (33, 0))
        .0
        .into_inner()
        .expect("an archive in memory");
    base::busybox_and(dir, &layer, Digest::of(&layer));
}

struct Archive(tar::Builder<Vec<u8>>);

impl Archive {
    fn file(self, name: &str, mode: u32, owner: (u64, u64)) -> Self {
        self.entry(EntryType::Regular, name, "", mode, owner, None, b"text\n")
    }

    fn put(self, kind: EntryType, name: &str, target: &str, mode: u32, owner: (u64, u64)) -> Self {
        self.entry(kind, name, target, mode, owner, None, b"")
    }

    fn device(self, name: &str, mode: u32, number: (u32, u32)) -> Self {
        self.entry(EntryType::Char, name, "", mode, (0, 5), Some(number), b"")
    }

    /// An attribute of the next entry.
    fn xattr(self, name: &str, value: &[u8]) -> Self {
        let rest = [format!(" SCHILY.xattr.{name}=").as_bytes(), value, b"\n"].concat();
        let length = (rest.len()..).find(|length| length.to_string().len() + rest.len() == *length).expect("a length");
        let record = [length.to_string().as_bytes(), &rest].concat();
        self.entry(EntryType::XHeader, "pax", "", 0o644, (0, 0), None, &record)
    }

    #[allow(clippy::too_many_arguments)]
    fn entry(
        mut self,
        kind: EntryType,
        name: &str,
        target: &str,
        mode: u32,
        owner: (u64, u64),
        device: Option<(u32, u32)>,
        content: &[u8],
    ) -> Self {
        let mut header = Header::new_ustar();
        header.set_entry_type(kind);
        header.set_mode(mode);
        header.set_uid(owner.0);
        header.set_gid(owner.1);
        header.set_size(content.len() as u64);
        header.set_mtime(1_600_000_000);
        header.set_path(name).expect("a short name");
        if !target.is_empty() {
            header.set_link_name(target).expect("a short name");
        }
        if let Some((major, minor)) = device {
            header.set_device_major(major).expect("ustar");
            header.set_device_minor(minor).expect("ustar");
        }
        header.set_cksum();
        self.0.append(&header, content).expect("an archive in memory");
        self
    }
}
