//! Archives of ADD: what is one, and what is in it. They are unpacked beside the layer first, by the reader for layers, which
//! trusts nothing; from there they are copied like any other directory, but for what [`plan`](super::plan) says of them.

use std::fs::File;
use std::io::{BufReader, Read};
use std::sync::Arc;

use coracle_runtime::container::Control;

use super::find::Picked;
use super::{CopyError, kept};
use crate::build::BuildError;
use crate::build::guard::Guarded;
use crate::layer::tar::Reader;
use crate::layer::{DiskTree, LayerError, Names, UnpackOptions, decompress, unpack};
use crate::oci::DigestReader;
use crate::store::{Active, Index, Store, View, ViewLayer};
use crate::tree::{Kind, Node, Owners, Tree, TreePath};

/// An archive that is unpacked: removed with all its files when the value is dropped.
pub(super) struct Archive {
    /// What is in it: as files that nobody else needs.
    pub view: View,
    _active: Active,
}

/// Where archives are unpacked.
pub(super) struct Unpacker<'a> {
    pub store: &'a Store,
    pub owners: Owners,
    pub control: &'a Control,
}

const BUFFER: usize = 256 << 10;

impl Unpacker<'_> {
    /// Returns what is in the file `node` at `at` of `tree`; `None` where that is no archive: its content alone tells.
    pub fn unpack(&self, tree: &dyn Tree, at: &TreePath, node: &Node) -> Result<Option<Archive>, BuildError> {
        let Kind::File { size: 1.., digest: Some(expected) } = node.kind else { return Ok(None) };
        if !is_archive(tree.open(at)?) {
            return Ok(None);
        }
        let active = self.store.prepare()?;
        let mut disk = DiskTree::open(&active.upper(), self.owners)?;
        let options = UnpackOptions { names: Names::Plain, ..UnpackOptions::default() };
        let file = BufReader::with_capacity(BUFFER, tree.open(at)?);
        let mut packed = DigestReader::new(Guarded::new(file, self.control));
        let fail = |source| CopyError::Archive { path: at.clone(), source };
        let read = |source| {
            let call = "read";
            fail(LayerError::Io { call, path: at.clone(), source })
        };
        let mut input = decompress(&mut packed).map_err(read)?;
        let found = unpack(&mut input, &mut disk, &options);
        drop(input);
        if self.control.cancelled() {
            return Err(BuildError::Interrupted);
        }
        let found = found.map_err(fail)?;
        // What follows the end of the archive counts in the cache key, too.
        std::io::copy(&mut packed, &mut std::io::sink()).map_err(read)?;
        let (_, digest, _) = packed.finish();
        if *digest.raw() != expected.0 {
            return Err(BuildError::ChangedMeanwhile { path: at.to_string() });
        }
        let index = Index::new(found.entries);
        let layer = ViewLayer { id: index.layer_id(), index: Arc::new(index), dir: active.upper().into() };
        Ok(Some(Archive { view: View::new(vec![layer]), _active: active }))
    }
}

impl Archive {
    /// Returns all that is in it, parents first, without the root.
    pub fn files(&self) -> Result<Vec<Picked>, BuildError> {
        let mut files = Vec::new();
        self.view.walk(&mut |entry| {
            if let Some(node) = self.view.lookup(&entry.path)? {
                files.push(Picked { path: entry.path.clone(), node: kept(node), leads: entry.implied });
            }
            Ok::<(), BuildError>(())
        })?;
        Ok(files)
    }
}

/// Returns whether a tar archive begins in `file`, compressed or not.
fn is_archive(file: File) -> bool {
    let Ok(mut input) = decompress(BufReader::with_capacity(BUFFER, file)) else { return false };
    let input: &mut dyn Read = &mut input;
    matches!(Reader::new(input).next_member(), Ok(Some(_)))
}
