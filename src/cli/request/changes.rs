use super::UsageError;
use crate::build::{Recorded, Squash, Times};
use crate::cli::args::{ChangeArgs, OutputSpec, Timestamp};
use crate::cli::environment::Environment;

/// What the image says about itself besides what its Dockerfile says.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Changes {
    /// Labels to add, in order.
    pub labels: Vec<(String, String)>,
    /// Variables to set in the image, in order; `$NAME` in a value is that of the image.
    pub env: Vec<(String, String)>,
    /// Variables that the image does not have.
    pub unset_env: Vec<String>,
    /// Labels that it does not have.
    pub unset_labels: Vec<String>,
    /// Annotations that its manifest does not have.
    pub unset_annotations: Vec<String>,
    /// Whether the labels of bases are dropped.
    pub drops_labels: bool,
    /// Whether the annotations of its base are in its manifest.
    pub inherits_annotations: bool,
    /// Which layers become one.
    pub squash: Squash,
    /// Whether its history is in it.
    pub recorded: Recorded,
    /// The version of the operating system that it says; `None` for that of the base.
    pub os_version: Option<String>,
    /// The list of the store that it is added to.
    pub list: Option<String>,
}

impl Changes {
    pub(super) fn new(
        args: ChangeArgs,
        (labels, os_version): (Vec<(String, String)>, Option<String>),
        environment: &Environment,
    ) -> Result<Self, UsageError> {
        if let Some((flag, instead)) = args.so_anyway.refused() {
            return Err(UsageError::NotOtherwise { flag, instead });
        }
        Ok(Changes {
            os_version,
            list: args.manifest,
            labels,
            env: environment.fill(args.env)?,
            unset_env: args.unset_env,
            unset_labels: args.unset_labels,
            unset_annotations: args.unset_annotations,
            drops_labels: args.inherit_labels == Some(false),
            inherits_annotations: args.inherit_annotations == Some(true),
            squash: match (args.squash_all, args.squash) {
                (true, _) => Squash::All,
                (_, true) => Squash::Own,
                _ => Squash::No,
            },
            recorded: if args.omit_history { Recorded::No } else { Recorded::History },
        })
    }
}

/// Which times the image gets, what was said of files, and what SOURCE_DATE_EPOCH is for the Dockerfile.
pub(super) struct TimesMeant {
    pub times: Times,
    pub rewrite: Option<bool>,
    pub epoch: Option<i64>,
}

/// Returns what times are meant by flags, outputs and the variable; the flags count more.
pub(super) fn times(
    args: &ChangeArgs,
    timestamp: Option<Timestamp>,
    outputs: &[OutputSpec],
    environment: &Environment,
) -> Result<TimesMeant, UsageError> {
    let mut rewrite = args.rewrite_timestamp;
    for wanted in outputs.iter().filter_map(OutputSpec::rewrites_times) {
        if rewrite.is_some_and(|rewrite| rewrite != wanted) {
            return Err(UsageError::TwoRewrites);
        }
        rewrite = Some(wanted);
    }
    // A bad variable is said in any case: it would come up another day.
    let of_variable = environment.source_date_epoch()?;
    let epoch = args.source_date_epoch.or(of_variable).map(|Timestamp(seconds)| seconds);
    let times = match (timestamp, epoch) {
        (Some(_), _) if rewrite == Some(false) => return Err(UsageError::TimestampIsForFiles),
        (Some(Timestamp(seconds)), _) => Times::Set(seconds),
        (None, Some(seconds)) if rewrite == Some(false) => Times::Image(seconds),
        (None, Some(seconds)) => Times::Clamp(seconds),
        (None, None) => Times::Keep,
    };
    Ok(TimesMeant { times, rewrite, epoch })
}
