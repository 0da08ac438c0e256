//! The rooms of coracle that read texts of strangers, by themselves: they need no other room, and so nothing else has to be
//! built for a fuzzer.

#![allow(dead_code, unused_imports, missing_docs)]

#[path = "../../src/source.rs"]
pub mod source;

#[path = "../../src/dockerfile/mod.rs"]
pub mod dockerfile;

#[path = "../../src/tree"]
pub mod tree {
    mod path;
    pub use path::{PathError, TreePath};
}

#[path = "../../src/context"]
pub mod context {
    mod glob;
    mod ignore;
    mod pattern;
    pub use glob::Glob;
    pub use ignore::{IgnoreError, IgnoreRules};
}
