//! Who waits for the next call. The kernel wakes all who do, one after the other on the processor of the caller: with one process
//! that makes calls, half as much again for every call. So one thread waits, and lets the next one in when more calls are there
//! than it can answer at once. With several processes that make calls it is the other way round: where nobody waits, a call
//! is answered by a thread on another processor, and to get that going takes longer than to answer. So as many wait or
//! answer as were busy at the same time lately.
//!
//! And the two sides of a call take turns on one processor, which is the quickest by far: the thread that waits is woken where the
//! call is made. But a process goes on where its answer came from, and a thread that has just answered one takes the next call
//! from wherever it is made: so in the end all would be on one processor, beside others that are idle, and the kernel moves
//! nothing that ran a moment ago. Hence who makes a call after another one, and is heard on the same processor, goes on where
//! the kernel finds it best.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use rustix::process::Pid;

use crate::sys::notify::Turns;

/// To look whether more calls are there costs a system call. As long as nobody waits, and calls are quick, it is done once in
/// so many.
const SELDOM: u32 = 4;
/// After so many calls for which fewer threads would have done, there is one fewer.
const LULL: u32 = 256;
/// Two threads are at it at the same time where a call of the one comes after one of the other, and that again. Programs that
/// are run one after the other do not do so: who has waited for one goes on, and then come calls of another one.
/// Each such change counts so much, and each call takes one away again.
const CROSSING: u32 = 128;
/// From here on several are at it, until nothing is left.
const SEVERAL: u32 = 200;
/// It is never more than this: so many calls of one thread alone say that it is alone.
const MOST: u32 = 320;

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
    /// Who made calls, each after the one behind: the last one first.
    callers: [Option<Pid>; 3],
    /// The processor on which the last call was heard.
    processor: usize,
    /// How much says that several threads are at it.
    crossings: u32,
    /// Whether several threads make calls at the same time.
    are_several: bool,
}

impl State {
    /// Takes note of the thread that makes a call, and of the processor on which that is heard. Returns how it is woken.
    fn hear(&mut self, caller: Pid, processor: usize) -> Turns {
        self.crossings = self.crossings.saturating_sub(1);
        let is_beside = self.processor == processor;
        self.processor = processor;
        let [last, other, before] = self.callers;
        let caller = Some(caller);
        if caller == last {
            return Turns::Taken;
        }
        if caller == other && last == before {
            self.crossings = (self.crossings + CROSSING).min(MOST);
        }
        self.callers = [caller, last, other];
        if self.are_several && is_beside { Turns::Free } else { Turns::Taken }
    }

    /// Looks whether several threads are at it. Returns whether that has just begun.
    fn judge(&mut self) -> bool {
        let were_several = self.are_several;
        self.are_several = if were_several { self.crossings > 0 } else { self.crossings >= SEVERAL };
        let began = self.are_several && !were_several;
        if began {
            self.enough = self.enough.max(2);
        }
        began
    }
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

    /// This thread waits no more: it has something to do for `caller`, whom it heard on `processor`, until the value is
    /// dropped.
    pub(super) fn end(&self, caller: Pid, processor: usize) -> AtWork<'_> {
        let mut state = self.lock();
        let turns = state.hear(caller, processor);
        let began = state.judge();
        if began {
            self.door.notify_one();
        }
        state.waiting -= 1;
        state.busy += 1;
        if state.busy >= state.enough {
            (state.enough, state.lull) = (state.busy, 0);
        } else {
            state.lull += 1;
            if state.lull > LULL && !(state.are_several && state.enough == 2) {
                (state.enough, state.lull) = (state.enough - 1, 0);
            }
        }
        AtWork { watch: self, turns, began }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A thread that answers a call.
pub(super) struct AtWork<'a> {
    watch: &'a Watch,
    turns: Turns,
    began: bool,
}

impl AtWork<'_> {
    /// Returns how who made the call is woken.
    pub(super) fn turns(&self) -> Turns {
        self.turns
    }

    /// Returns whether this is the call that shows that several threads are at it.
    pub(super) fn takes_two(&self) -> bool {
        self.began
    }

    /// Returns whether it is time to look for more calls; this one is answered at once if it `is_quick`.
    pub(super) fn looks(&self, is_quick: bool) -> bool {
        let mut state = self.watch.lock();
        state.since += 1;
        state.waiting == 0 && (state.since > SELDOM || !is_quick)
    }

    /// Takes note of whether there were more calls.
    pub(super) fn saw(&self, more: bool) {
        let mut state = self.watch.lock();
        if more {
            (state.enough, state.lull, state.since) = (state.busy + 1, 0, SELDOM);
            state.crossings = MOST;
            state.judge();
            self.watch.door.notify_one();
        } else {
            state.since = 0;
        }
    }
}

impl Drop for AtWork<'_> {
    fn drop(&mut self) {
        self.watch.lock().busy -= 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn end(watch: &Watch) -> AtWork<'_> {
        watch.end(Pid::INIT, 0)
    }

    /// A call that is answered alone.
    fn one_call(watch: &Watch) {
        watch.begin();
        drop(end(watch));
    }

    fn pid(number: i32) -> Pid {
        Pid::from_raw(number).expect("not 0")
    }

    /// Whether several are at it is said so often, and changes so, by calls that come from `callers`, one after the other.
    fn changes(watch: &Watch, callers: impl Iterator<Item = i32>) -> Vec<bool> {
        let mut changes = vec![];
        for caller in callers {
            let before = watch.lock().are_several;
            watch.begin();
            drop(watch.end(pid(caller), 0));
            let now = watch.lock().are_several;
            changes.extend((before != now).then_some(now));
        }
        changes
    }

    #[test]
    fn who_makes_calls_in_turn_is_not_alone() {
        let watch = Watch::default();
        let of_shell = |n| if n / 3 % 2 == 0 { 1 } else { 2 + n / 6 };
        assert_eq!(changes(&watch, (0..300).map(of_shell)), [false; 0], "a shell and one program after the other");
        assert_eq!(changes(&watch, (0..300).map(|n| 1 + n / 40 % 2)), [true], "each in its slice of one processor");
        assert_eq!(watch.lock().enough, 2);
        assert_eq!(changes(&watch, (0..400).map(|_| 7)), [false]);
    }

    #[test]
    fn only_who_is_heard_beside_another_one_is_sent_elsewhere() {
        let watch = Watch::default();
        let turns = |caller, processor| {
            watch.begin();
            watch.end(pid(caller), processor).turns()
        };
        assert!([1, 2, 3, 4].map(|caller| turns(caller, 0)).iter().all(|turns| *turns == Turns::Taken), "one by one");
        changes(&watch, (0..300).map(|n| 1 + n % 2));
        assert_eq!(
            [(1, 0), (1, 0), (2, 0)].map(|(caller, at)| turns(caller, at)),
            [Turns::Free, Turns::Taken, Turns::Free]
        );
        assert_eq!([(1, 1), (2, 0), (1, 1)].map(|(caller, at)| turns(caller, at)), [Turns::Taken; 3]);
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
        let first = end(&watch);
        assert!(first.looks(false));
        first.saw(true);
        assert!(watch.lock().are_several);
        watch.begin();
        let second = end(&watch);
        drop((first, second));
        // Two may wait at the same time now.
        watch.begin();
        watch.begin();
        // The call before and the one after belong to it.
        for _ in 0..MOST - 2 {
            drop(end(&watch));
            watch.begin();
        }
        drop(end(&watch));
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
            let at_work = end(&watch);
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
        assert!(!end(&watch).looks(false));
    }
}
