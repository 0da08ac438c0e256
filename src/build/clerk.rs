//! What is written down of a step that is done, beside the next one.

use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Mutex, PoisonError};

use crate::store::{CachedStep, Store, StoreError};

use super::explain::Record;

/// What is to be known of a step.
pub(super) struct Note {
    /// The cache keys under which it is found.
    pub keys: Vec<String>,
    /// What it made, which is in the store.
    pub step: CachedStep,
    /// Its place in the Dockerfile.
    pub place: String,
    /// Why it was run.
    pub why: Record,
}

/// Writes notes, one after the other.
pub(super) struct Clerk<'a> {
    store: &'a Store,
    failed: Mutex<Option<StoreError>>,
}

/// Where notes are handed in.
#[derive(Clone)]
pub(super) struct Desk<'a> {
    store: &'a Store,
    notes: Sender<Note>,
}

impl<'a> Clerk<'a> {
    pub fn new(store: &'a Store) -> (Self, Desk<'a>, Receiver<Note>) {
        let (notes, receiver) = channel();
        (Clerk { store, failed: Mutex::new(None) }, Desk { store, notes }, receiver)
    }

    /// Writes what comes until the last desk is gone.
    pub fn work(&self, notes: Receiver<Note>) {
        for note in notes {
            if let Err(error) = write(self.store, &note) {
                self.failed.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(error);
            }
        }
    }

    /// Returns the first failure.
    pub fn result(self) -> Result<(), StoreError> {
        self.failed.into_inner().unwrap_or_else(PoisonError::into_inner).map_or(Ok(()), Err)
    }
}

impl Desk<'_> {
    /// Hands `note` in; where there is no clerk, it is written at once.
    pub fn hand_in(&self, note: Note) -> Result<(), StoreError> {
        self.notes.send(note).or_else(|refused| write(self.store, &refused.0))
    }
}

fn write(store: &Store, note: &Note) -> Result<(), StoreError> {
    for key in &note.keys {
        store.remember(key, &note.step)?;
    }
    if let Some(key) = note.keys.last() {
        // It only explains: that it cannot be written is no reason to fail.
        let _ = store.remember_why(&note.place, key, &note.why);
    }
    Ok(())
}
