//! Runs a plan: looks up each step in the cache, carries out what is missing, and makes the image.
//!
//! This room is the only one that holds store, layer and runtime in one hand. It does not parse, print, or read the
//! user's files.
//!
//! A build has two halves. First all steps are looked up in the cache, as an ordinary process; if everything is there, the image
//! is put together from blobs, and that is all. Else this process enters its user namespace, and the stages run, each
//! in a thread of its own. Where no step can be run, that is said before anything is done, if one would have to be.

mod assemble;
mod caches;
mod chain;
mod clerk;
mod copy;
mod cover;
mod error;
mod execute;
mod explain;
mod failure;
mod foreign;
mod given;
mod guard;
mod hit;
mod in_place;
mod inputs;
mod journal;
mod lacking;
mod mounts;
mod pack;
mod preview;
mod relocate;
mod replay;
mod run;
mod run_step;
mod running;
mod schedule;
mod ship;
mod spared;
mod squash;
mod ssh;
mod stubs;
mod unpack;
mod users;
mod utf8;
mod warnings;
mod watch;
mod work;
mod worktree;

pub use copy::{CopyError, Fetched, OtherTree};
pub use error::BuildError;
pub use failure::{OnFailure, Terminal};
pub use foreign::emulated;
pub use given::{Access, Around, Given, HostsFile, Resolver, Secret, Volume};
pub use hit::CachePolicy;
pub use inputs::{Inputs, Remote};
pub use journal::{Journal, Made, Reach};
pub use pack::Times;
pub use preview::{StagePreview, StepPreview, StepState};
pub use run::{Command, not_started};
pub use schedule::{Builder, Built, Isolation, obstacle};
pub use ship::{LayerOf, Ship};
pub use squash::Squash;
pub use ssh::{Agent, KeyError, Keys};
pub use users::{User, UserError, lookup_owner, lookup_user};

use coracle_runtime::container::Limits;

use crate::layer::Compression;

/// Layers that overlayfs stacks at the most, less the one for mount points and the one that is written.
pub const MAX_LAYERS: usize = 498;

/// How a plan is carried out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BuildOptions {
    /// Which results of earlier builds are used. New ones are remembered in any case.
    pub cache: CachePolicy,
    /// Whether it is said why a step is not in the cache.
    pub explain: Explain,
    /// Steps that run at the same time at the most.
    pub jobs: usize,
    /// How the image is made of what the steps made.
    pub making: Making,
    /// What each RUN step may use. They are no part of any cache key.
    pub limits: Limits,
    /// What is around each RUN step, where its instruction does not say otherwise.
    pub around: Around,
    /// What the user gives to RUN steps.
    pub given: Given,
}

/// How an image is made of what the steps made. None of it is a part of any cache key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Making {
    /// How its layers are compressed.
    pub compression: Compression,
    /// What becomes of the times in the layers and the history.
    pub times: Times,
    /// Which layers become one.
    pub squash: Squash,
    /// Whether its history is in it.
    pub recorded: Recorded,
}

/// Whether the history of an image is in it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Recorded {
    /// Yes: how each layer came to be.
    #[default]
    History,
    /// No.
    No,
}

/// Whether results of earlier builds are used.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum CacheUse {
    /// Where they fit.
    #[default]
    Use,
    /// Not at all.
    Ignore,
}

/// Whether it is said why a step is not in the cache.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Explain {
    /// No, and nothing is read for it.
    #[default]
    No,
    /// Yes.
    Misses,
}

/// Seconds since 1970.
fn now() -> i64 {
    rustix::time::clock_gettime(rustix::time::ClockId::Realtime).tv_sec
}
