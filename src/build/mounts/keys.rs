//! What a RUN step reads besides its layers, for its cache key.

use rustix::fs::stat;

use crate::plan::{self, CacheKey, CopyFrom};

use super::{gather, sources};
use crate::build::BuildError;
use crate::build::chain::{Chain, step_key};
use crate::build::given::Access;
use crate::build::work::{Depth, Work};

/// Returns the stages that the mounts of `run` read.
pub(in crate::build) fn stages(run: &plan::Run) -> impl Iterator<Item = usize> {
    sources(run).filter_map(|(from, _)| match from {
        CopyFrom::Stage(at) => Some(*at),
        _ => None,
    })
}

impl Work<'_> {
    /// Returns the keys of a RUN step: one for which no layer need be looked at, and where that misses and another one is possible, one
    /// by what is in the files.
    pub fn run_keys(
        &self,
        (step, run): (&plan::Step, &plan::Run),
        below: &Chain,
        definition: &CacheKey,
        depth: Depth,
    ) -> Result<Vec<CacheKey>, BuildError> {
        let around = self.around_key(run);
        let mut quick: Vec<(&str, Vec<u8>)> = around.clone();
        let mut stacks = Vec::new();
        for (from, source) in sources(run) {
            match self.source_chain(from)? {
                None => quick.push(("content", self.gathered(from, source)?.digest().to_vec())),
                Some(chain) => {
                    quick.push(("layers", chain.identity().0.to_vec()));
                    stacks.push(chain);
                }
            }
        }
        let key = |parts: &[(&str, Vec<u8>)]| {
            let parts: Vec<(&str, &[u8])> = parts.iter().map(|(tag, bytes)| (*tag, bytes.as_slice())).collect();
            step_key(below, definition, &parts)
        };
        let mut keys = vec![key(&quick)];
        let stacks: Vec<&Chain> = stacks.iter().collect();
        let is_enough = || self.is_enough(step, &keys[0].to_string(), depth, &stacks);
        if !stacks.is_empty() && depth == Depth::Full && !is_enough() {
            let mut full = around;
            for (from, source) in sources(run) {
                full.push(("content", self.content(from, source)?.to_vec()));
            }
            keys.push(key(&full));
        }
        Ok(keys)
    }

    /// Returns the digest of what a mount reads.
    pub fn content(&self, from: &CopyFrom, source: &str) -> Result<[u8; 32], BuildError> {
        Ok(match self.source_chain(from)? {
            None => self.gathered(from, source)?.digest(),
            Some(chain) => gather(&self.view(&chain)?, source, self.control)?.digest(),
        })
    }

    /// What flags of the build change in what a step can find out.
    fn around_key(&self, run: &plan::Run) -> Vec<(&'static str, Vec<u8>)> {
        let mut parts = Vec::new();
        // That of the instruction is in its definition.
        if run.network == plan::Network::Default && self.access(run) == Access::None {
            parts.push(("network", b"none".to_vec()));
        }
        let volumes: String = self.options.around.volumes.iter().map(|volume| format!("{}\n", volume.target)).collect();
        if !volumes.is_empty() {
            // What is in them may change at any time, so nothing is ever found under this key; but nor do others find it.
            parts.push(("volumes", volumes.into_bytes()));
        }
        let hosts = self.options.around.hosts.iter().map(|(name, address)| format!("{name}={address}\n"));
        let hosts: String = hosts.collect();
        if !hosts.is_empty() {
            parts.push(("hosts", hosts.into_bytes()));
        }
        parts
    }

    /// Checks that cache mounts can be moved into the working trees of the store.
    pub fn check_cache_disk(&self) -> Result<(), BuildError> {
        let dir = self.cache_mounts().root().to_path_buf();
        std::fs::create_dir_all(&dir).map_err(|source| BuildError::io("create", &dir, source))?;
        let disk = |path: &std::path::Path| {
            stat(path).map(|stat| stat.st_dev).map_err(|errno| BuildError::io("stat", path, errno.into()))
        };
        if disk(&dir)? != disk(&self.store.tmp())? {
            return Err(BuildError::CacheElsewhere { dir });
        }
        Ok(())
    }
}
