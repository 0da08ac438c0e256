//! Which files of a directory are copied: `--exclude`, and the patterns of `--parents`.

use super::CopyError;
use crate::context::{IgnoreRules, PatternError};
use crate::tree::TreePath;

/// Chooses among the files of a directory, by their path from there. The patterns are those of ignore files: one that matches
/// a directory matches all that is in it.
#[derive(Debug, Clone, Default)]
pub(super) struct Filter {
    /// What is copied; `None`: everything.
    include: Option<IgnoreRules>,
    /// What is not copied, even so.
    exclude: IgnoreRules,
}

impl Filter {
    /// Returns the filter that leaves out what `exclude` matches.
    pub fn without(exclude: &[String]) -> Result<Self, CopyError> {
        let exclude = IgnoreRules::of(exclude).map_err(|source| CopyError::BadExclude { source })?;
        Ok(Filter { include: None, exclude })
    }

    /// Returns this filter for what `pattern` matches, and nothing else.
    pub fn only(&self, pattern: &str) -> Result<Self, PatternError> {
        // With a list for patterns comes a meaning of `!`, which the beginning of a path has not.
        let pattern = if pattern.starts_with('!') { format!("\\{pattern}") } else { pattern.to_owned() };
        Ok(Filter { include: Some(IgnoreRules::of(&[pattern])?), exclude: self.exclude.clone() })
    }

    /// Returns whether the file at `path` is copied.
    pub fn takes(&self, path: &TreePath) -> bool {
        self.include.as_ref().is_none_or(|include| include.is_ignored(path)) && !self.exclude.is_ignored(path)
    }

    /// Returns whether something in the directory at `path` may be copied.
    pub fn may_take_below(&self, path: &TreePath) -> bool {
        let included = |include: &IgnoreRules| include.is_ignored(path) || include.may_ignore_below(path);
        self.include.as_ref().is_none_or(included)
            && (!self.exclude.is_ignored(path) || self.exclude.may_include_below(path))
    }

    /// Returns whether `--exclude` leaves out the file with this name, which is a source itself.
    pub fn leaves_out(&self, name: &TreePath) -> bool {
        self.exclude.is_ignored(name)
    }
}
