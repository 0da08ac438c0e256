//! Instructions → steps: what a Dockerfile means.
//!
//! This room reads no file, asks no network, clock or environment: what it must know of the world (the base images, the
//! build arguments, the platforms) it is given. [`Graph`] finds the stages that a target needs and the images that they
//! stand on; [`Graph::lower`] makes the [`Plan`], in which no variable, stage name or relative path is left.

pub mod check;
mod chmod;
mod config;
mod copy;
mod env;
mod expose;
mod globals;
mod gostring;
mod graph;
mod health;
mod join;
mod key;
mod lower;
mod magic;
mod mount;
mod names;
mod path;
mod pins;
mod print;
mod reach;
mod run;
mod scan;
mod signal;
mod stage;
mod step;
mod triggers;

pub use chmod::{Chmod, SymbolicMode};
pub use graph::{BaseLabels, ContextKind, Graph, GraphOptions, ImageUse};
pub use join::join;
pub use key::{CacheKey, Component, FORMAT_VERSION, KeyBuilder, components, definition, short_digest};
pub use pins::{Fetch, Pins, PinsError};
pub use scan::{ScanContext, Scanner};
pub use step::*;

#[cfg(test)]
mod tests;
