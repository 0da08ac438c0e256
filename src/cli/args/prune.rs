use clap::Args;

use super::images::Filter;
use super::limits::Size;

/// Flags of `coracle prune`.
#[derive(Debug, Args)]
#[command(after_help = "\
Images with a name and what they are made of never go, nor what a running build uses. Of the cache, what was
not used for the longest time goes first.

Filters: until=TIME or until=DURATION, label=KEY[=VALUE], label!=KEY[=VALUE], dangling=true

Examples:
  coracle prune                                 what nothing leads to
  coracle prune --keep-for 7d                   and what no build has used for a week
  coracle prune --max-size 10g --keep-for 1d    down to 10 GiB, but not what was used today
  coracle prune --all                           the whole cache")]
pub struct PruneArgs {
    /// Remove the build cache too: the next build runs every step
    #[arg(short, long)]
    pub all: bool,
    /// Remove of the cache until the store has at most SIZE: 10g
    #[arg(long, value_name = "SIZE", alias = "keep-storage", alias = "max-used-space")]
    pub max_size: Option<Size>,
    /// Keep what was used within this time, and of the cache nothing else: 7d, 12h
    #[arg(long, value_name = "DURATION")]
    pub keep_for: Option<String>,
    /// Choose what goes: see below; can be repeated
    #[arg(long, value_name = "KEY=VALUE")]
    pub filter: Vec<Filter>,
    /// Say what would go, and remove nothing
    #[arg(long)]
    pub dry_run: bool,
    /// Print a JSON object
    #[arg(long)]
    pub json: bool,
    /// Do not ask: so it is in any case
    #[arg(short, long, hide = true)]
    pub force: bool,
}
