//! coracle builds container images without a daemon, without root, and without asking the administrator for anything.
//!
//! The rooms, from the ground up; imports go down only, and `tests/architecture.rs` holds the table:
//!
//! | floor | rooms |
//! | --- | --- |
//! | 0 | [`source`] text with places · [`progress`] what happens, as values · [`oci`] nouns of the specifications · [`tree`] what a file in an image is · [`address`] what lies elsewhere · [`net`] HTTP |
//! | 1 | [`dockerfile`] text → instructions · [`plan`] instructions → steps; both pure |
//! | 2 | [`config`] the user's files about registries · [`context`] what COPY reads · [`fetch`] files and repositories from elsewhere · [`store`] content on disk · [`layer`] tree ⇄ tar · [`registry`] images in registries |
//! | 3 | [`input`] contexts from anywhere · [`build`] runs a plan · [`output`] images in and out |
//! | 4 | [`cli`] flags, words and exit codes |
//!
//! `coracle_runtime`, a crate of its own, holds what talks to the kernel about isolation: id maps, mounts, processes.

pub mod address;
pub mod net;
pub mod oci;
pub mod progress;
pub mod source;
pub mod tree;

pub mod dockerfile;
pub mod plan;

pub mod config;
pub mod context;
pub mod fetch;
pub mod layer;
pub mod registry;
pub mod store;

pub mod build;
pub mod input;
pub mod output;

pub mod cli;
