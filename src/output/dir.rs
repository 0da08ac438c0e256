//! `dir:` of containers/image: a folder with `version`, `manifest.json`, the blobs by their digits, and for an index the
//! manifests as `DIGITS.manifest.json`.

use std::collections::BTreeSet;
use std::fs;
use std::io::{self, Write};
use std::path::Path;

use oci_spec::image::Descriptor;

use super::OutputError;
use super::content::{Blob, Content, Origin, Top, each};
use super::oci_layout::{Piece, pieces};
use super::source::{Dir, Meter, Source, read_file};
use super::temp::TempFile;
use crate::oci::{Digest, Parts, digest_of};
use crate::progress::Sink;
use crate::store::{describe, is_sound};

const VERSION: &str = "version";
const VERSION_TEXT: &str = "Directory Transport Version: 1.1\n";
const MANIFEST: &str = "manifest.json";

/// The image in such a folder.
pub(super) struct DirOrigin<'a>(pub(super) &'a Dir);

impl Origin for DirOrigin<'_> {
    fn place(&self) -> String {
        self.0.path().display().to_string()
    }

    fn top(&self) -> Result<Top, OutputError> {
        let bytes = self.manifest()?;
        let parts = Parts::parse(&bytes, None, &format!("manifest.json in {}", self.place()))?;
        let start = describe(&parts.media_type, &Digest::of(&bytes), bytes.len() as u64);
        Ok(Top { starts: vec![start], names: Vec::new() })
    }

    fn document(&self, descriptor: &Descriptor, what: &str) -> Result<Vec<u8>, OutputError> {
        let digest = digest_of(descriptor)?;
        let top = self.manifest()?;
        if Digest::of(&top) == digest {
            return Ok(top);
        }
        let missing = || OutputError::Missing { what: what.into(), path: self.0.path().to_path_buf() };
        let names = [format!("{}.manifest.json", digest.hex()), digest.hex()];
        for name in names {
            if let Some(bytes) = read_file(self.0, &name)? {
                return Ok(bytes);
            }
        }
        Err(missing())
    }

    fn blob(&self, descriptor: &Descriptor) -> Result<Blob<'_>, OutputError> {
        let digest = digest_of(descriptor)?;
        let missing = || OutputError::Missing { what: format!("blob {digest}"), path: self.0.path().to_path_buf() };
        self.0.open(&digest.hex())?.ok_or_else(missing)
    }
}

impl DirOrigin<'_> {
    fn manifest(&self) -> Result<Vec<u8>, OutputError> {
        let hint = match self.0.open("index.json") {
            Ok(Some(_)) => "; it may be an OCI layout",
            _ => "",
        };
        read_file(self.0, MANIFEST)?.ok_or_else(|| {
            OutputError::damaged(self.0.path(), format!("it has no manifest.json, so no image of dir:{hint}"))
        })
    }
}

/// Writes `content` into the folder `dir`, in place of the image that is there: blobs first, then the manifest; what only the
/// old image had goes last.
pub(super) fn export(content: &Content, from: &dyn Origin, dir: &Path, sink: &dyn Sink) -> Result<(), OutputError> {
    check_dir(dir)?;
    fs::create_dir_all(dir).map_err(|source| OutputError::io("create", dir, source))?;
    let put = |name: &str, bytes: &[u8]| {
        let temp = TempFile::create(dir)?;
        temp.file().write_all(bytes).map_err(|source| OutputError::io("write", &dir.join(name), source))?;
        temp.place(&dir.join(name))
    };
    // First: a folder that is half an image is then still known to be ours.
    put(VERSION, VERSION_TEXT.as_bytes())?;
    let top = content.digest();
    let documents: BTreeSet<Digest> =
        content.documents.iter().filter_map(|(descriptor, _)| digest_of(descriptor).ok()).collect();
    let all = pieces(&[content]);
    let name = |digest: &Digest| match digest {
        digest if *digest == top => MANIFEST.to_owned(),
        digest if documents.contains(digest) => format!("{}.manifest.json", digest.hex()),
        digest => digest.hex(),
    };
    let missing: Vec<&Piece<'_>> = all
        .iter()
        .filter(|piece| piece.digest != top && !is_sound(&dir.join(name(&piece.digest)), &piece.digest, piece.size()))
        .collect();
    let total = missing.iter().map(|piece| piece.size()).sum();
    let meter = Meter::new(sink, dir.display().to_string(), Some(total));
    each(&missing, from.is_remote(), &|piece| {
        let temp = TempFile::create(dir)?;
        let path = temp.path().to_path_buf();
        piece.write(from, &mut temp.file(), &meter, &|source| OutputError::io("write", &path, source))?;
        temp.place(&dir.join(name(&piece.digest)))
    })?;
    let (_, manifest) = content.documents.last().expect("there is always one");
    put(MANIFEST, manifest)?;
    let wanted: BTreeSet<String> = all.iter().map(|piece| name(&piece.digest)).collect();
    for entry in fs::read_dir(dir).map_err(|source| OutputError::io("read", dir, source))?.flatten() {
        let file = entry.file_name();
        let old = file.to_str().is_some_and(|file| is_ours(file) && !wanted.contains(file) && file != VERSION);
        if old {
            // Signatures and blobs of the image that was here; one that stays does no harm.
            let _ = fs::remove_file(entry.path());
        }
    }
    Ok(())
}

/// Refuses a folder that holds other things than an image of this kind.
fn check_dir(dir: &Path) -> Result<(), OutputError> {
    let entries = match fs::read_dir(dir) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(source) => return Err(OutputError::io("open", dir, source)),
        Ok(entries) => entries,
    };
    let names: Vec<_> = entries.flatten().map(|entry| entry.file_name()).collect();
    let foreign = names.iter().any(|name| !name.to_str().is_some_and(|name| is_ours(name) || name.starts_with('.')));
    let marked = names.iter().any(|name| name == VERSION || name == MANIFEST);
    let only_hidden = names.iter().all(|name| name.as_encoded_bytes().starts_with(b"."));
    if foreign || !(marked || only_hidden) {
        return Err(OutputError::NotADir { path: dir.to_path_buf() });
    }
    Ok(())
}

fn is_ours(name: &str) -> bool {
    let hex = |text: &str| text.len() == 64 && text.bytes().all(|b| b.is_ascii_hexdigit());
    name == VERSION
        || name == MANIFEST
        || hex(name)
        || name.strip_suffix(".manifest.json").is_some_and(hex)
        || name.strip_prefix("signature-").is_some_and(|number| number.bytes().all(|b| b.is_ascii_digit()))
}
