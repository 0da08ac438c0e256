//! Flags that change what the image says about itself, and how its layers and times are written.

use clap::Args;
use clap::builder::NonEmptyStringValueParser;

use super::{Assignment, Timestamp};

/// Flags of `coracle build` about the image that comes out, besides what the Dockerfile says.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "The image")]
pub struct ChangeArgs {
    /// Set a variable of the image alone: steps do not see it; can be repeated
    #[arg(long, value_name = "NAME[=VALUE]")]
    pub env: Vec<Assignment>,
    /// Take a variable out of the image; can be repeated
    #[arg(long = "unsetenv", value_name = "NAME", value_parser = NonEmptyStringValueParser::new())]
    pub unset_env: Vec<String>,
    /// Take a label out of the image; can be repeated
    #[arg(long = "unsetlabel", value_name = "NAME", value_parser = NonEmptyStringValueParser::new())]
    pub unset_labels: Vec<String>,
    /// Take an annotation out of the manifest; can be repeated
    #[arg(long = "unsetannotation", value_name = "KEY", value_parser = NonEmptyStringValueParser::new())]
    pub unset_annotations: Vec<String>,
    /// Have the labels of base images and stages [default: true]
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", value_name = "BOOL", hide_possible_values = true)]
    pub inherit_labels: Option<bool>,
    /// Have the annotations of the base image [default: false]
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", value_name = "BOOL", hide_possible_values = true)]
    pub inherit_annotations: Option<bool>,
    /// Leave the history out of the image
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", default_value = "false", hide_default_value = true, value_name = "BOOL", hide_possible_values = true)]
    pub omit_history: bool,
    /// SOURCE_DATE_EPOCH: the latest time of a file and of the image
    #[arg(long, value_name = "SECONDS", conflicts_with = "timestamp")]
    pub source_date_epoch: Option<Timestamp>,
    /// false: SOURCE_DATE_EPOCH is for the image alone, not for files
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", value_name = "BOOL", hide_possible_values = true)]
    pub rewrite_timestamp: Option<bool>,
    /// Make one layer of those that the build adds
    #[arg(long, alias = "single-snapshot", num_args = 0..=1, require_equals = true, default_missing_value = "true", default_value = "false", hide_default_value = true, value_name = "BOOL", hide_possible_values = true)]
    pub squash: bool,
    /// Make one layer of all, the base image's too
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", default_value = "false", hide_default_value = true, value_name = "BOOL", hide_possible_values = true)]
    pub squash_all: bool,
    /// Add the image to this list of the store, in place of one for its platform
    #[arg(long, value_name = "NAME", value_parser = NonEmptyStringValueParser::new())]
    pub manifest: Option<String>,
    /// Write the image's id to FILE, hexadecimal digits alone
    #[arg(long, value_name = "FILE", hide = true)]
    pub iidfile_raw: Option<std::path::PathBuf>,
    /// So it is in any case.
    #[command(flatten)]
    pub so_anyway: AnywayArgs,
}

/// Flags that say what is so in any case; what they would change cannot be had.
#[derive(Debug, Clone, Default, Args)]
pub struct AnywayArgs {
    /// Keep the results of steps: so it is
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", value_name = "BOOL", hide = true)]
    layers: Option<bool>,
    /// Leave nothing of the steps: so it is
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", value_name = "BOOL", hide = true)]
    rm: Option<bool>,
    /// Leave nothing of steps that fail: so it is
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", value_name = "BOOL", hide = true)]
    force_rm: Option<bool>,
}

impl AnywayArgs {
    /// Returns the first flag that says what cannot be had, and what to do.
    pub fn refused(&self) -> Option<(&'static str, &'static str)> {
        if self.layers == Some(false) {
            return Some(("--layers=false", "--squash makes one layer of the build's, --no-cache runs all steps"));
        }
        if self.rm == Some(false) {
            return Some(("--rm=false", "there are no containers to keep; --on-failure keeps the files of a step"));
        }
        None
    }
}
