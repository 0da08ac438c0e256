/// Bytes that come in pieces → text: a character that is cut in two is put together again, and what is no UTF-8 is replaced.
#[derive(Debug, Default)]
pub(super) struct Utf8Stream {
    /// The beginning of a character, at most three bytes.
    rest: Vec<u8>,
}

impl Utf8Stream {
    /// Returns the text up to the last character that is whole.
    pub fn push(&mut self, bytes: &[u8]) -> String {
        self.rest.extend_from_slice(bytes);
        let whole = match std::str::from_utf8(&self.rest) {
            Ok(_) => self.rest.len(),
            // Only an end that may still become a character has no length.
            Err(_) => self.rest.len() - cut_tail(&self.rest),
        };
        let tail = self.rest.split_off(whole);
        String::from_utf8_lossy(&std::mem::replace(&mut self.rest, tail)).into_owned()
    }

    /// Returns what is left at the end.
    pub fn finish(&mut self) -> String {
        String::from_utf8_lossy(&std::mem::take(&mut self.rest)).into_owned()
    }
}

/// Returns how many bytes at the end are the beginning of a character.
fn cut_tail(bytes: &[u8]) -> usize {
    (1..=3.min(bytes.len()))
        .find(|&length| {
            let tail = &bytes[bytes.len() - length..];
            matches!(std::str::from_utf8(tail), Err(error) if error.valid_up_to() == 0 && error.error_len().is_none())
        })
        .unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn characters_that_are_cut_in_two_come_out_whole() {
        let text = "café 日本 🚣 end";
        for size in 1..6 {
            let mut stream = Utf8Stream::default();
            let out: String = text.as_bytes().chunks(size).map(|piece| stream.push(piece)).collect();
            assert_eq!(out + &stream.finish(), text, "{size}");
        }
    }

    #[test]
    fn what_is_no_text_is_replaced_and_holds_nothing_up() {
        let mut stream = Utf8Stream::default();
        assert_eq!(stream.push(b"a\xff"), "a\u{fffd}");
        assert_eq!(stream.push(b"b\xc3"), "b");
        assert_eq!(stream.push(b"c"), "\u{fffd}c");
        assert_eq!(stream.push(b"\xf0\x9f"), "");
        assert_eq!(stream.finish(), "\u{fffd}");
    }
}
