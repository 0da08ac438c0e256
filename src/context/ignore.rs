use super::pattern::{Pattern, PatternError, Syntax};
use crate::tree::TreePath;

/// The rules of a `.dockerignore` file, with the meaning that moby's patternmatcher gives them.
///
/// The last rule that matches a path or one of its parents decides. A rule that begins with `!` takes paths back in,
/// also from a directory that is left out. `**` stands for any number of directories.
///
/// ```
/// use coracle::{context::IgnoreRules, tree::TreePath};
/// let rules = IgnoreRules::parse("build\n!build/keep").unwrap();
/// let path = |text: &str| TreePath::new(text).unwrap();
/// assert!(rules.is_ignored(&path("build/a/b")) && !rules.is_ignored(&path("build/keep")));
/// assert_eq!(rules.explain(&path("build/a/b")), Some((1, "build")));
/// ```
///
/// One thing is not as in moby: a backslash always makes the next character mean itself. There, `\d` is a digit, by
/// accident of how patterns become regular expressions.
#[derive(Debug, Clone, Default)]
pub struct IgnoreRules {
    rules: Vec<Rule>,
}

#[derive(Debug, Clone)]
struct Rule {
    /// Line in the file, from 1.
    line: usize,
    /// As written, trimmed.
    text: String,
    pattern: Pattern,
    /// Whether it takes paths back in.
    includes: bool,
}

/// Which rules match a directory or one of its parents, by their number.
#[derive(Debug)]
pub(super) struct ParentMatches(Vec<bool>);

/// A rule of an ignore file makes no sense.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum IgnoreError {
    /// A `!` with nothing behind it.
    #[error("line {line}: `!` without a pattern")]
    LoneExclamation {
        /// Line in the file, from 1.
        line: usize,
    },
    /// The pattern is malformed.
    #[error("line {line}: bad pattern")]
    BadPattern {
        /// Line in the file, from 1.
        line: usize,
        /// What is wrong with it.
        #[source]
        source: PatternError,
    },
}

impl IgnoreRules {
    /// Returns the rules in `text`, a whole ignore file. Lines that begin with `#` and empty lines are not rules.
    ///
    /// # Errors
    /// The first [`IgnoreError`].
    pub fn parse(text: &str) -> Result<Self, IgnoreError> {
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        let lines = text.split('\n').enumerate().map(|(at, line)| (at + 1, line));
        let rules = lines.filter_map(|(line, text)| rule(line, text).transpose()).collect::<Result<_, _>>()?;
        Ok(IgnoreRules { rules })
    }

    /// Returns the rules that the list `patterns` makes, as in `COPY --exclude`: with the meaning that they have in an ignore
    /// file, but for `#`, which begins no comment. The line of a rule is its place in the list, from 1.
    ///
    /// # Errors
    /// The first [`PatternError`].
    pub fn of<T: AsRef<str>>(patterns: &[T]) -> Result<Self, PatternError> {
        let rules = patterns.iter().enumerate().filter_map(|(at, pattern)| {
            let pattern = pattern.as_ref();
            pattern_rule(at + 1, pattern)
                .map_err(|error| match error {
                    IgnoreError::BadPattern { source, .. } => source,
                    IgnoreError::LoneExclamation { .. } => {
                        PatternError::LoneExclamation { pattern: pattern.to_owned() }
                    }
                })
                .transpose()
        });
        Ok(IgnoreRules { rules: rules.collect::<Result<_, _>>()? })
    }

    /// Returns whether there is no rule.
    pub fn is_empty(&self) -> bool {
        self.rules.is_empty()
    }

    /// Returns whether a rule takes paths back in.
    pub fn takes_back(&self) -> bool {
        self.rules.iter().any(|rule| rule.includes)
    }

    /// Returns whether the rules leave `path` out. The root is never left out.
    pub fn is_ignored(&self, path: &TreePath) -> bool {
        self.deciding(path).is_some_and(|rule| !rule.includes)
    }

    /// Returns the line (from 1) and the text of the rule that leaves `path` out; `None` where it is not left out.
    pub fn explain(&self, path: &TreePath) -> Option<(usize, &str)> {
        self.deciding(path).filter(|rule| !rule.includes).map(|rule| (rule.line, rule.text.as_str()))
    }

    /// Returns whether a `!` rule could match something in the directory `dir`, as far as its plain beginning tells.
    pub fn may_include_below(&self, dir: &TreePath) -> bool {
        self.rules.iter().any(|rule| rule.includes && rule.may_match_below(dir))
    }

    /// Returns whether a rule without `!` could match something in the directory `dir`, as far as its plain beginning tells.
    pub fn may_ignore_below(&self, dir: &TreePath) -> bool {
        self.rules.iter().any(|rule| !rule.includes && rule.may_match_below(dir))
    }

    /// Returns which rules match `dir` or a parent of it: for many calls of [`is_ignored_in`](Self::is_ignored_in).
    pub(super) fn matches_of(&self, dir: &TreePath) -> ParentMatches {
        let dirs = with_parents(dir);
        ParentMatches(self.rules.iter().map(|rule| rule.matches_any(&dirs)).collect())
    }

    /// Returns as [`is_ignored`](Self::is_ignored) for `path`, which is in the directory of `parent`.
    pub(super) fn is_ignored_in(&self, parent: &ParentMatches, path: &TreePath) -> bool {
        let rules = self.rules.iter().zip(&parent.0).rev();
        let mut matching = rules.filter(|(rule, above)| **above || rule.pattern.matches(path.as_bytes()));
        matching.next().is_some_and(|(rule, _)| !rule.includes)
    }

    fn deciding(&self, path: &TreePath) -> Option<&Rule> {
        if self.rules.is_empty() {
            return None;
        }
        let paths = with_parents(path);
        self.rules.iter().rev().find(|rule| rule.matches_any(&paths))
    }
}

impl Rule {
    fn matches_any(&self, paths: &[&[u8]]) -> bool {
        paths.iter().any(|path| self.pattern.matches(path))
    }

    fn may_match_below(&self, dir: &TreePath) -> bool {
        let (prefix, whole) = self.pattern.literal_prefix();
        if dir.is_root() {
            return true;
        }
        let inside = [dir.as_bytes(), b"/"].concat();
        prefix.starts_with(&inside) || (!whole && inside.starts_with(prefix))
    }
}

/// Returns `path` and its parents, without the root.
fn with_parents(path: &TreePath) -> Vec<&[u8]> {
    let bytes = path.as_bytes();
    let ends = bytes.iter().enumerate().filter(|(_, b)| **b == b'/').map(|(at, _)| at);
    ends.chain((!bytes.is_empty()).then_some(bytes.len())).map(|end| &bytes[..end]).collect()
}

/// Returns the rule on one line, if there is one.
fn rule(line: usize, written: &str) -> Result<Option<Rule>, IgnoreError> {
    if written.starts_with('#') { Ok(None) } else { pattern_rule(line, written) }
}

/// Returns the rule that `written` is, if it is not empty.
fn pattern_rule(line: usize, written: &str) -> Result<Option<Rule>, IgnoreError> {
    let text = written.trim();
    if text.is_empty() {
        return Ok(None);
    }
    let (includes, pattern) = text.strip_prefix('!').map_or((false, text), |rest| (true, rest.trim()));
    if pattern.is_empty() {
        return Err(IgnoreError::LoneExclamation { line });
    }
    let mut pattern = clean(pattern);
    if pattern.len() > 1 && pattern.starts_with('/') {
        pattern.remove(0);
    }
    // `!/`: nothing is left of it in moby either.
    if includes && pattern == "/" {
        return Err(IgnoreError::LoneExclamation { line });
    }
    let pattern =
        Pattern::parse(&pattern, Syntax::Ignore).map_err(|source| IgnoreError::BadPattern { line, source })?;
    Ok(Some(Rule { line, text: text.to_owned(), pattern, includes }))
}

/// Returns what Go's filepath.Clean makes of `path`.
fn clean(path: &str) -> String {
    let rooted = path.starts_with('/');
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." if parts.last().is_some_and(|last| *last != "..") => {
                parts.pop();
            }
            ".." if rooted => {}
            part => parts.push(part),
        }
    }
    match (rooted, parts.is_empty()) {
        (true, _) => format!("/{}", parts.join("/")),
        (false, true) => ".".to_owned(),
        (false, false) => parts.join("/"),
    }
}

#[cfg(test)]
#[path = "ignore_tests.rs"]
mod tests;
