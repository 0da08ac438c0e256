//! A push that begins while later steps of the build still run: blobs only. Manifests and names come when all is done, and what did not
//! work is tried again then.

use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, OnceLock, PoisonError};

use super::registry::repositories;
use super::request::BuildRequest;
use crate::build::LayerOf;
use crate::oci::{Digest, Reference, media_type};
use crate::output::remote::push_layer;
use crate::progress::{Event, Sink};
use crate::registry::{Client, PushOptions, Repository};
use crate::store::{Packed, Store};

/// Sends layers to the registries that the image will go to.
pub(super) struct EarlyPush<'a> {
    store: &'a Store,
    client: &'a Client,
    /// Layers of bases that will be other ones in the end are not sent.
    with_bases: bool,
    targets: Vec<Target>,
}

/// A repository; opened when the first layer goes there.
struct Target {
    name: Reference,
    repository: OnceLock<Option<Repository>>,
    elsewhere: OnceLock<std::collections::HashMap<Digest, Vec<String>>>,
    /// Something went wrong: the push at the end will say what.
    failed: AtomicBool,
    opening: Mutex<()>,
    /// What somebody has sent, or is sending: two images may have a layer in common that both have got just now.
    taken: Mutex<HashSet<Digest>>,
}

impl<'a> EarlyPush<'a> {
    /// Returns what sends layers to `names`; `None` where there are none.
    pub fn new(request: &BuildRequest, names: &[Reference], client: &'a Client, store: &'a Store) -> Option<Self> {
        let mut targets: Vec<Target> = Vec::new();
        for name in names {
            if targets.iter().all(|target| target.name.name() != name.name()) {
                targets.push(Target {
                    name: name.clone(),
                    repository: OnceLock::new(),
                    elsewhere: OnceLock::new(),
                    failed: AtomicBool::new(false),
                    opening: Mutex::new(()),
                    taken: Mutex::default(),
                });
            }
        }
        let with_bases = request.look.forced != Some(true);
        (!targets.is_empty()).then_some(EarlyPush { store, client, with_bases, targets })
    }

    /// Sends a layer.
    pub fn send(&self, whose: LayerOf, packed: &Packed) {
        if whose == LayerOf::Base && !self.with_bases || media_type::is_foreign(&packed.media_type) {
            return;
        }
        for target in self.targets.iter().filter(|target| !target.failed.load(Ordering::Relaxed)) {
            if target.send(packed, self.client, self.store).is_none() {
                target.failed.store(true, Ordering::Relaxed);
            }
        }
    }
}

impl Target {
    /// Sends a layer; `None` where that did not work.
    fn send(&self, packed: &Packed, client: &Client, store: &Store) -> Option<()> {
        if !self.taken.lock().unwrap_or_else(PoisonError::into_inner).insert(packed.digest) {
            return Some(());
        }
        let repository = {
            let _one = self.opening.lock().unwrap_or_else(PoisonError::into_inner);
            let open = || client.target(&self.name).ok().map(|(repository, _)| repository.without_retries());
            self.repository.get_or_init(open).as_ref()?
        };
        let elsewhere = |digest: &Digest| {
            let known = self.elsewhere.get_or_init(|| repositories(store, &self.name));
            known.get(digest).cloned().unwrap_or_default()
        };
        let options = PushOptions { elsewhere: &elsewhere, parallel: 1, ..PushOptions::default() };
        push_layer(packed, store, repository, options, &Nobody).ok()
    }
}

/// What becomes of these layers is told by the push at the end.
struct Nobody;

impl Sink for Nobody {
    fn emit(&self, _event: Event) {}
}
