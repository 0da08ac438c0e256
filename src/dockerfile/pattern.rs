use super::ExpandError;

/// A pattern of `${name#pattern}` and the like: `*` is any text within a line, `?` any character but a line end.
#[derive(Debug)]
pub(super) struct Pattern(Vec<Token>);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Token {
    Literal(char),
    AnyChar,
    AnyText,
}

/// Which of several possible matches is taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reach {
    Shortest,
    Longest,
}

/// A longer pattern is refused: matching takes the product of both lengths.
const LONGEST_PATTERN: usize = 1024;

impl Pattern {
    /// Returns the pattern in `text`. A backslash makes `*`, `?` and `\` ordinary; before `}` and `/` it only kept them
    /// from ending the pattern.
    pub(super) fn new(text: &str) -> Result<Self, ExpandError> {
        let bad = |reason: String| ExpandError::Pattern { pattern: text.chars().take(100).collect(), reason };
        let mut tokens = Vec::new();
        let mut chars = text.chars();
        while let Some(c) = chars.next() {
            tokens.push(match c {
                '*' => Token::AnyText,
                '?' => Token::AnyChar,
                '\\' => match chars.next() {
                    Some(c @ ('}' | '/' | '*' | '?' | '\\')) => Token::Literal(c),
                    Some(other) => return Err(bad(format!("invalid escape `\\{other}`"))),
                    None => return Err(bad("a backslash at its end".into())),
                },
                c => Token::Literal(c),
            });
            if tokens.len() > LONGEST_PATTERN {
                return Err(bad(format!("longer than {LONGEST_PATTERN} characters")));
            }
        }
        Ok(Pattern(tokens))
    }

    /// Returns `value` without the prefix that matches; unchanged where none does.
    pub(super) fn trim_prefix(&self, value: &str, reach: Reach) -> String {
        let chars: Vec<char> = value.chars().collect();
        match matched(&self.0, &chars, reach) {
            Some(length) => chars[length..].iter().collect(),
            None => value.into(),
        }
    }

    /// Returns `value` without the suffix that matches; unchanged where none does.
    pub(super) fn trim_suffix(&self, value: &str, reach: Reach) -> String {
        let tokens: Vec<Token> = self.0.iter().rev().copied().collect();
        let chars: Vec<char> = value.chars().rev().collect();
        match matched(&tokens, &chars, reach) {
            Some(length) => chars[length..].iter().rev().collect(),
            None => value.into(),
        }
    }

    /// Returns `value` with the first match, or all of them, replaced; at most about `limit` bytes of it.
    ///
    /// Matches are the leftmost and longest. One pass from the right finds where a match can start at all, so that no
    /// text makes this quadratic.
    pub(super) fn replace(&self, value: &str, replacement: &str, all: bool, limit: usize) -> String {
        let chars: Vec<char> = value.chars().collect();
        let starts = self.starts(&chars);
        let mut out = String::with_capacity(value.len().min(limit));
        let mut at = 0;
        let mut last_end = None;
        while at <= chars.len() && out.len() <= limit {
            let length = if starts[at] { matched(&self.0, &chars[at..], Reach::Longest) } else { None };
            match length {
                // An empty match right behind another match does not count.
                Some(length) if length > 0 || last_end != Some(at) => {
                    out.push_str(replacement);
                    at += length;
                    last_end = Some(at);
                    if !all {
                        break;
                    }
                    if length > 0 {
                        continue;
                    }
                }
                _ => {}
            }
            out.extend(chars.get(at));
            at += 1;
        }
        out.extend(chars.iter().skip(at));
        out
    }

    /// Returns for each position of `chars`, and the end, whether a match can start there.
    fn starts(&self, chars: &[char]) -> Vec<bool> {
        let tokens: Vec<Token> = self.0.iter().rev().copied().collect();
        let mut found = vec![false; chars.len() + 1];
        let mut states = States::new(tokens.len());
        states.start(&tokens);
        found[chars.len()] = states.accepts();
        for at in (0..chars.len()).rev() {
            states.step(&tokens, chars[at]);
            // A match may end, that is begin from the right, anywhere.
            states.start(&tokens);
            found[at] = states.accepts();
        }
        found
    }
}

/// Returns the length of the match at the start of `chars`.
fn matched(tokens: &[Token], chars: &[char], reach: Reach) -> Option<usize> {
    let mut states = States::new(tokens.len());
    states.start(tokens);
    let mut length = states.accepts().then_some(0);
    for (at, &c) in chars.iter().enumerate() {
        if length.is_some() && reach == Reach::Shortest || states.is_dead() {
            break;
        }
        states.step(tokens, c);
        if states.accepts() {
            length = Some(at + 1);
        }
    }
    length
}

/// The set of tokens before which a match can be, as bits.
struct States {
    bits: Vec<u64>,
    next: Vec<u64>,
    tokens: usize,
}

impl States {
    fn new(tokens: usize) -> Self {
        let words = tokens / 64 + 1;
        States { bits: vec![0; words], next: vec![0; words], tokens }
    }

    fn start(&mut self, tokens: &[Token]) {
        set(&mut self.bits, tokens, 0);
    }

    fn accepts(&self) -> bool {
        self.bits[self.tokens / 64] >> (self.tokens % 64) & 1 == 1
    }

    fn is_dead(&self) -> bool {
        self.bits.iter().all(|&word| word == 0)
    }

    fn step(&mut self, tokens: &[Token], c: char) {
        self.next.fill(0);
        for (index, &word) in self.bits.iter().enumerate() {
            let mut word = word;
            while word != 0 {
                let state = index * 64 + word.trailing_zeros() as usize;
                word &= word - 1;
                match tokens.get(state) {
                    Some(Token::Literal(literal)) if *literal == c => set(&mut self.next, tokens, state + 1),
                    Some(Token::AnyChar) if c != '\n' => set(&mut self.next, tokens, state + 1),
                    Some(Token::AnyText) if c != '\n' => set(&mut self.next, tokens, state),
                    _ => {}
                }
            }
        }
        std::mem::swap(&mut self.bits, &mut self.next);
    }
}

/// Adds `state`, and all behind it that a `*` may skip to.
fn set(bits: &mut [u64], tokens: &[Token], mut state: usize) {
    loop {
        bits[state / 64] |= 1 << (state % 64);
        if tokens.get(state) != Some(&Token::AnyText) {
            return;
        }
        state += 1;
    }
}
