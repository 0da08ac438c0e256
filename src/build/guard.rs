use std::io::{self, Read, Write};

use coracle_runtime::container::Control;

/// Passes bytes through until the build is interrupted; then every call fails.
pub(super) struct Guarded<'a, T> {
    inner: T,
    control: &'a Control,
}

impl<'a, T> Guarded<'a, T> {
    pub fn new(inner: T, control: &'a Control) -> Self {
        Guarded { inner, control }
    }

    pub fn into_inner(self) -> T {
        self.inner
    }

    fn check(&self) -> io::Result<()> {
        // Not ErrorKind::Interrupted, which callers answer by trying again.
        if self.control.cancelled() { Err(io::Error::other("interrupted")) } else { Ok(()) }
    }
}

impl<T: Read> Read for Guarded<'_, T> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        self.check()?;
        self.inner.read(buf)
    }
}

impl<T: Write> Write for Guarded<'_, T> {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        self.check()?;
        self.inner.write(buf)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}
