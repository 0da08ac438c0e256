//! What the caches know of a step: the one in the store, and those elsewhere.

use crate::plan::{Op, Step};
use crate::store::{CachedStep, LayerId};

use super::chain::Chain;
use super::work::{Depth, Work};
use super::{CacheUse, now};

/// Which results of earlier builds count.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CachePolicy {
    /// Whether they count at all.
    pub uses: CacheUse,
    /// The stages, by name or number, in which they do not.
    pub except: Vec<String>,
    /// How old they may be, seconds.
    pub ttl: Option<i64>,
    /// The caches elsewhere whose results count, by what they are called in the store. Those of others are none, though they may be here.
    pub from: Vec<String>,
}

impl Work<'_> {
    /// Returns what the step with the cache key `key` made, if its layer can be had: from the store, or brought from elsewhere. A
    /// [quick](Depth::Quick) look brings only what is in the layer, not its files.
    pub(super) fn hit(&self, step: &Step, key: &str, depth: Depth) -> Option<CachedStep> {
        let policy = &self.options.cache;
        let sees_host = matches!(step.op, Op::Run(_)) && !self.options.around.volumes.is_empty();
        if policy.uses == CacheUse::Ignore || self.is_excepted(step) || sees_host {
            return None;
        }
        let fresh = |hit: &CachedStep| policy.ttl.is_none_or(|ttl| now().saturating_sub(hit.created) <= ttl);
        let counts = |hit: &CachedStep| hit.from.as_ref().is_none_or(|from| policy.from.contains(from)) && fresh(hit);
        if let Some(hit) = self.store.cached(key).filter(|hit| counts(hit) && self.is_there(hit)) {
            return Some(hit);
        }
        let remote = self.remote?;
        let hit = remote.step(key).filter(|hit| fresh(hit))?;
        let here = self.is_there(&hit)
            || remote.bring_index(&hit.layer)
                && self.store.index(&hit.layer).is_ok_and(|index| index.is_some())
                && (depth == Depth::Quick || remote.bring_blob(&hit.layer));
        // Without its layer the record is no hit for anybody, so it may be kept before the blob is there.
        (here && self.store.remember(key, &hit).is_ok()).then_some(hit)
    }

    /// Returns whether it is enough to look up a step by what the layers are called that it reads, and not by what they hold.
    ///
    /// What a cache elsewhere has is good under this one key. Where those layers are here, the other key costs little, and who has the result
    /// from this build finds it by both, as where it was made.
    pub(super) fn is_enough(&self, step: &Step, key: &str, depth: Depth, sources: &[&Chain]) -> bool {
        let is_here =
            |chain: &&Chain| chain.links().iter().all(|link| self.store.has_snapshot(&self.on_disk.realm, &link.id));
        match self.hit(step, key, depth) {
            Some(hit) => hit.from.is_none() || !sources.iter().all(is_here),
            None => false,
        }
    }

    fn is_there(&self, hit: &CachedStep) -> bool {
        // A damaged index is a layer that is not there.
        self.has_files(&hit.layer) && self.store.index(&hit.layer).is_ok_and(|index| index.is_some())
    }

    pub(super) fn has_files(&self, layer: &LayerId) -> bool {
        self.store.has_snapshot(&self.on_disk.realm, layer) || self.store.packed_any(layer).is_some()
    }

    pub(super) fn is_excepted(&self, step: &Step) -> bool {
        let except = &self.options.cache.except;
        !except.is_empty()
            && self.plan.stages.iter().any(|stage| {
                except.iter().any(|name| name.eq_ignore_ascii_case(&stage.name))
                    && stage.steps.iter().any(|other| other.id == step.id)
            })
    }
}
