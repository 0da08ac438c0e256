use clap::Args;

/// Flags of `coracle build` that tell of a build, or do something else in its place.
#[derive(Debug, Args)]
#[command(next_help_heading = "Ask before or after")]
pub struct CallArgs {
    /// Say of each step that is not in the cache what changed
    #[arg(long)]
    pub explain: bool,
}
