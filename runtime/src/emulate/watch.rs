//! Who waits for the next call. The kernel wakes all who do, one after the other on the processor of the caller: with one process
//! that makes calls, half as much again for every call. So one thread waits, and lets the next one in when more calls are there
//! than it can answer at once. With several processes that make calls it is the other way round: where nobody waits, a call
//! is answered by a thread on another processor, and to get that going takes longer than to answer. So as many wait or
//! answer as were busy at the same time lately.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

/// To look whether more calls are there costs a system call. As long as nobody waits, and calls are quick, it is done once in
/// so many.
const SELDOM: u32 = 4;
/// After so many calls for which fewer threads would have done, there is one fewer.
const LULL: u32 = 256;

/// The threads of an emulator.
#[derive(Debug, Default)]
pub(super) struct Watch {
    state: Mutex<State>,
    /// Rings when one more may wait.
    door: Condvar,
}

#[derive(Debug, Default)]
struct State {
    /// How many wait for a call.
    waiting: u32,
    /// How many answer one.
    busy: u32,
    /// How many do either, if nobody waits for nothing.
    enough: u32,
    /// Calls since that many were busy.
    lull: u32,
    /// Calls since it was looked whether there are more.
    since: u32,
}

impl Watch {
    /// Waits until this thread may wait for calls.
    pub(super) fn begin(&self) {
        let mut state = self.lock();
        while state.waiting > 0 && state.waiting + state.busy >= state.enough {
            state = self.door.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        state.waiting += 1;
    }

    /// This thread was woken, but has nothing to do: another one took the call, or it was taken back.
    pub(super) fn in_vain(&self) {
        self.lock().waiting -= 1;
    }

    /// No more calls can come: who waits to be let in goes and sees that too.
    pub(super) fn over(&self) {
        self.in_vain();
        self.door.notify_all();
    }

    /// This thread waits no more: it has something to do, until the value is dropped.
    pub(super) fn end(&self) -> AtWork<'_> {
        let mut state = self.lock();
        state.waiting -= 1;
        state.busy += 1;
        if state.busy >= state.enough {
            (state.enough, state.lull) = (state.busy, 0);
        } else {
            state.lull += 1;
            if state.lull > LULL {
                (state.enough, state.lull) = (state.enough - 1, 0);
            }
        }
        AtWork(self)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A thread that answers a call.
pub(super) struct AtWork<'a>(&'a Watch);

impl AtWork<'_> {
    /// Returns whether it is time to look for more calls; this one is answered at once if it `is_quick`.
    pub(super) fn looks(&self, is_quick: bool) -> bool {
        let mut state = self.0.lock();
        state.since += 1;
        state.waiting == 0 && (state.since > SELDOM || !is_quick)
    }

    /// Takes note of whether there were more calls.
    pub(super) fn saw(&self, more: bool) {
        let mut state = self.0.lock();
        if more {
            (state.enough, state.lull, state.since) = (state.busy + 1, 0, SELDOM);
            self.0.door.notify_one();
        } else {
            state.since = 0;
        }
    }
}

impl Drop for AtWork<'_> {
    fn drop(&mut self) {
        self.0.lock().busy -= 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A call that is answered alone.
    fn one_call(watch: &Watch) {
        watch.begin();
        drop(watch.end());
    }

    #[test]
    fn one_thread_is_enough_for_one_call_at_a_time() {
        let watch = Watch::default();
        for _ in 0..10 {
            one_call(&watch);
        }
        assert_eq!(watch.lock().enough, 1);
    }

    #[test]
    fn as_many_wait_as_were_busy_lately_and_then_fewer() {
        let watch = Watch::default();
        watch.begin();
        let first = watch.end();
        assert!(first.looks(false));
        first.saw(true);
        watch.begin();
        let second = watch.end();
        drop((first, second));
        // Two may wait at the same time now.
        watch.begin();
        watch.begin();
        for _ in 0..LULL {
            drop(watch.end());
            watch.begin();
        }
        drop(watch.end());
        let state = watch.lock();
        assert_eq!((state.waiting, state.enough), (1, 1));
    }

    #[test]
    fn who_is_woken_for_a_call_of_another_is_not_busy() {
        let watch = Watch::default();
        watch.lock().enough = 2;
        watch.begin();
        for _ in 0..=LULL {
            watch.begin();
            let at_work = watch.end();
            watch.in_vain();
            watch.begin();
            drop(at_work);
        }
        let state = watch.lock();
        assert_eq!((state.waiting, state.enough), (1, 1));
    }

    #[test]
    fn nobody_looks_for_more_while_another_waits() {
        let watch = Watch::default();
        watch.lock().enough = 2;
        watch.begin();
        watch.begin();
        assert!(!watch.end().looks(false));
    }
}
