use std::sync::{Mutex, PoisonError};

use crate::progress::{Event, Sink};

/// How many bytes pass between two events.
const REPORT: u64 = 4 << 20;

/// Counts the bytes of all blobs of a transfer, and reports them, not too often.
pub(super) struct Meter<'a> {
    sink: &'a dyn Sink,
    what: String,
    total: u64,
    counts: Mutex<Counts>,
}

#[derive(Default)]
struct Counts {
    done: u64,
    reported: u64,
}

impl<'a> Meter<'a> {
    pub fn new(sink: &'a dyn Sink, what: String, total: u64) -> Self {
        Meter { sink, what, total, counts: Mutex::default() }
    }

    pub fn sink(&self) -> &'a dyn Sink {
        self.sink
    }

    /// Counts bytes that have passed, or need not.
    pub fn advance(&self, bytes: u64) {
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        counts.done += bytes;
        let (done, reported) = (counts.done, counts.reported);
        if done - reported.min(done) >= REPORT || (done == self.total && done > reported) {
            counts.reported = done;
            self.sink.emit(Event::Transfer { what: self.what.clone(), done, total: Some(self.total) });
        }
    }

    /// Takes back bytes that must pass once more.
    pub fn take_back(&self, bytes: u64) {
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        counts.done = counts.done.saturating_sub(bytes);
        counts.reported = counts.reported.min(counts.done);
    }
}
