use std::fmt::Write as _;

use crate::cli::report::Style;
use crate::cli::text::cut;

/// The size of a terminal, in characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Size {
    /// How wide.
    pub columns: usize,
    /// How high.
    pub rows: usize,
}

/// Returns the size of the terminal at standard error; 80 by 24 where it is none.
pub fn size() -> Size {
    let known = rustix::termios::tcgetwinsize(std::io::stderr()).ok().filter(|s| s.ws_col > 0 && s.ws_row > 0);
    known.map_or(Size { columns: 80, rows: 24 }, |s| Size { columns: s.ws_col.into(), rows: s.ws_row.into() })
}

/// A line of a view.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    /// What it says, without control characters.
    pub text: String,
    /// How it looks.
    pub look: Look,
}

/// How a line looks where there are colours.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Look {
    /// As usual.
    Normal,
    /// What happens now.
    Bold,
    /// What matters less.
    Dim,
    /// What went well.
    Good,
    /// What need not run.
    Known,
    /// What the user should know.
    Warning,
    /// What went wrong.
    Bad,
}

impl Look {
    fn sgr(self) -> Option<&'static str> {
        Some(match self {
            Look::Normal => return None,
            Look::Bold => "1",
            Look::Dim => "2",
            Look::Good => "32",
            Look::Known => "36",
            Look::Warning => "33",
            Look::Bad => "1;31",
        })
    }
}

/// The lower end of a terminal: settled lines go up and stay, live lines are redrawn below them. Between two frames the
/// cursor stands below the last line, where whatever is written next belongs.
#[derive(Debug)]
pub struct Screen {
    style: Style,
    /// How many live lines are there now.
    live: usize,
    /// The size of the terminal at the last frame.
    size: Option<Size>,
}

impl Screen {
    /// Returns a screen on which nothing is yet.
    pub fn new(style: Style) -> Self {
        Screen { style, live: 0, size: None }
    }

    /// Returns the bytes that make the next frame out of the last one: `settled` lines, `live` lines below. `live` must be
    /// fewer than the terminal has rows. Empty where there is nothing to change.
    pub fn frame(&mut self, settled: &[Line], live: &[Line], size: Size) -> String {
        if settled.is_empty() && live.is_empty() && self.live == 0 {
            return String::new();
        }
        // A terminal that became narrower may have folded our lines, and takes its time to tell (tmux: 250 ms). How many
        // rows they take now is a guess then. The least is one each: some rows of an old frame may stay, but no settled
        // line is ever lost.
        let rows = std::mem::replace(&mut self.live, live.len());
        // Without automatic margins: where the terminal finds a character wider than we do, the line must not fold.
        let mut out = String::from("\x1b[?7l\r");
        if rows > 0 {
            let _ = write!(out, "\x1b[{rows}A");
        }
        if self.size.replace(size).is_some_and(|last| last != size) {
            // Folded rows are joined again when the terminal becomes wider, unless they were cleared as a whole.
            out.push_str("\x1b[J");
        }
        for line in settled.iter().chain(live) {
            let text = cut(&line.text, size.columns.saturating_sub(1));
            match line.look.sgr() {
                Some(sgr) => out.push_str(&self.style.paint(sgr, &text)),
                None => out.push_str(&text),
            }
            out.push_str("\x1b[K\r\n");
        }
        out.push_str("\x1b[J\x1b[?7h");
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(texts: &[&str]) -> Vec<Line> {
        texts.iter().map(|text| Line { text: (*text).into(), look: Look::Bold }).collect()
    }

    const WIDE: Size = Size { columns: 20, rows: 10 };

    #[test]
    fn live_lines_are_drawn_over_and_settled_ones_stay() {
        let mut screen = Screen::new(Style::Plain);
        assert_eq!(screen.frame(&[], &lines(&["a", "b"]), WIDE), "\x1b[?7l\ra\x1b[K\r\nb\x1b[K\r\n\x1b[J\x1b[?7h");
        let next = screen.frame(&lines(&["done"]), &lines(&["c"]), WIDE);
        assert_eq!(next, "\x1b[?7l\r\x1b[2Adone\x1b[K\r\nc\x1b[K\r\n\x1b[J\x1b[?7h");
        assert_eq!(screen.frame(&[], &[], WIDE), "\x1b[?7l\r\x1b[1A\x1b[J\x1b[?7h");
        assert_eq!(screen.frame(&[], &[], WIDE), "");
    }

    #[test]
    fn lines_are_cut_before_the_last_column() {
        let frame = Screen::new(Style::Colour).frame(&[], &lines(&["0123456789"]), Size { columns: 8, rows: 3 });
        assert!(frame.contains("\r\x1b[1m012345…\x1b[0m\x1b[K\r\n"), "{frame:?}");
    }

    #[test]
    fn a_terminal_of_another_size_loses_no_settled_line() {
        let mut screen = Screen::new(Style::Plain);
        screen.frame(&[], &lines(&["0123456789", "abc", ""]), WIDE);
        let next = screen.frame(&[], &lines(&["x"]), Size { columns: 4, rows: 10 });
        assert!(next.starts_with("\x1b[?7l\r\x1b[3A\x1b[Jx\x1b[K"), "{next:?}");
    }
}
