//! Takes the values of secrets out of what a command writes.

/// Shorter values are not looked for: they would be found everywhere.
const SHORTEST: usize = 8;
const STARS: &[u8] = b"***";

/// The values to be taken out.
#[derive(Clone, Default)]
pub(in crate::build) struct Mask {
    /// The longest first.
    values: Vec<Vec<u8>>,
}

impl std::fmt::Debug for Mask {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Mask({})", self.values.len())
    }
}

impl Mask {
    /// Adds a secret: the whole of it, and each of its lines.
    pub fn add(&mut self, secret: &[u8]) {
        let whole = std::iter::once(secret.trim_ascii());
        let lines = secret.split(|&byte| byte == b'\n').map(<[u8]>::trim_ascii);
        for value in whole.chain(lines).filter(|value| value.len() >= SHORTEST) {
            if !self.values.iter().any(|known| known == value) {
                self.values.push(value.to_vec());
            }
        }
        self.values.sort_by_key(|value| std::cmp::Reverse(value.len()));
    }
}

/// One output of a command, without the secrets.
#[derive(Debug)]
pub(in crate::build) struct Masked<'a> {
    mask: &'a Mask,
    /// What may be the beginning of a secret.
    held: Vec<u8>,
}

impl<'a> Masked<'a> {
    pub fn new(mask: &'a Mask) -> Self {
        Masked { mask, held: Vec::new() }
    }

    /// Returns what can be shown after `bytes` were written.
    pub fn push(&mut self, bytes: &[u8]) -> Vec<u8> {
        if self.mask.values.is_empty() {
            return bytes.to_vec();
        }
        self.held.extend_from_slice(bytes);
        self.shown(Rest::MayGoOn)
    }

    /// Returns what is left at the end.
    pub fn finish(&mut self) -> Vec<u8> {
        self.shown(Rest::IsOver)
    }

    fn shown(&mut self, rest: Rest) -> Vec<u8> {
        let mut shown = Vec::with_capacity(self.held.len());
        let mut at = 0;
        while at < self.held.len() {
            let left = &self.held[at..];
            let values = &self.mask.values;
            // A longer one that has only begun counts before a shorter one that is whole.
            if rest == Rest::MayGoOn && values.iter().any(|value| value.len() > left.len() && value.starts_with(left)) {
                break;
            }
            match values.iter().find(|value| left.starts_with(value)) {
                Some(value) => {
                    shown.extend_from_slice(STARS);
                    at += value.len();
                }
                None => {
                    shown.push(left[0]);
                    at += 1;
                }
            }
        }
        self.held.drain(..at);
        shown
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Rest {
    MayGoOn,
    IsOver,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn masked(secrets: &[&str], pieces: &[&str]) -> String {
        let mut mask = Mask::default();
        secrets.iter().for_each(|secret| mask.add(secret.as_bytes()));
        let mut output = Masked::new(&mask);
        let mut shown: Vec<u8> = pieces.iter().flat_map(|piece| output.push(piece.as_bytes())).collect();
        shown.extend(output.finish());
        String::from_utf8(shown).unwrap()
    }

    #[test]
    fn a_secret_is_masked_however_it_is_cut() {
        let secret = "correct horse";
        assert_eq!(masked(&[secret], &["is correct horse!"]), "is ***!");
        assert_eq!(masked(&[secret], &["is cor", "rect ", "horse!"]), "is ***!");
        assert_eq!(masked(&[secret], &["is cor", "rect ", "house!"]), "is correct house!");
        assert_eq!(masked(&[secret], &["correct hor"]), "correct hor");
        assert_eq!(masked(&["aaaaaaab"], &["aaaaaaaaaaab"]), "aaaa***");
        assert_eq!(masked(&["short"], &["short"]), "short");
    }

    #[test]
    fn the_lines_of_a_key_are_masked_too_and_the_end_of_the_line_is_not() {
        assert_eq!(masked(&["-----BEGIN\nabcdefgh\n"], &["x abcdefgh\ny"]), "x ***\ny");
        assert_eq!(masked(&["token-12345\n"], &["token-12345\n"]), "***\n");
    }
}
