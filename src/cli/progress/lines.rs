use crate::cli::text::{beginning, harmful};

/// No line is kept longer than this many bytes: what goes on without a line feed comes in pieces of it.
const LONGEST: usize = 64 * 1024;

/// Makes lines of what a step writes, as a terminal would show them at the line feed: escape sequences and control
/// characters are dropped, what stands before a carriage return gives way to what follows it, and a backspace takes a
/// character back. Sequences and lines may come in pieces.
#[derive(Debug, Default)]
pub struct Lines {
    state: State,
    line: String,
    /// A carriage return came: the next character begins the line anew.
    returned: bool,
}

/// Where in an escape sequence (ECMA-48) the text is.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum State {
    #[default]
    Ground,
    /// Behind ESC.
    Escape,
    /// Behind ESC and a character from space to slash.
    Intermediate,
    /// In a control sequence: ESC [ …
    Control,
    /// In a command string: ESC ] … (a title, a link), ESC P …
    String,
    /// In a command string, behind ESC.
    StringEscape,
}

impl Lines {
    /// Takes in `text`, and hands each line that it ends to `on_line`, without its line feed.
    pub fn push(&mut self, text: &str, mut on_line: impl FnMut(&str)) {
        let mut rest = text;
        while !rest.is_empty() {
            if self.state == State::Ground {
                let plain = rest.find(harmful).unwrap_or(rest.len());
                self.put(&rest[..plain], &mut on_line);
                rest = &rest[plain..];
            }
            let mut chars = rest.chars();
            if let Some(c) = chars.next() {
                self.control(c, &mut on_line);
                rest = chars.as_str();
            }
        }
    }

    /// Returns the line that has no line feed yet.
    pub fn rest(&self) -> &str {
        &self.line
    }

    /// Hands what is left to `on_line`, if there is something.
    pub fn finish(&mut self, mut on_line: impl FnMut(&str)) {
        if !self.line.is_empty() {
            on_line(&self.line);
        }
        *self = Lines::default();
    }

    fn put(&mut self, mut text: &str, on_line: &mut impl FnMut(&str)) {
        if text.is_empty() {
            return;
        }
        if std::mem::take(&mut self.returned) {
            self.line.clear();
        }
        while self.line.len() + text.len() > LONGEST {
            let piece = beginning(text, LONGEST - self.line.len());
            self.line.push_str(piece);
            on_line(&self.line);
            self.line.clear();
            text = &text[piece.len()..];
        }
        self.line.push_str(text);
    }

    /// Takes in a character that is harmful, or part of a sequence.
    fn control(&mut self, c: char, on_line: &mut impl FnMut(&str)) {
        use State::*;
        self.state = match (self.state, c) {
            // A line feed ends everything: a sequence that is never closed must not swallow the rest.
            (_, '\n') => {
                on_line(&self.line);
                *self = Lines::default();
                Ground
            }
            (String, '\x07' | '\u{9c}') | (StringEscape, '\\') => Ground,
            (String, '\x1b') => StringEscape,
            (String, _) => String,
            (_, '\x1b') => Escape,
            (Ground | Control, '\u{9b}') | (Escape | StringEscape, '[') => Control,
            (Ground | Control, '\u{90}' | '\u{98}' | '\u{9d}'..='\u{9f}')
            | (Escape | StringEscape, ']' | 'P' | 'X' | '^' | '_') => String,
            (Escape | StringEscape | Intermediate, ' '..='/') => Intermediate,
            (Control, ' '..='?') => Control,
            (_, '\r') => {
                self.returned = true;
                Ground
            }
            (Ground, '\t') => {
                self.put("\t", on_line);
                Ground
            }
            (Ground, '\x08') => {
                self.line.pop();
                Ground
            }
            // A control character inside of a control sequence is obeyed by terminals, and the sequence goes on.
            (Control, c) if c.is_control() => Control,
            _ => Ground,
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns the lines of `text`, which must be the same when it comes character by character.
    fn lines(text: &str) -> Vec<String> {
        let (mut at_once, mut one_by_one) = (Vec::new(), Vec::new());
        let mut lines = Lines::default();
        lines.push(text, |line| at_once.push(line.to_owned()));
        lines.finish(|line| at_once.push(line.to_owned()));
        for c in text.chars() {
            lines.push(c.encode_utf8(&mut [0; 4]), |line| one_by_one.push(line.to_owned()));
        }
        lines.finish(|line| one_by_one.push(line.to_owned()));
        assert_eq!(at_once, one_by_one);
        at_once
    }

    #[test]
    fn lines_end_at_line_feeds_and_at_the_end() {
        assert_eq!(lines("a\nb\r\n\nc"), ["a", "b", "", "c"]);
        assert_eq!(lines("a\tb\n"), ["a\tb"]);
        assert!(lines("").is_empty());
    }

    #[test]
    fn a_progress_bar_leaves_its_last_state() {
        assert_eq!(lines("10%\r20%\r100%\ndone\r\n"), ["100%", "done"]);
        assert_eq!(lines("|\x08/\x08-\x08ok\n"), ["ok"]);
        assert_eq!(lines("last\r"), ["last"]);
    }

    #[test]
    fn escape_sequences_are_dropped() {
        for (text, want) in [
            ("\x1b[1;31mred\x1b[0m", "red"),
            ("\x1b[2J\x1b[Hhome", "home"),
            ("\x1b]0;title\x07text", "text"),
            ("\x1b]8;;http://x\x1b\\link\x1b]8;;\x1b\\", "link"),
            ("\x1bPq#0\x1b\\after", "after"),
            ("\x1b(Bascii\x1b=\x1b7x", "asciix"),
            ("\u{9b}31mc1 \u{9d}title\u{9c}x", "c1 x"),
            ("bell\x07 nul\0 del\x7f \u{202e}", "bell nul del "),
            ("\x1b\x1b[31mtwice", "twice"),
            ("\x1b]open\x1b[31mred", "red"),
        ] {
            assert_eq!(lines(text), [want], "{text:?}");
        }
    }

    #[test]
    fn a_sequence_that_is_never_closed_ends_with_its_line() {
        assert_eq!(lines("\x1b]0;open\nnext\n\x1b[31\nlast"), ["", "next", "", "last"]);
    }

    #[test]
    fn a_line_without_an_end_comes_in_pieces_and_nothing_is_lost() {
        let text = "é".repeat(LONGEST);
        let pieces = lines(&text);
        assert!(pieces.len() >= 2 && pieces.iter().all(|piece| piece.len() <= LONGEST));
        assert_eq!(pieces.concat(), text);
    }
}
