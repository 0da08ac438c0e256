//! Which extended attributes of an image are kept.

use std::collections::BTreeMap;

use super::tar::MemberKind;

/// Linux capabilities of a program (capabilities(7)).
pub(super) const CAPABILITY: &[u8] = b"security.capability";

/// Returns what of `xattrs` belongs to the image, for a file of `kind`: capabilities of files, as version 2, and `user.*` of
/// files and directories. All else is dropped without a word:
///
/// - `trusted.*`, `system.*` (ACLs) and other `security.*` (SELinux, IMA), as container builders do: they speak about the
///   machine that wrote the archive;
/// - `user.overlay.*`, which would be orders to overlayfs, and `user.coracle.*`;
/// - what the kernel would refuse to store: such names, and capabilities that are none.
pub(super) fn kept(xattrs: BTreeMap<Vec<u8>, Vec<u8>>, kind: &MemberKind) -> BTreeMap<Vec<u8>, Vec<u8>> {
    let file = matches!(kind, MemberKind::File { .. } | MemberKind::Hardlink { .. });
    if xattrs.is_empty() || !(file || matches!(kind, MemberKind::Dir)) {
        return BTreeMap::new();
    }
    let keep = |(name, value): (Vec<u8>, Vec<u8>)| {
        if name == CAPABILITY {
            return capability(&value).filter(|_| file).map(|value| (name, value));
        }
        let user = name.strip_prefix(b"user.")?;
        let ours = user.starts_with(b"overlay.") || user.starts_with(b"coracle.");
        (!ours && !user.is_empty() && name.len() <= 255 && !name.contains(&0)).then_some((name, value))
    };
    xattrs.into_iter().filter_map(keep).collect()
}

/// Returns a `security.capability` without the id of a namespace's root: version 3 becomes version 2.
fn capability(value: &[u8]) -> Option<Vec<u8>> {
    let revision = *value.get(3)?;
    match (revision, value.len()) {
        (2, 20) => Some(value.to_vec()),
        (3, 24) => {
            let mut value = value[..20].to_vec();
            value[3] = 2;
            Some(value)
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_belongs_to_the_image_is_kept() {
        let v2 = [&[1, 0, 0, 2][..], &[7; 16]].concat();
        let v3 = [&[1, 0, 0, 3][..], &[7; 16], &[0, 0, 1, 0]].concat();
        let names = [
            "user.mime",
            "user.overlay.opaque",
            "user.overlay.whiteout",
            "user.coracle.owner",
            "user.",
            "user.a\0b",
            "trusted.overlay.opaque",
            "security.selinux",
            "system.posix_acl_access",
        ];
        let mut xattrs: BTreeMap<_, _> = names.iter().map(|n| (n.as_bytes().to_vec(), b"y".to_vec())).collect();
        xattrs.insert(CAPABILITY.to_vec(), v3);
        let kept_of = |kind| kept(xattrs.clone(), &kind);
        let file = kept_of(MemberKind::File { size: 0 });
        assert_eq!(file.len(), 2);
        assert_eq!(file[&b"user.mime"[..]], b"y");
        assert_eq!(file[CAPABILITY], v2, "version 3 becomes version 2");
        assert_eq!(kept_of(MemberKind::Dir).into_keys().collect::<Vec<_>>(), [b"user.mime"]);
        assert!(kept_of(MemberKind::Fifo).is_empty());
        assert_eq!(capability(b"\x01\0\0\x02"), None);
    }
}
