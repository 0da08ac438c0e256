//! Layers of the image that are packed go out while later steps still run.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Mutex, PoisonError};

use crate::plan::Base;
use crate::store::Packed;

use super::work::Work;

/// Is told of each layer of the image that is in the store as the blob that goes out, while steps still run; called from threads of its
/// own, and may take long. What it was not told of when the last step ends, it is not told of any more.
pub type Ship<'a> = &'a (dyn Fn(LayerOf, &Packed) + Sync);

/// Where a layer of an image is from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LayerOf {
    /// From its base.
    Base,
    /// From a step.
    Step,
}

/// How many layers go out at the same time.
pub(super) const LINES: usize = 2;

/// The end at which layers are handed in.
pub(super) type Quay = Sender<(LayerOf, Packed)>;

/// Layers that wait to go out.
pub(super) struct Line {
    queue: Mutex<Receiver<(LayerOf, Packed)>>,
    over: AtomicBool,
}

impl Line {
    pub fn new() -> (Quay, Self) {
        let (sender, receiver) = channel();
        (sender, Line { queue: Mutex::new(receiver), over: AtomicBool::new(false) })
    }

    /// Lets layers go out until no more can come.
    pub fn work(&self, work: &Work<'_>, ship: Ship<'_>) {
        loop {
            let next = self.queue.lock().unwrap_or_else(PoisonError::into_inner).recv();
            let Ok((whose, packed)) = next else { break };
            if !self.over.load(Ordering::Relaxed) && !work.control.cancelled() {
                ship(whose, &packed);
            }
        }
    }

    /// Says that the last step has ended: what waits is for others.
    pub fn end(&self) {
        self.over.store(true, Ordering::Relaxed);
    }
}

/// Returns the layers of the bases of these stages that are in the store as they are.
pub(super) fn of_bases(work: &Work<'_>, stages: &[usize]) -> Vec<Packed> {
    let mut found: Vec<Packed> = Vec::new();
    for &at in stages {
        let base = &work.plan.stages[at].base;
        if !matches!(base, Base::Image(_)) {
            continue;
        }
        let Ok(progress) = work.base(base) else { continue };
        for packed in progress.chain.links().iter().filter_map(|link| link.origin.as_ref()) {
            if !found.contains(packed) && work.store.blob_size(&packed.digest) == Some(packed.size) {
                found.push(packed.clone());
            }
        }
    }
    found
}
