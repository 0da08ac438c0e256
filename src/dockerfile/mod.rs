//! Text → instructions: the language of a Dockerfile, as BuildKit reads it.
//!
//! This room reads no file, asks no network and fetches no frontend. It finds every error of a file, not the first; it
//! knows what an instruction says, but not what it means: variables, stage names and paths are resolved by
//! [`plan`](crate::plan). Words keep their quotes and variables until [`expand`].

mod ast;
mod command;
mod directives;
mod duration;
mod heredoc;
mod instruction;
mod lines;
mod parse;
mod pattern;
mod split;
pub(crate) mod suggest;
mod word;

pub use ast::{
    AddFlags, Arg, CommandLine, Copy, CopySource, Directives, Dockerfile, Healthcheck, Heredoc, Instruction, OnBuild,
    Pair, Run, Spanned, Stage, Word,
};
pub(crate) use heredoc::is_opening;
pub use parse::{parse, parse_trigger};
pub use word::{ExpandError, LONGEST_HEREDOC, LONGEST_WORD, expand, expand_heredoc, expand_words};

#[cfg(test)]
mod round_trip_tests;
#[cfg(test)]
mod tests;
