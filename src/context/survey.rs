//! What a context holds and what its rules leave out: for people who wonder, not for COPY.

use std::path::Path;

use super::host_dir::Listed;
use super::{Context, Ignored};
use crate::tree::{self, Kind, TreePath};

/// What a context holds, all of it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Survey {
    /// What COPY can see, sorted: parents first.
    pub sent: Vec<Surveyed>,
    /// What the rules leave out, the uppermost path only, sorted.
    pub left_out: Vec<LeftOut>,
}

/// A file that COPY can see.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Surveyed {
    /// Where it is.
    pub path: TreePath,
    /// The word for its type.
    pub kind: &'static str,
    /// Length in bytes of a regular file; 0 for others.
    pub size: u64,
    /// Permission bits.
    pub mode: u32,
}

/// A path that a rule leaves out, with all that is in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LeftOut {
    /// Where it is.
    pub path: TreePath,
    /// Whether it is a directory.
    pub is_dir: bool,
    /// How many files that are no directories are in it, or it is.
    pub files: u64,
    /// Their bytes.
    pub size: u64,
    /// Line of the rule in [`Context::ignore_file`], from 1.
    pub line: usize,
    /// The rule, as written there.
    pub rule: String,
}

impl Context {
    /// Returns all that the context holds, and what its rules leave out. Directories that cannot be read are an error only where
    /// they are sent.
    ///
    /// # Errors
    /// [`tree::Error`] where the context cannot be read.
    pub fn survey(&self) -> Result<Survey, tree::Error> {
        let mut survey = Survey::default();
        // What is still to list, the next one last.
        let mut todo = vec![TreePath::root()];
        while let Some(dir) = todo.pop() {
            let listed = self.files.list(&dir, |_, _| Some(()))?;
            let mut below = Vec::new();
            for Listed { path, node, .. } in listed {
                if self.is_visible(&path, node.kind.is_dir())? {
                    let (size, mode) = (length(&node.kind), node.meta.mode);
                    if node.kind.is_dir() {
                        below.push(path.clone());
                    }
                    survey.sent.push(Surveyed { path, kind: node.kind.word(), size, mode });
                } else {
                    survey.left_out.push(self.left_out(path, &node.kind));
                }
            }
            todo.extend(below.into_iter().rev());
        }
        survey.sent.sort_by(|a, b| a.path.cmp(&b.path));
        survey.left_out.sort_by(|a, b| a.path.cmp(&b.path));
        Ok(survey)
    }

    fn left_out(&self, path: TreePath, kind: &Kind) -> LeftOut {
        let why = self.explain(&path).unwrap_or(Ignored { file: Path::new(""), line: 0, rule: "" });
        let (line, rule) = (why.line, why.rule.to_owned());
        let (mut files, mut size) = if kind.is_dir() { (0, 0) } else { (1, length(kind)) };
        let mut todo: Vec<TreePath> = kind.is_dir().then(|| path.clone()).into_iter().collect();
        while let Some(dir) = todo.pop() {
            // It is left out: that it cannot be read keeps nobody from building.
            for Listed { path, node, .. } in self.files.list(&dir, |_, _| Some(())).unwrap_or_default() {
                if node.kind.is_dir() {
                    todo.push(path);
                } else {
                    files += 1;
                    size += length(&node.kind);
                }
            }
        }
        LeftOut { is_dir: kind.is_dir(), path, files, size, line, rule }
    }
}

fn length(kind: &Kind) -> u64 {
    match kind {
        Kind::File { size, .. } => *size,
        _ => 0,
    }
}
