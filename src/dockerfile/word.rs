//! Variables, quotes and escapes, as BuildKit's shell lexer reads them.

use super::Word;
use super::pattern::{Pattern, Reach};

/// The longest text that a word may become, in bytes.
pub const LONGEST_WORD: usize = 1 << 20;

/// The longest text that a here-document may become, in bytes.
pub const LONGEST_HEREDOC: usize = 16 << 20;

/// How many bytes of values one word may look at, so that `${a+$big}` a million times ends soon.
const MOST_WORK: usize = 16 << 20;

/// How deep `${a:-${b:-…}}` may nest.
const DEEPEST: usize = 64;

/// A word cannot be expanded.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ExpandError {
    /// `${` without `}`.
    #[error("`${{` without `}}`")]
    MissingBrace,
    /// `${}`, `${{a}}`, `${:-a}`.
    #[error("`${{` without the name of a variable")]
    BadSubstitution,
    /// `${a/b}`.
    #[error("`${{name/pattern` without a second `/`")]
    MissingSlash,
    /// `${a!b}`.
    #[error("`{modifier}` is not a modifier in `${{{name}{modifier}…}}`")]
    Modifier {
        /// The variable.
        name: String,
        /// What follows it.
        modifier: String,
    },
    /// A quote without its partner.
    #[error("a {quote} without its partner")]
    Quote {
        /// Which.
        quote: char,
    },
    /// `${a?message}`, and `a` is not set.
    #[error("{name}: {message}")]
    Unset {
        /// The variable.
        name: String,
        /// What the Dockerfile says of it.
        message: String,
    },
    /// A pattern cannot be read.
    #[error("bad pattern `{pattern}`: {reason}")]
    Pattern {
        /// Its beginning.
        pattern: String,
        /// Why.
        reason: String,
    },
    /// Longer than [`LONGEST_WORD`], or [`LONGEST_HEREDOC`].
    #[error("more than {most} bytes after expansion")]
    TooLong {
        /// How long it may be.
        most: usize,
    },
    /// Nested too deep.
    #[error("`${{` nested more than {} deep", DEEPEST)]
    TooDeep,
}

/// Returns `word` with its variables replaced by what `lookup` says (a variable that it does not know is empty), and
/// without quotes and escapes. The result is at most [`LONGEST_WORD`] bytes.
///
/// ```
/// use coracle::dockerfile::{Word, expand};
/// let word = Word { text: "${dir:-/srv}/'$x'".into(), ..Word::default() };
/// assert_eq!(expand(&word, &|_| None, '\\').unwrap(), "/srv/$x");
/// ```
///
/// # Errors
/// [`ExpandError`].
pub fn expand(word: &Word, lookup: &dyn Fn(&str) -> Option<String>, escape: char) -> Result<String, ExpandError> {
    Ok(Lexer::new(&word.text, lookup, escape, Raw::default()).all()?.0)
}

/// Returns `word` expanded and then split at white space that is not quoted: what comes out of variables is split, too.
///
/// # Errors
/// [`ExpandError`].
pub fn expand_words(
    word: &Word,
    lookup: &dyn Fn(&str) -> Option<String>,
    escape: char,
) -> Result<Vec<String>, ExpandError> {
    Ok(Lexer::new(&word.text, lookup, escape, Raw::default()).all()?.1)
}

/// Returns the text of a here-document with its variables replaced. Quotes stay; a backslash, whatever the escape character of the
/// file is, stands for the character behind it.
///
/// ```
/// use coracle::dockerfile::expand_heredoc;
/// let lookup = |name: &str| (name == "a").then(|| "1".into());
/// assert_eq!(expand_heredoc("\"$a\" '${b:-2}' \\$a\n", &lookup).unwrap(), "\"1\" '2' $a\n");
/// ```
///
/// # Errors
/// [`ExpandError`].
pub fn expand_heredoc(text: &str, lookup: &dyn Fn(&str) -> Option<String>) -> Result<String, ExpandError> {
    Ok(Lexer::new(text, lookup, '\\', Raw { ordinary_quotes: true, ..Raw::default() }).all()?.0)
}

/// Returns `text` split at white space that is not quoted, with quotes, escapes and variables as they are.
pub(super) fn split_raw(text: &str) -> Result<Vec<String>, ExpandError> {
    let raw = Raw { quotes: true, escapes: true, variables: true, ..Raw::default() };
    Ok(Lexer::new(text, &|_| None, '\\', raw).all()?.1)
}

/// What is taken away from words.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Unquoted {
    /// Quotes and escapes.
    All,
    /// Nothing.
    Nothing,
}

/// Returns the words of `text`, with variables as they are.
pub(super) fn unquoted(text: &str, what: Unquoted) -> Result<Vec<String>, ExpandError> {
    let stay = what == Unquoted::Nothing;
    let raw = Raw { quotes: stay, escapes: stay, variables: true, ..Raw::default() };
    Ok(Lexer::new(text, &|_| None, '\\', raw).all()?.1)
}

/// What is left as it is written.
#[derive(Debug, Clone, Copy, Default)]
struct Raw {
    quotes: bool,
    escapes: bool,
    /// Variables that are not set.
    variables: bool,
    /// Quotes are characters like others.
    ordinary_quotes: bool,
}

struct Lexer<'a> {
    text: &'a str,
    at: usize,
    lookup: &'a dyn Fn(&str) -> Option<String>,
    escape: char,
    raw: Raw,
    longest: usize,
    depth: usize,
    work: usize,
}

/// The result so far, as one text and split into words.
#[derive(Default)]
struct Output {
    text: String,
    word: String,
    words: Vec<String>,
    in_word: bool,
}

impl Output {
    fn splittable(&mut self, c: char) {
        self.text.push(c);
        if !c.is_whitespace() {
            self.word.push(c);
            self.in_word = true;
        } else if self.in_word && !self.word.is_empty() {
            self.words.push(std::mem::take(&mut self.word));
            self.in_word = false;
        }
    }

    fn solid(&mut self, text: &str) {
        self.text.push_str(text);
        self.word.push_str(text);
        self.in_word = true;
    }

    fn check(&self, most: usize) -> Result<(), ExpandError> {
        if self.text.len() > most { Err(ExpandError::TooLong { most }) } else { Ok(()) }
    }

    fn finish(mut self) -> (String, Vec<String>) {
        if !self.word.is_empty() {
            self.words.push(self.word);
        }
        (self.text, self.words)
    }
}

impl<'a> Lexer<'a> {
    fn new(text: &'a str, lookup: &'a dyn Fn(&str) -> Option<String>, escape: char, raw: Raw) -> Self {
        let longest = if raw.ordinary_quotes { LONGEST_HEREDOC } else { LONGEST_WORD };
        Lexer { text, at: 0, lookup, escape, raw, longest, depth: 0, work: 0 }
    }

    fn all(mut self) -> Result<(String, Vec<String>), ExpandError> {
        self.until(None, self.raw.escapes)
    }

    fn peek(&self) -> Option<char> {
        self.text[self.at..].chars().next()
    }

    fn next(&mut self) -> Option<char> {
        let c = self.peek()?;
        self.at += c.len_utf8();
        Some(c)
    }

    /// Reads up to `stop`, or the end of the text where there is none.
    fn until(&mut self, stop: Option<char>, raw_escapes: bool) -> Result<(String, Vec<String>), ExpandError> {
        self.depth += 1;
        if self.depth > DEEPEST {
            return Err(ExpandError::TooDeep);
        }
        let outer = std::mem::replace(&mut self.raw.escapes, raw_escapes);
        let mut out = Output::default();
        loop {
            out.check(self.longest)?;
            let Some(c) = self.peek() else {
                if stop.is_some() {
                    return Err(ExpandError::MissingBrace);
                }
                break;
            };
            if Some(c) == stop {
                self.next();
                break;
            }
            match c {
                '\'' if !self.raw.ordinary_quotes => out.solid(&self.single_quoted()?),
                '"' if !self.raw.ordinary_quotes => out.solid(&self.double_quoted()?),
                '$' => self.dollar()?.chars().for_each(|c| out.splittable(c)),
                '<' => self.redirection(&mut out),
                c if c == self.escape => {
                    self.next();
                    if self.raw.escapes {
                        out.solid(c.encode_utf8(&mut [0; 4]));
                    }
                    // An escape at the very end stands for nothing.
                    if let Some(c) = self.next() {
                        out.solid(c.encode_utf8(&mut [0; 4]));
                    }
                }
                c => {
                    self.next();
                    out.splittable(c);
                }
            }
        }
        self.raw.escapes = outer;
        self.depth -= 1;
        Ok(out.finish())
    }

    /// `<<`, and the white space behind it, does not end a word: the name of a here-document may stand apart.
    fn redirection(&mut self, out: &mut Output) {
        let start = self.at;
        self.next();
        if self.peek() == Some('<') {
            self.next();
            while self.peek().is_some_and(|c| matches!(c, ' ' | '\t')) {
                self.next();
            }
        }
        out.solid(&self.text[start..self.at]);
    }

    fn single_quoted(&mut self) -> Result<String, ExpandError> {
        let start = self.at;
        let length = self.text[start + 1..].find('\'').ok_or(ExpandError::Quote { quote: '\'' })?;
        self.at = start + 1 + length + 1;
        let edge = usize::from(!self.raw.quotes);
        Ok(self.text[start + edge..self.at - edge].into())
    }

    fn double_quoted(&mut self) -> Result<String, ExpandError> {
        let mut out = Output::default();
        if self.raw.quotes {
            out.text.push('"');
        }
        self.next();
        loop {
            out.check(self.longest)?;
            match self.peek().ok_or(ExpandError::Quote { quote: '"' })? {
                '"' => {
                    self.next();
                    if self.raw.quotes {
                        out.text.push('"');
                    }
                    return Ok(out.text);
                }
                '$' => {
                    let value = self.dollar()?;
                    out.text.push_str(&value);
                }
                mut c => {
                    self.next();
                    if c == self.escape {
                        if self.raw.escapes {
                            out.text.push(c);
                        }
                        match self.peek() {
                            None => continue,
                            // Only these can be escaped here; before any other character the escape stays.
                            Some(next) if matches!(next, '"' | '$') || next == self.escape => {
                                self.next();
                                c = next;
                            }
                            Some(_) => {}
                        }
                    }
                    out.text.push(c);
                }
            }
        }
    }

    fn dollar(&mut self) -> Result<String, ExpandError> {
        self.next();
        if self.peek() != Some('{') {
            let name = self.name();
            if name.is_empty() {
                return Ok("$".into());
            }
            return match self.value(&name)? {
                None if self.raw.variables => Ok(format!("${name}")),
                value => Ok(value.unwrap_or_default()),
            };
        }
        self.next();
        match self.peek() {
            None => return Err(ExpandError::MissingBrace),
            Some('{' | '}' | ':') => return Err(ExpandError::BadSubstitution),
            Some(_) => {}
        }
        let name = self.name();
        if name.is_empty() {
            return Err(ExpandError::BadSubstitution);
        }
        match self.next().ok_or(ExpandError::MissingBrace)? {
            '}' => match self.value(&name)? {
                None if self.raw.variables => Ok(format!("${{{name}}}")),
                value => Ok(value.unwrap_or_default()),
            },
            ':' => {
                let modifier = self.next().ok_or(ExpandError::MissingBrace)?;
                self.modified(name, modifier, true)
            }
            '/' => self.replaced(name),
            modifier => self.modified(name, modifier, false),
        }
    }

    /// `${name-word}` and its sisters; with `colon`, an empty value is as good as none.
    fn modified(&mut self, name: String, modifier: char, colon: bool) -> Result<String, ExpandError> {
        let written = if colon { format!(":{modifier}") } else { modifier.to_string() };
        let is_known = match modifier {
            '-' | '+' | '?' => true,
            '#' | '%' => !colon,
            // Where variables stay as they are, this is the affair of a shell: `${a:=b}`, `${a:0:7}`.
            _ => colon && self.raw.variables,
        };
        if !is_known {
            return Err(ExpandError::Modifier { name, modifier: written });
        }
        let word = self.until(Some('}'), matches!(modifier, '#' | '%'))?.0;
        let value = self.value(&name)?;
        if value.is_none() && self.raw.variables {
            return Ok(format!("${{{name}{written}{word}}}"));
        }
        let present = value.as_deref().is_some_and(|value| !(colon && value.is_empty()));
        Ok(match modifier {
            '-' if present => value.unwrap_or_default(),
            '-' => word,
            '+' if present => word,
            '+' => String::new(),
            '?' if present => value.unwrap_or_default(),
            '?' => {
                let why = if value.is_some() { "is not allowed to be empty" } else { "is not allowed to be unset" };
                return Err(ExpandError::Unset { name, message: if word.is_empty() { why.into() } else { word } });
            }
            trim @ ('#' | '%') => {
                let value = value.unwrap_or_default();
                let (pattern, reach) = match word.strip_prefix(trim) {
                    Some(rest) => (rest, Reach::Longest),
                    None => (word.as_str(), Reach::Shortest),
                };
                let pattern = Pattern::new(pattern)?;
                if trim == '#' { pattern.trim_prefix(&value, reach) } else { pattern.trim_suffix(&value, reach) }
            }
            _ => return Err(ExpandError::Modifier { name, modifier: written }),
        })
    }

    /// `${name/pattern/replacement}`, and all matches with `//`.
    fn replaced(&mut self, name: String) -> Result<String, ExpandError> {
        let all = self.peek() == Some('/');
        if all {
            self.next();
        }
        let pattern = self.until(Some('/'), true).map_err(|error| match error {
            ExpandError::MissingBrace => ExpandError::MissingSlash,
            error => error,
        })?;
        let replacement = self.until(Some('}'), true)?.0;
        let value = self.value(&name)?;
        if value.is_none() && self.raw.variables {
            return Ok(format!("${{{name}/{}/{replacement}}}", pattern.0));
        }
        let value = value.unwrap_or_default();
        Ok(Pattern::new(&pattern.0)?.replace(&value, &replacement, all, self.longest))
    }

    /// Reads the name of a variable: letters, digits and `_`; or digits alone; or one special character.
    fn name(&mut self) -> String {
        let start = self.at;
        match self.peek() {
            Some(c) if c.is_ascii_digit() => {
                while self.peek().is_some_and(|c| c.is_ascii_digit()) {
                    self.next();
                }
            }
            Some('@' | '*' | '#' | '?' | '-' | '$' | '!') => {
                self.next();
            }
            _ => {
                while self.peek().is_some_and(|c| c.is_alphanumeric() || c == '_') {
                    self.next();
                }
            }
        }
        self.text[start..self.at].into()
    }

    fn value(&mut self, name: &str) -> Result<Option<String>, ExpandError> {
        let value = (self.lookup)(name);
        self.work += name.len() + value.as_ref().map_or(0, String::len);
        if self.work > MOST_WORK { Err(ExpandError::TooLong { most: self.longest }) } else { Ok(value) }
    }
}

#[cfg(test)]
#[path = "word_tests.rs"]
mod tests;
