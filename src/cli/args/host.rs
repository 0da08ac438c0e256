use std::ffi::OsString;

use clap::Args;

/// Flags of `coracle info`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  coracle info                                    for people
  coracle info --format '{{.store.root}}'         one field: the fields are those of --json

`doctor` says what this machine allows, and how to get more; `df` what takes how much of the disk.")]
pub struct InfoArgs {
    /// Print a JSON object
    #[arg(long, conflicts_with = "format")]
    pub json: bool,
    /// Print what this template makes of it
    #[arg(short, long, value_name = "TEMPLATE")]
    pub format: Option<String>,
}

/// Flags of `coracle unshare`.
#[derive(Debug, Args)]
#[command(
    override_usage = "coracle unshare [OPTIONS] [COMMAND [ARGUMENT]...]",
    after_help = "\
Examples:
  coracle unshare ls -ln layers         see the files of a build by the ids that they have in it
  coracle unshare rm -rf DIR            remove files that belong to your subordinate ids
  coracle unshare                       a shell

The command is root in a user namespace with the ids that a full map has, and has mounts of its own. Without
subordinate ids it has one id. Its exit status is coracle's; 127 where there is no such command."
)]
pub struct UnshareArgs {
    /// The command and its arguments [default: $SHELL, or /bin/sh]
    #[arg(value_name = "COMMAND", num_args = 0.., trailing_var_arg = true, allow_hyphen_values = true)]
    pub command: Vec<OsString>,
}
