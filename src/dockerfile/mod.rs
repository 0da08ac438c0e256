//! Text → instructions: the language of a Dockerfile, as BuildKit reads it.
//!
//! This room reads no file, asks no network and fetches no frontend. It finds every error of a file, not the first; it
//! knows what an instruction says, but not what it means: variables, stage names and paths are resolved by
//! [`plan`](crate::plan). Words keep their quotes and variables until [`expand`].

mod ast;
mod command;
mod directives;
mod heredoc;
mod instruction;
mod lines;
mod parse;
mod pattern;
mod split;
pub(crate) mod suggest;
mod word;

pub use ast::{Arg, CommandLine, Copy, Directives, Dockerfile, Instruction, Pair, Spanned, Stage, Word};
pub use parse::parse;
pub use word::{ExpandError, LONGEST_WORD, expand, expand_words};

#[cfg(test)]
mod tests;
