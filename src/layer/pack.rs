use std::fs::File;
use std::io::{self, Write};

use super::LayerError;
use super::tar::{Member, MemberKind, TarError, Writer};
use crate::tree::{Entry, Kind, TreePath};

/// How a layer is written.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PackOptions {
    /// Times after this one, in seconds since 1970, become this one (SOURCE_DATE_EPOCH). `None` keeps all.
    pub clamp: Option<i64>,
}

/// Writes `entries`, sorted as in an index, to `out` as an archive. `open` gives the contents of a regular file.
///
/// The same entries give the same bytes: ustar, with PAX headers only for what ustar cannot say; whole seconds; no user
/// names; no padding but the two blocks of zeros at the end. Whiteouts are written as `.wh.` files. Implied directories
/// are not written; a root that is not implied is `./`.
///
/// # Errors
/// [`LayerError::Reserved`] for a name that would be a whiteout, [`LayerError::Tar`] for what an archive cannot hold, for a
/// file that cannot be read or has another length than its entry says, and where `out` fails.
pub fn pack<'a>(
    entries: impl IntoIterator<Item = &'a Entry>,
    open: &mut dyn FnMut(&Entry) -> io::Result<File>,
    out: &mut dyn Write,
    options: &PackOptions,
) -> Result<(), LayerError> {
    let mut writer = Writer::new(out);
    for entry in entries {
        if entry.implied {
            continue;
        }
        let member = member(entry, options)?;
        match entry.kind {
            Kind::File { .. } => {
                let mut file =
                    open(entry).map_err(|source| TarError::Contents { name: entry.path.to_string(), source })?;
                writer.append(&member, &mut file)?;
            }
            _ => writer.append(&member, &mut io::empty())?,
        }
    }
    writer.finish()?;
    Ok(())
}

fn member(entry: &Entry, options: &PackOptions) -> Result<Member, LayerError> {
    let path = &entry.path;
    if path.components().any(|part| part.starts_with(b".wh.")) {
        return Err(LayerError::Reserved { path: path.clone() });
    }
    if let Kind::Whiteout = entry.kind {
        return whiteout(path);
    }
    let mut name = path.as_bytes().to_vec();
    let kind = match &entry.kind {
        Kind::File { size, .. } => MemberKind::File { size: *size },
        Kind::Dir => {
            name.extend_from_slice(if name.is_empty() { b"./" } else { b"/" });
            MemberKind::Dir
        }
        Kind::Symlink { target } => MemberKind::Symlink { target: target.clone() },
        Kind::Hardlink { target } => MemberKind::Hardlink { target: target.as_bytes().to_vec() },
        Kind::Char { device } => MemberKind::Char(device.0, device.1),
        Kind::Block { device } => MemberKind::Block(device.0, device.1),
        Kind::Fifo | Kind::Whiteout => MemberKind::Fifo,
    };
    let meta = &entry.meta;
    Ok(Member {
        name,
        kind,
        mode: meta.mode,
        uid: meta.uid,
        gid: meta.gid,
        mtime: options.clamp.map_or(meta.mtime.secs, |clamp| meta.mtime.secs.min(clamp)),
        xattrs: meta.xattrs.clone(),
    })
}

/// An empty file `.wh.name`, all zero (image-spec, layer.md, "Whiteouts").
fn whiteout(path: &TreePath) -> Result<Member, LayerError> {
    let name = [b".wh.", path.name().unwrap_or_default()].concat();
    if name.len() > 255 {
        return Err(TarError::Unrepresentable { name: path.to_string(), what: "the removal of so long a name" }.into());
    }
    let path = path.parent().unwrap_or_default().child(&name);
    let kind = MemberKind::File { size: 0 };
    let xattrs = Default::default();
    Ok(Member { name: path.as_bytes().to_vec(), kind, mode: 0, uid: 0, gid: 0, mtime: 0, xattrs })
}

#[cfg(test)]
mod tests;
