use std::path::PathBuf;
use std::time::Duration;

use super::UsageError;
use crate::cli::args::{Filter, PruneArgs};
use crate::cli::text;
use crate::store::{Act, Keep, LabelIs, PruneOptions};

/// `coracle prune`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PruneRequest {
    /// The folder of the store.
    pub root: PathBuf,
    /// What goes and what stays.
    pub options: PruneOptions,
    /// Whether to print JSON.
    pub json: bool,
}

impl PruneRequest {
    pub(super) fn new(args: PruneArgs, root: PathBuf) -> Result<Self, UsageError> {
        let wrong =
            |what: &str, value: &str, why| UsageError::BadFilter { what: what.into(), value: value.into(), why };
        let duration = |what: &str, value: &str| {
            text::span(value).ok_or_else(|| wrong(what, value, "it is a duration: 90s, 24h, 7d"))
        };
        let mut keep_for = args.keep_for.as_deref().map(|value| duration("--keep-for", value)).transpose()?;
        let (mut labels, mut keep) = (Vec::new(), if args.all { Keep::Named } else { Keep::Cache });
        for Filter { key, value, negated } in args.filter {
            match (key.as_str(), negated) {
                ("until", false) => {
                    let now = jiff::Timestamp::now();
                    let when = text::moment(&value, now)
                        .ok_or_else(|| wrong("the filter until", &value, "it is a time, or a duration as 24h"))?;
                    let seconds = now.as_second().saturating_sub(when.as_second());
                    let span = Duration::from_secs(u64::try_from(seconds).unwrap_or(0));
                    keep_for = Some(keep_for.map_or(span, |other: Duration| other.max(span)));
                }
                ("label", negated) => {
                    let (key, value) = value.split_once('=').map_or((value.as_str(), None), |(k, v)| (k, Some(v)));
                    labels.push(LabelIs { key: key.into(), value: value.map(str::to_owned), wanted: !negated });
                }
                ("dangling", false) => match value.as_str() {
                    "true" | "1" => {}
                    "false" | "0" => keep = Keep::Named,
                    _ => return Err(wrong("the filter dangling", &value, "it is true or false")),
                },
                _ => return Err(wrong("the filter", &key, "there are until, label and dangling")),
            }
        }
        let act = if args.dry_run { Act::Look } else { Act::Remove };
        let options = PruneOptions { keep, max_size: args.max_size.map(|size| size.0), keep_for, labels, act };
        Ok(PruneRequest { root, options, json: args.json })
    }
}

/// `coracle df`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DfRequest {
    /// The folder of the store.
    pub root: PathBuf,
    /// Whether to print JSON.
    pub json: bool,
}
