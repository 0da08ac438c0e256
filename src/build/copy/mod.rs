//! COPY and ADD: what is read ([`select`]), what goes where ([`plan`]), and the files of a layer. Nothing is mounted: the destination is
//! known from the indexes of the layers below.

mod archive;
mod compose;
mod error;
mod filter;
mod find;
mod image;
mod inline;
mod plan;
mod select;

pub(super) use compose::Composer;
pub use error::CopyError;
pub(super) use inline::Nothing;
pub use inline::{Fetched, OtherTree};
pub(super) use select::{Selection, select};

use std::collections::BTreeMap;

use coracle_runtime::container::Control;

use super::{BuildError, UserError, lookup_owner};
use crate::store::{Active, Index, Store, View};
use crate::tree::{Node, Owners, Tree};
use archive::{Archive, Unpacker};
use plan::Placing;
use select::{Archives, Origin, Source};

/// The extended attributes that COPY keeps. BuildKit drops `user.*`.
const KEPT_XATTR: &[u8] = b"security.capability";

fn kept(mut node: Node) -> Node {
    node.meta.xattrs.retain(|name, _| name == KEPT_XATTR);
    node
}

/// What a selection is copied from.
pub(super) struct Main<'a> {
    /// The context, stage or image.
    pub tree: &'a dyn Tree,
    /// Whether somebody may change it meanwhile.
    pub trust: Trust,
}

/// Whether a tree can change while it is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Trust {
    /// It belongs to somebody else.
    MayChange,
    /// It is ours.
    Fixed,
}

/// Returns whom `--chown=owner` means where there are no files to look up a name in: numbers, and root.
pub(super) fn owner_in_numbers(owner: &str) -> Result<(u32, u32), BuildError> {
    let numbers: Vec<&str> = owner.split(':').map(|part| if part == "root" { "0" } else { part }).collect();
    lookup_owner(&Nothing, &numbers.join(":")).map_err(|error| match error {
        UserError::NoFile { .. } => CopyError::NameWithLink { owner: owner.to_owned() }.into(),
        error => error.into(),
    })
}

/// Where a layer is made.
pub(super) struct Place<'a> {
    pub store: &'a Store,
    pub active: &'a Active,
    pub owners: Owners,
    pub control: &'a Control,
}

/// Carries out the COPY or ADD of what is in `selection` onto `below`, and returns the index of the layer, with what the user should know.
/// `owner` is what `--chown` says.
pub(super) fn copy(
    selection: &Selection,
    main: &Main<'_>,
    below: &View,
    owner: Option<(u32, u32)>,
    place: &Place<'_>,
) -> Result<(Index, Vec<String>), BuildError> {
    let unpacker = Unpacker { store: place.store, owners: place.owners, control: place.control };
    let mut archives: BTreeMap<usize, Archive> = BTreeMap::new();
    let mut placing = Placing { owner, now: super::now(), archives: BTreeMap::new() };
    let mut warnings = selection.warnings().to_vec();
    for (number, source) in selection.sources.iter().enumerate() {
        let Source::File { from, at, node, archive: Archives::Unpack, .. } = source else { continue };
        let tree: &dyn Tree = match from {
            Origin::Other(other) => &*selection.others[*other],
            _ => main.tree,
        };
        let Some(archive) = unpacker.unpack(tree, at, node)? else { continue };
        if selection.chmod.is_some() {
            warnings.push(format!("--chmod does not change the files in the archive {at}"));
        }
        placing.archives.insert(number, archive.files()?);
        archives.insert(number, archive);
    }
    let plan = selection.plan(below, &placing)?;
    let mut composer = Composer::new(place.active, place.owners, below, place.control)?;
    for item in &plan.items {
        composer.item(item, main, &selection.others, &archives)?;
    }
    Ok((composer.finish()?, warnings))
}

#[cfg(test)]
mod tests;
