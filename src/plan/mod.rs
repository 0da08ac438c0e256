//! instructions → steps
mod step;
pub use step::*;
/// placeholder
#[derive(Debug)]
pub struct Graph;
