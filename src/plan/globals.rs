//! The variables that FROM lines see, and what those lines say once expanded.

use std::collections::HashMap;

use super::GraphOptions;
use super::env::Variables;
use super::graph::expand_with;
use crate::dockerfile::{Dockerfile, Stage, Word};
use crate::oci::Platform;
use crate::source::Diagnostic;

/// Returns the variables that FROM lines see, and that a stage may ask for by an ARG without a default.
pub(super) fn globals(file: &Dockerfile, options: &GraphOptions, errors: &mut Vec<Diagnostic>) -> Variables {
    let given: HashMap<&str, &str> =
        options.build_args.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    let mut globals = Variables::default();
    for (prefix, platform) in [("BUILD", &options.build_platform), ("TARGET", options.target_platform())] {
        for (suffix, value) in [
            ("PLATFORM", platform.to_string()),
            ("OS", platform.os.clone()),
            ("OSVERSION", String::new()),
            ("ARCH", platform.architecture.clone()),
            ("VARIANT", platform.variant.clone().unwrap_or_default()),
        ] {
            let name = format!("{prefix}{suffix}");
            globals.set(&name, given.get(name.as_str()).copied().unwrap_or(&value));
        }
    }
    let last = file.stages.last().and_then(|stage| stage.name.as_ref()).map(|name| name.value.as_str());
    let target = options.target.as_deref().or(last).unwrap_or("default");
    globals.set("TARGETSTAGE", given.get("TARGETSTAGE").copied().unwrap_or(target));

    for arg in &file.global_args {
        if let Some(value) = given.get(arg.name.as_str()) {
            globals.set(&arg.name, value);
        } else if let Some(default) = &arg.default {
            match expand_with(default, &globals, file.directives.escape) {
                Ok(value) => globals.set(&arg.name, &value),
                Err(error) => errors.push(error),
            }
        }
    }
    globals
}

/// Returns the name of what a stage stands on; an empty one, and an error, where there is none.
pub(super) fn base_name(stage: &Stage, globals: &Variables, escape: char, errors: &mut Vec<Diagnostic>) -> String {
    let written = &stage.from;
    let name = match expand_with(written, globals, escape) {
        Ok(name) => name,
        Err(error) => {
            errors.push(error);
            return String::new();
        }
    };
    if !name.trim().is_empty() {
        return name;
    }
    errors.push(
        Diagnostic::error(format!("`{}` is empty after expansion", written.text))
            .at(written.span)
            .hint("FROM sees the ARGs before the first FROM: is there one, with a default or a --build-arg?"),
    );
    String::new()
}

/// Returns what `--platform` of a FROM says; `None` where it is not there.
pub(super) fn base_platform(
    word: Option<&Word>,
    globals: &Variables,
    escape: char,
    errors: &mut Vec<Diagnostic>,
) -> Option<Platform> {
    let word = word?;
    let platform = expand_with(word, globals, escape).and_then(|text| {
        if text.is_empty() {
            let error = Diagnostic::error(format!("the platform `{}` is empty after expansion", word.text));
            return Err(error
                .at(word.span)
                .hint("FROM sees the ARGs before the first FROM, and BUILDPLATFORM and TARGETPLATFORM"));
        }
        text.parse::<Platform>().map_err(|_| {
            Diagnostic::error(format!("`{text}` is not a platform"))
                .at(word.span)
                .hint("as in linux/arm64, or $BUILDPLATFORM for this machine's")
        })
    });
    platform.map_err(|error| errors.push(error)).ok()
}
