use std::collections::VecDeque;
use std::io::{self, Write};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::{Receiver, Sender, SyncSender, channel, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use super::Compression;
use super::block::{self, Blocks};

/// Compresses what is written to it, in blocks of a fixed length, on several threads.
///
/// The bytes that come out depend on those that go in and on the [`Compression`], never on the number of threads or on
/// how the input is cut into writes: gzip members of 1 MiB each, or zstd frames of 4 MiB each. An empty input gives one empty
/// member or frame. Memory is bounded: two blocks for each thread wait or are being compressed.
///
/// Threads start when there is work for them, so a small layer starts none. Dropped without
/// [`finish`](Compressor::finish), it stops them, and what was written is not complete.
#[derive(Debug)]
pub struct Compressor<W: Write> {
    /// `None` only after `finish`.
    out: Option<W>,
    compression: Compression,
    threads: usize,
    /// The block that is being filled.
    block: Vec<u8>,
    wrote_any: bool,
    /// Results of the blocks that are under way, in the order of the input.
    pending: VecDeque<Receiver<io::Result<Vec<u8>>>>,
    jobs: Option<Sender<Job>>,
    queue: Arc<Mutex<Receiver<Job>>>,
    workers: Vec<JoinHandle<()>>,
    /// A write or a block failed: what is in `out` is of no use any more.
    broken: bool,
}

/// Bytes of a block for which there is room at first: most layers have only a few.
const FIRST: usize = 64 << 10;

struct Job {
    block: Vec<u8>,
    done: SyncSender<io::Result<Vec<u8>>>,
}

impl<W: Write> Compressor<W> {
    /// Returns a compressor into `out` that uses up to `threads` threads besides the caller's, at least one.
    pub fn new(out: W, compression: Compression, threads: usize) -> Self {
        let (jobs, queue) = channel();
        Compressor {
            out: Some(out),
            compression,
            threads: threads.max(1),
            block: Vec::new(),
            wrote_any: false,
            pending: VecDeque::new(),
            jobs: Some(jobs),
            queue: Arc::new(Mutex::new(queue)),
            workers: Vec::new(),
            broken: false,
        }
    }

    /// Compresses and writes what is left, stops the threads, and returns the inner writer, which is flushed.
    ///
    /// # Errors
    /// What the inner writer reports, now or in an earlier write that was not heeded.
    pub fn finish(mut self) -> io::Result<W> {
        self.check()?;
        let last = std::mem::take(&mut self.block);
        while !self.pending.is_empty() {
            self.write_oldest()?;
        }
        if !last.is_empty() || (!self.wrote_any && self.compression != Compression::None) {
            let result = block::compress(self.compression, &last);
            self.put(result)?;
        }
        let mut out = self.out.take().expect("only finish takes it, and consumes self");
        out.flush()?;
        Ok(out)
    }

    fn check(&self) -> io::Result<()> {
        if self.broken { Err(io::Error::other("an earlier write of compressed data failed")) } else { Ok(()) }
    }

    /// Hands a full block to the threads; waits for the oldest where enough is under way.
    fn submit(&mut self, block: Vec<u8>) -> io::Result<()> {
        if self.pending.len() >= 2 * self.threads {
            self.write_oldest()?;
        }
        if self.workers.len() < self.threads && self.workers.len() <= self.pending.len() {
            let worker = Blocks::new(self.compression)
                .and_then(|mut blocks| start(move |block| blocks.compress(block), Arc::clone(&self.queue)));
            match worker {
                Ok(worker) => self.workers.push(worker),
                // No more threads are to be had: those that there are, or this one, do it.
                Err(_) => self.threads = self.workers.len().max(1),
            }
        }
        if self.workers.is_empty() {
            let result = Blocks::new(self.compression).and_then(|mut blocks| blocks.compress(&block));
            return self.put(result);
        }
        let (done, result) = sync_channel(1);
        let jobs = self.jobs.as_ref().ok_or_else(worker_died)?;
        jobs.send(Job { block, done }).map_err(|_| worker_died())?;
        self.pending.push_back(result);
        Ok(())
    }

    fn write_oldest(&mut self) -> io::Result<()> {
        let Some(oldest) = self.pending.pop_front() else {
            return Ok(());
        };
        let result = oldest.recv().unwrap_or_else(|_| Err(worker_died()));
        self.put(result)
    }

    fn put(&mut self, result: io::Result<Vec<u8>>) -> io::Result<()> {
        self.wrote_any = true;
        let out = self.out.as_mut().ok_or_else(worker_died)?;
        let result = result.and_then(|bytes| out.write_all(&bytes));
        self.broken |= result.is_err();
        result
    }
}

impl<W: Write> Write for Compressor<W> {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        self.check()?;
        let length = block::length(self.compression);
        if self.block.capacity() == 0 {
            self.block.reserve_exact(length.min(FIRST));
        } else if self.block.len() + buf.len() > self.block.capacity() {
            self.block.reserve_exact(length - self.block.len());
        }
        let n = buf.len().min(length - self.block.len());
        self.block.extend_from_slice(&buf[..n]);
        if self.block.len() == length {
            let block = std::mem::take(&mut self.block);
            let result = if self.compression == Compression::None { self.put(Ok(block)) } else { self.submit(block) };
            self.broken |= result.is_err();
            result?;
        }
        Ok(n)
    }

    /// Does nothing: a block that is not full cannot be written, its length would become part of the format.
    fn flush(&mut self) -> io::Result<()> {
        self.check()
    }
}

impl<W: Write> Drop for Compressor<W> {
    fn drop(&mut self) {
        // No more jobs, and nobody who wants the results: the threads finish what they have in hand, and end.
        self.jobs = None;
        self.pending.clear();
        {
            let queue = self.queue.lock().unwrap_or_else(PoisonError::into_inner);
            while queue.try_recv().is_ok() {}
        }
        for worker in self.workers.drain(..) {
            // It catches its panics.
            let _ = worker.join();
        }
    }
}

/// Starts a thread that answers jobs with `compress`. A panic in it is an error like any other, so that nobody waits for an
/// answer that never comes.
fn start(
    mut compress: impl FnMut(&[u8]) -> io::Result<Vec<u8>> + Send + 'static,
    queue: Arc<Mutex<Receiver<Job>>>,
) -> io::Result<JoinHandle<()>> {
    std::thread::Builder::new().name("compress".to_owned()).spawn(move || {
        loop {
            // Whoever waits for a job holds the lock; the others wait for the lock.
            let job = queue.lock().unwrap_or_else(PoisonError::into_inner).recv();
            let Ok(Job { block, done }) = job else { return };
            let result = catch_unwind(AssertUnwindSafe(|| compress(&block))).unwrap_or_else(|_| Err(worker_died()));
            // Nobody listens any more where the compressor was dropped.
            let _ = done.send(result);
        }
    })
}

fn worker_died() -> io::Error {
    io::Error::other("a compressing thread panicked")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_in_a_thread_is_an_error_and_the_next_job_is_done() {
        let (jobs, queue) = channel();
        let compress = |block: &[u8]| if block.is_empty() { panic!("as the test wants") } else { Ok(block.to_vec()) };
        let worker = start(compress, Arc::new(Mutex::new(queue))).unwrap();
        let ask = |block: Vec<u8>| {
            let (done, result) = sync_channel(1);
            jobs.send(Job { block, done }).unwrap();
            result.recv().unwrap()
        };
        assert!(ask(Vec::new()).is_err());
        assert_eq!(ask(b"x".to_vec()).unwrap(), b"x");
        drop(jobs);
        worker.join().unwrap();
    }
}
