//! What the command line changes in the configuration of an image, and in its times: all that leaves no trace in the history.

use std::collections::BTreeMap;

use super::args::Timestamp;
use super::request::{BuildRequest, Changes, UsageError};
use crate::build::Times;
use crate::oci::ExecConfig;
use crate::plan::{Base, Plan};
use crate::progress::{Event, Sink};
use crate::store::Image;

/// Changes what the plan makes: steps see none of it.
pub(super) fn apply(plan: &mut Plan, changes: &Changes) {
    for target in plan.targets().collect::<Vec<_>>() {
        let whole = plan.stages[target].config.as_mut().expect("a target has a configuration");
        if let Some(version) = &changes.os_version {
            whole.other.insert("os.version".into(), version.as_str().into());
        }
        let config = &mut whole.config;
        config.labels.extend(changes.labels.iter().cloned());
        config.labels.retain(|name, _| !changes.unset_labels.contains(name));
        for (name, value) in &changes.env {
            let value = expanded(value, config);
            config.set_env(name, &value);
        }
        config.env.retain(|entry| {
            let name = entry.split_once('=').map_or(entry.as_str(), |(name, _)| name);
            !changes.unset_env.iter().any(|unset| unset == name)
        });
    }
}

/// Returns `text` with the variables of the image for `$NAME` and `${NAME}`; what is none of these stays.
fn expanded(text: &str, config: &ExecConfig) -> String {
    let is_part = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let (mut done, mut rest) = (String::new(), text);
    while let Some(at) = rest.find('$') {
        done.push_str(&rest[..at]);
        let behind = &rest[at + 1..];
        let (name, after) = match behind.strip_prefix('{').and_then(|inner| inner.split_once('}')) {
            Some((name, after)) => (name, after),
            None => behind.split_at(behind.find(|c| !is_part(c)).unwrap_or(behind.len())),
        };
        if name.is_empty() || !name.chars().all(is_part) {
            done.push('$');
            rest = behind;
            continue;
        }
        done.push_str(config.env_value(name).unwrap_or_default());
        rest = after;
    }
    done + rest
}

/// Returns which times the image gets: `epoch` is what the Dockerfile or a build argument says, and `--timestamp` counts more.
pub(super) fn times(request: &BuildRequest, epoch: Option<&str>, sink: &dyn Sink) -> Result<Times, UsageError> {
    let times = match (request.times, epoch) {
        (wanted @ Times::Set(_), _) | (wanted, None) => wanted,
        (_, Some(text)) => match Timestamp::from_seconds(text) {
            Some(Timestamp(seconds)) if request.rewrite_times == Some(false) => Times::Image(seconds),
            Some(Timestamp(seconds)) => Times::Clamp(seconds),
            None => return Err(UsageError::BadEpoch { value: text.into() }),
        },
    };
    if times == Times::Keep && request.rewrite_times == Some(true) {
        let message = "there is no SOURCE_DATE_EPOCH and no --timestamp: all times stay as they are".into();
        sink.emit(Event::Warning { message, line: None });
    }
    Ok(times)
}

/// Returns for each target of `plan` the annotations that its manifest has from its base: that below all stages.
pub(super) fn inherited(plan: &Plan, bases: &BTreeMap<String, Image>) -> Vec<Vec<(String, String)>> {
    let of = |mut stage: usize| loop {
        match &plan.stages[stage].base {
            Base::Scratch => return Vec::new(),
            Base::Stage(below) => stage = *below,
            Base::Image(key) => {
                let annotations = bases.get(key).and_then(|image| image.manifest.annotations().clone());
                let mut all: Vec<(String, String)> = annotations.into_iter().flatten().collect();
                all.sort();
                return all;
            }
        }
    };
    plan.targets().map(of).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_see_the_variables_of_the_image() {
        let config = ExecConfig { env: vec!["PATH=/bin".into(), "A=1".into()], ..ExecConfig::default() };
        for (text, value) in [
            ("/x:$PATH", "/x:/bin"),
            ("${A}1", "11"),
            ("$A1", ""),
            ("$", "$"),
            ("a$/${A", "a$/${A"),
            ("$A$A-", "11-"),
            ("${A.}", "${A.}"),
        ] {
            assert_eq!(expanded(text, &config), value, "{text}");
        }
    }
}
