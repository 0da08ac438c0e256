//! Flags of `coracle cache`.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::Age;
use super::limits::Size;

/// Flags of `coracle cache`.
#[derive(Debug, Args)]
pub struct CachesArgs {
    /// What to do.
    #[command(subcommand)]
    pub verb: CacheVerb,
    /// The folder of cache mounts [default: $CORACLE_CACHE_DIR, or in the store]
    #[arg(long, global = true, value_name = "DIR")]
    pub cache_dir: Option<PathBuf>,
}

/// What to do with cache mounts.
#[derive(Debug, Clone, PartialEq, Eq, Subcommand)]
pub enum CacheVerb {
    /// List them
    Ls(CacheLsArgs),
    /// Remove some
    Rm(CacheRmArgs),
    /// Remove those that were not used, or are too many
    Prune(CachePruneArgs),
    /// Write them to a file, a folder or standard output
    Export(CacheExportArgs),
    /// Bring in what was exported
    Import(CacheImportArgs),
}

/// Flags of `coracle cache ls`.
#[derive(Debug, Clone, PartialEq, Eq, Args)]
pub struct CacheLsArgs {
    /// Print a JSON array
    #[arg(long)]
    pub json: bool,
}

/// Flags of `coracle cache rm`.
#[derive(Debug, Clone, PartialEq, Eq, Args)]
pub struct CacheRmArgs {
    /// Ids
    #[arg(value_name = "ID", required_unless_present = "all")]
    pub ids: Vec<String>,
    /// Remove all
    #[arg(long, conflicts_with = "ids")]
    pub all: bool,
}

/// Flags of `coracle cache prune`.
#[derive(Debug, Clone, PartialEq, Eq, Args)]
pub struct CachePruneArgs {
    /// Remove what was not used for so long: 7d, 12h, 30m
    #[arg(long, value_name = "TIME", required_unless_present = "max_size")]
    pub older_than: Option<Age>,
    /// Remove what was not used for longest, until the rest is no larger
    #[arg(long, value_name = "SIZE")]
    pub max_size: Option<Size>,
}

/// Flags of `coracle cache export`.
#[derive(Debug, Clone, PartialEq, Eq, Args)]
#[command(after_help = "\
DESTINATION is a file, a folder (one that is there, or with a slash at its end), or - for standard output.
Where steps are run in another way, they have caches of their own: it is those of this way that are written.")]
pub struct CacheExportArgs {
    /// This one; can be repeated [default: all]
    #[arg(long = "id", value_name = "ID")]
    pub ids: Vec<String>,
    /// Leave out what would make it larger, what was not used for longest first
    #[arg(long, value_name = "SIZE")]
    pub max_size: Option<Size>,
    /// Where to: see below
    pub destination: PathBuf,
}

/// Flags of `coracle cache import`.
#[derive(Debug, Clone, PartialEq, Eq, Args)]
pub struct CacheImportArgs {
    /// This one; can be repeated [default: all]
    #[arg(long = "id", value_name = "ID")]
    pub ids: Vec<String>,
    /// Bytes of one cache, unpacked, at the most
    #[arg(long, value_name = "SIZE", default_value = "16g")]
    pub max_size: Size,
    /// What was exported: a file, a folder, or - for standard input
    pub source: PathBuf,
}
