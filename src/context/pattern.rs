//! One compiled pattern: what COPY's globs and the rules of ignore files share.
//!
//! Matching keeps the set of places in the text that the tokens so far can reach, so its time is at most the length of
//! the pattern times the length of the text: `*a*a*a*b` costs no more than it should.

/// What a piece of a pattern matches.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Token {
    /// These bytes.
    Literal(Vec<u8>),
    /// One character other than a slash: `?`.
    One,
    /// Any number of characters other than slashes: `*`.
    Star,
    /// One character of a set: `[a-z]`.
    Class(Class),
    /// Nothing, or anything that ends with a slash: `**/` and `**` inside of a pattern of an ignore file.
    Dirs,
    /// Anything: `**` at the end.
    Anything,
}

/// A set of characters.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Class {
    negated: bool,
    /// First and last character of each range.
    ranges: Vec<(u32, u32)>,
}

/// Which language a pattern is written in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Syntax {
    /// Go's filepath.Match.
    Glob,
    /// moby's patternmatcher: a glob with `**`.
    Ignore,
}

/// A compiled pattern. It matches a whole text only.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Pattern {
    tokens: Vec<Token>,
}

/// A pattern that Go's filepath.Match refuses too.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PatternError {
    /// A `[` without its `]`, or a set with nothing in it, or with half a range.
    #[error("pattern {pattern:?} has a bad set of characters at byte {at}")]
    BadSet {
        /// The pattern.
        pattern: String,
        /// Where the set begins.
        at: usize,
    },
    /// A `!` with nothing behind it, in a list of patterns.
    #[error("pattern {pattern:?} is an exception from nothing")]
    LoneExclamation {
        /// The pattern.
        pattern: String,
    },
    /// A backslash at the end, with nothing to escape.
    #[error("pattern {pattern:?} ends with a backslash")]
    LoneBackslash {
        /// The pattern.
        pattern: String,
    },
}

impl Pattern {
    /// Returns `pattern`, compiled.
    ///
    /// # Errors
    /// [`PatternError`] where it is malformed.
    pub(super) fn parse(pattern: &str, syntax: Syntax) -> Result<Self, PatternError> {
        let mut tokens: Vec<Token> = Vec::new();
        let mut rest = pattern;
        let mut leading_stars = false;
        // Whether the stars in front were followed by literal text only.
        let mut plain_tail = true;
        while let Some(c) = rest.chars().next() {
            let at = pattern.len() - rest.len();
            rest = &rest[c.len_utf8()..];
            match c {
                '*' if syntax == Syntax::Ignore && rest.starts_with('*') => {
                    rest = &rest[1..];
                    let slash = rest.starts_with('/');
                    rest = rest.strip_prefix('/').unwrap_or(rest);
                    leading_stars |= at == 0 && !slash;
                    plain_tail &= at == 0;
                    tokens.push(if rest.is_empty() { Token::Anything } else { Token::Dirs });
                }
                '*' => {
                    plain_tail = false;
                    if tokens.last() != Some(&Token::Star) {
                        tokens.push(Token::Star);
                    }
                }
                '?' => {
                    plain_tail = false;
                    tokens.push(Token::One);
                }
                '[' => {
                    plain_tail = false;
                    let (class, after) =
                        class(rest).ok_or_else(|| PatternError::BadSet { pattern: pattern.to_owned(), at })?;
                    rest = after;
                    tokens.push(Token::Class(class));
                }
                '\\' => {
                    plain_tail = false;
                    let escaped = rest
                        .chars()
                        .next()
                        .ok_or_else(|| PatternError::LoneBackslash { pattern: pattern.to_owned() })?;
                    rest = &rest[escaped.len_utf8()..];
                    literal(&mut tokens, escaped);
                }
                c => literal(&mut tokens, c),
            }
        }
        // moby takes `**name` with nothing special behind the stars for "ends with `name`", in the middle of a name too.
        if leading_stars && plain_tail {
            tokens[0] = Token::Anything;
        }
        Ok(Pattern { tokens })
    }

    /// Returns whether the pattern matches the whole of `text`.
    pub(super) fn matches(&self, text: &[u8]) -> bool {
        match self.tokens.as_slice() {
            [] => return text.is_empty(),
            [Token::Literal(only)] => return text == only,
            [Token::Anything] => return true,
            // Most texts fail at one of their ends.
            [Token::Literal(first), ..] if !text.starts_with(first) => return false,
            [.., Token::Literal(last)] if !text.ends_with(last) => return false,
            _ => {}
        }
        let mut places = vec![0];
        let mut next = Vec::new();
        for token in &self.tokens {
            next.clear();
            token.advance(text, &places, &mut next);
            if next.is_empty() {
                return false;
            }
            std::mem::swap(&mut places, &mut next);
        }
        places.last() == Some(&text.len())
    }

    /// Returns the text that everything that matches begins with, and whether the pattern is nothing but that.
    pub(super) fn literal_prefix(&self) -> (&[u8], bool) {
        match self.tokens.as_slice() {
            [] => (b"", true),
            [Token::Literal(text), rest @ ..] => (text, rest.is_empty()),
            _ => (b"", false),
        }
    }
}

impl Token {
    /// Writes to `next` where in `text` one is behind this token, having been at one of `places`. Both are sorted and
    /// without doubles.
    fn advance(&self, text: &[u8], places: &[usize], next: &mut Vec<usize>) {
        let mut add = |place: usize| {
            if next.last().is_none_or(|&last| last < place) {
                next.push(place);
            }
        };
        match self {
            Token::Literal(wanted) => {
                places.iter().filter(|&&at| text[at..].starts_with(wanted)).for_each(|&at| add(at + wanted.len()));
            }
            Token::One => {
                for &at in places {
                    match character(&text[at..]) {
                        Some((c, len)) if c != u32::from('/') => add(at + len),
                        _ => {}
                    }
                }
            }
            Token::Class(class) => {
                for &at in places {
                    match character(&text[at..]) {
                        Some((c, len)) if class.contains(c) => add(at + len),
                        _ => {}
                    }
                }
            }
            Token::Star => {
                let mut done = 0;
                for &at in places {
                    let mut place = at.max(done);
                    add(at);
                    while place < text.len() && text[place] != b'/' {
                        place += 1;
                        add(place);
                    }
                    done = place;
                }
            }
            Token::Dirs => {
                let Some(&first) = places.first() else { return };
                let mut here = places.iter().peekable();
                for place in first..=text.len() {
                    let stays = here.next_if(|&&at| at == place).is_some();
                    if stays || (place > first && text[place - 1] == b'/') {
                        add(place);
                    }
                }
            }
            Token::Anything => {
                if let Some(&first) = places.first() {
                    (first..=text.len()).for_each(add);
                }
            }
        }
    }
}

impl Class {
    fn contains(&self, c: u32) -> bool {
        self.ranges.iter().any(|&(first, last)| (first..=last).contains(&c)) != self.negated
    }
}

fn literal(tokens: &mut Vec<Token>, c: char) {
    let mut buffer = [0; 4];
    let bytes = c.encode_utf8(&mut buffer).as_bytes();
    match tokens.last_mut() {
        Some(Token::Literal(text)) => text.extend_from_slice(bytes),
        _ => tokens.push(Token::Literal(bytes.to_vec())),
    }
}

/// Returns the set that `text` (what is behind the `[`) begins with, and what is behind its `]`.
fn class(text: &str) -> Option<(Class, &str)> {
    let (negated, mut rest) = text.strip_prefix('^').map_or((false, text), |rest| (true, rest));
    let mut ranges = Vec::new();
    loop {
        if let Some(after) = rest.strip_prefix(']')
            && !ranges.is_empty()
        {
            return Some((Class { negated, ranges }, after));
        }
        let first = class_character(&mut rest)?;
        let last = match rest.strip_prefix('-') {
            Some(after) => {
                rest = after;
                class_character(&mut rest)?
            }
            None => first,
        };
        ranges.push((first, last));
    }
}

fn class_character(rest: &mut &str) -> Option<u32> {
    let mut chars = rest.chars();
    let c = match chars.next()? {
        '-' | ']' => return None,
        '\\' => chars.next()?,
        c => c,
    };
    *rest = chars.as_str();
    Some(u32::from(c))
}

/// Returns the first character of `text` and its length; a byte that is no UTF-8 counts as U+FFFD, as in Go.
fn character(text: &[u8]) -> Option<(u32, usize)> {
    let first = *text.first()?;
    if first < 0x80 {
        return Some((u32::from(first), 1));
    }
    let longest = &text[..text.len().min(4)];
    let valid = longest.utf8_chunks().next().map_or("", |chunk| chunk.valid());
    Some(valid.chars().next().map_or((0xFFFD, 1), |c| (u32::from(c), c.len_utf8())))
}
