use std::fmt;

/// What `--chmod` says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Chmod {
    /// The mode itself, at most 07777.
    Octal(u32),
    /// A change of the mode that is there, as in `u=rwX,go=rX`.
    Symbolic(SymbolicMode),
}

impl Chmod {
    /// Returns the mode that a file or directory gets which has `mode` in its source.
    pub fn apply(&self, mode: u32, is_dir: bool) -> u32 {
        match self {
            Chmod::Octal(mode) => *mode,
            Chmod::Symbolic(change) => change.apply(mode, is_dir),
        }
    }
}

impl fmt::Display for Chmod {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Chmod::Octal(mode) => write!(f, "{mode:04o}"),
            Chmod::Symbolic(change) => f.write_str(&change.text),
        }
    }
}

/// A change of a mode, in the words of chmod(1). There is no umask: where nobody is named, all are meant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SymbolicMode {
    text: String,
    changes: Vec<Change>,
}

/// One operator with what stands behind it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Change {
    /// The bits of those who are named, with set-user-id for the owner and set-group-id for the group.
    who: u32,
    operator: Operator,
    what: What,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Operator {
    Add,
    Remove,
    Set,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum What {
    /// These bits, of whoever is named.
    Bits(u32),
    /// These bits; and execute, where it is a directory or somebody may execute it already.
    BitsAndExecute(u32),
    /// The permissions that the owner, the group or others have: how far theirs are shifted.
    Copy(u32),
}

const OWNER: u32 = 0o4700;
const GROUP: u32 = 0o2070;
const OTHERS: u32 = 0o007;
const EVERYBODY: u32 = OWNER | GROUP | OTHERS;
const SET_IDS: u32 = 0o6000;
const STICKY: u32 = 0o1000;

impl SymbolicMode {
    /// Returns the change that `text` describes: clauses with commas between them, each the letters of whom it is about (`ugoa`, or none
    /// for all), and then one or more of `+`, `-`, `=` with `rwxXst` or one of `ugo` behind it. `None` where it is no such text.
    ///
    /// ```
    /// use coracle::plan::SymbolicMode;
    /// let mode = SymbolicMode::parse("u=rwX,go=rX").unwrap();
    /// assert_eq!((mode.apply(0o600, false), mode.apply(0o700, true)), (0o644, 0o755));
    /// ```
    pub fn parse(text: &str) -> Option<Self> {
        let mut changes = Vec::new();
        for clause in text.split(',') {
            let start = clause.find(['+', '-', '=']).filter(|_| clause.is_ascii())?;
            let mut who = 0;
            for letter in clause[..start].bytes() {
                who |= match letter {
                    b'u' => OWNER,
                    b'g' => GROUP,
                    b'o' => OTHERS,
                    b'a' => EVERYBODY,
                    _ => return None,
                };
            }
            let who = if who == 0 { EVERYBODY } else { who };
            let mut rest = &clause[start..];
            while !rest.is_empty() {
                let end = rest[1..].find(['+', '-', '=']).map_or(rest.len(), |at| at + 1);
                let operator = match rest.as_bytes()[0] {
                    b'+' => Operator::Add,
                    b'-' => Operator::Remove,
                    _ => Operator::Set,
                };
                changes.push(Change { who, operator, what: what(&rest[1..end], who)? });
                rest = &rest[end..];
            }
        }
        Some(SymbolicMode { text: text.into(), changes })
    }

    /// Returns the text that was parsed.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Returns what becomes of `mode`, the permissions of a file or directory. Both are at most 07777.
    pub fn apply(&self, mode: u32, is_dir: bool) -> u32 {
        let executable = is_dir || mode & 0o111 != 0;
        self.changes.iter().fold(mode & 0o7777, |mode, change| change.apply(mode, executable))
    }
}

/// Returns what the letters behind an operator mean for `who`.
fn what(letters: &str, who: u32) -> Option<What> {
    match letters {
        "u" => return Some(What::Copy(6)),
        "g" => return Some(What::Copy(3)),
        "o" => return Some(What::Copy(0)),
        _ => {}
    }
    let (mut bits, mut execute) = (0, false);
    for letter in letters.bytes() {
        match letter {
            b'r' => bits |= 0o444,
            b'w' => bits |= 0o222,
            b'x' => bits |= 0o111,
            b'X' => execute = true,
            // Others have no such bits.
            b's' | b't' if who == OTHERS => {}
            b's' => bits |= SET_IDS,
            b't' => bits |= STICKY,
            _ => return None,
        }
    }
    Some(if execute { What::BitsAndExecute(bits) } else { What::Bits(bits) })
}

impl Change {
    fn apply(self, mode: u32, executable: bool) -> u32 {
        let (who, bits) = match self.what {
            What::Copy(shift) => (self.who & 0o777, ((mode >> shift) & 7) * 0o111),
            What::Bits(bits) => (self.who | (bits & STICKY), bits),
            What::BitsAndExecute(bits) if executable => (self.who | (bits & STICKY), bits | 0o111),
            What::BitsAndExecute(bits) => (self.who | (bits & STICKY), bits),
        };
        match self.operator {
            Operator::Add => mode | (bits & who),
            Operator::Remove => mode & !(bits & who),
            Operator::Set => (mode & !who) | (bits & who),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mode_changes_as_chmod_changes_it() {
        for (text, before, file, dir) in [
            ("go-w", 0o666, 0o644, 0o644),
            ("u=rw,g=r,o=r", 0o777, 0o644, 0o644),
            ("a+X", 0o666, 0o666, 0o777),
            ("+X", 0o744, 0o755, 0o755),
            ("u+rw,g+r,o-x,o+w", 0o124, 0o766, 0o766),
            ("u=rwX,go=rX", 0o600, 0o644, 0o755),
            ("u=rwX,go=rX", 0o100, 0o755, 0o755),
            ("g=u", 0o640, 0o660, 0o660),
            ("go=u-w", 0o700, 0o755, 0o755),
            ("go=", 0o777, 0o700, 0o700),
            ("=r", 0o7777, 0o1444, 0o1444),
            ("u+s,g+s", 0o755, 0o6755, 0o6755),
            ("u+s", 0o755, 0o4755, 0o4755),
            ("o+s", 0o755, 0o755, 0o755),
            ("+t", 0o777, 0o1777, 0o1777),
            ("u=rw", 0o4755, 0o655, 0o655),
            ("-x", 0o755, 0o644, 0o644),
            ("a-X", 0o755, 0o644, 0o644),
            ("u+x-w", 0o600, 0o500, 0o500),
        ] {
            let mode = SymbolicMode::parse(text).unwrap_or_else(|| panic!("{text}"));
            assert_eq!((mode.apply(before, false), mode.apply(before, true)), (file, dir), "{text} of {before:o}");
        }
    }

    #[test]
    fn what_is_no_mode_is_none() {
        for text in ["", "u", "rwx", "u+q", "755", "u=rwX,", ",u=r", "u =r", "u=é", "b+x", "u=rgw"] {
            assert_eq!(SymbolicMode::parse(text), None, "{text}");
        }
    }
}
