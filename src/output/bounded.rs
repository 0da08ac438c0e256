use std::io::{self, Read};

/// The most bytes that a layer, or an archive of images, has without its compression: what is more is made to fill the disk.
pub(super) const MOST: u64 = 128 << 30;

/// Gives what `inner` gives, up to so many bytes; more is an error.
#[derive(Debug)]
pub(super) struct Bounded<R> {
    inner: R,
    left: u64,
}

impl<R: Read> Bounded<R> {
    /// Returns a reader of [`MOST`] bytes at the most.
    pub(super) fn new(inner: R) -> Self {
        Bounded { inner, left: MOST }
    }
}

impl<R: Read> Read for Bounded<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let length = self.inner.read(buffer)?;
        let too_large = || io::Error::other(format!("it has more than {} GiB without its compression", MOST >> 30));
        self.left = self.left.checked_sub(length as u64).ok_or_else(too_large)?;
        Ok(length)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_byte_comes_and_the_next_does_not() {
        let mut text = String::new();
        Bounded { inner: &b"12345"[..], left: 5 }.read_to_string(&mut text).unwrap();
        assert_eq!(text, "12345");
        let error = Bounded { inner: &b"123456"[..], left: 5 }.read_to_string(&mut text).unwrap_err();
        assert!(error.to_string().contains("more than 128 GiB"), "{error}");
    }
}
