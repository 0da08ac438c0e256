//! What is written down of a step that is done, beside the next one.

use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Mutex, PoisonError};

use crate::plan::Step;
use crate::store::{CachedStep, StoreError};

use super::chain::Chain;
use super::work::Work;

/// What is to be known of a step.
pub(super) struct Note<'b> {
    pub step: &'b Step,
    /// The layers on which it was carried out.
    pub below: Chain,
    /// The cache keys under which it is found.
    pub keys: Vec<String>,
    /// What it made, which is in the store.
    pub done: CachedStep,
}

/// Writes notes, one after the other, and keeps the place tidy in which layers are made.
pub(super) struct Clerk<'a, 'b> {
    work: &'a Work<'b>,
    failed: Mutex<Option<StoreError>>,
}

/// Where notes are handed in.
#[derive(Clone)]
pub(super) struct Desk<'b> {
    notes: Sender<Note<'b>>,
}

impl<'a, 'b> Clerk<'a, 'b> {
    pub fn new(work: &'a Work<'b>) -> (Self, Desk<'b>, Receiver<Note<'b>>) {
        let (notes, receiver) = channel();
        (Clerk { work, failed: Mutex::new(None) }, Desk { notes }, receiver)
    }

    /// Writes what comes until the last desk is gone.
    pub fn work(&self, notes: Receiver<Note<'b>>) {
        for note in notes {
            if let Err(error) = write(self.work, &note) {
                self.failed.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(error);
            }
            // Time for it is here, beside the steps. The next one has begun, so it is the one after that which can do with a layer.
            self.work.store.sweep_workshop();
            if self.work.layers_after(note.step) >= 2 {
                self.work.store.prepare_ahead();
            }
        }
    }

    /// Returns the first failure.
    pub fn result(self) -> Result<(), StoreError> {
        self.failed.into_inner().unwrap_or_else(PoisonError::into_inner).map_or(Ok(()), Err)
    }
}

impl<'b> Desk<'b> {
    /// Hands `note` in; where there is no clerk, it is written at once.
    pub fn hand_in(&self, work: &Work<'b>, note: Note<'b>) -> Result<(), StoreError> {
        self.notes.send(note).or_else(|refused| write(work, &refused.0))
    }
}

fn write(work: &Work<'_>, note: &Note<'_>) -> Result<(), StoreError> {
    for key in &note.keys {
        work.store.remember(key, &note.done)?;
    }
    if let Some(key) = note.keys.last() {
        let why = work.record(note.step, &note.below, &note.keys);
        // It only explains: that it cannot be written is no reason to fail.
        let _ = work.store.remember_why(&work.place_of(note.step), key, &why);
    }
    Ok(())
}
