//! Build arguments that speak to the builder.

use crate::source::Diagnostic;

/// Those of BuildKit that mean nothing here, and what to do in place of each.
const IDLE: [(&str, &str); 2] = [
    ("BUILDKIT_MULTI_PLATFORM", "`--platform a,b` makes an index of images for several platforms"),
    ("BUILDKIT_SYNTAX", "no frontend is fetched: the file is read as an ordinary Dockerfile"),
];

/// Returns a warning for each build argument that would change a build with BuildKit and does not change this one.
pub(super) fn warnings(build_args: &[(String, String)]) -> Vec<Diagnostic> {
    let idle =
        IDLE.iter().filter(|(name, _)| build_args.iter().any(|(other, value)| other == name && !value.is_empty()));
    idle.map(|(name, hint)| Diagnostic::warning(format!("the build argument `{name}` has no effect")).hint(*hint))
        .collect()
}

/// Those that mean something, and those of BuildKit that are about what coracle has otherwise or not at all and that change nothing
/// of what is built.
const KNOWN: [&str; 10] = [
    "BUILDKIT_BUILD_NAME",
    "BUILDKIT_CACHE_MOUNT_NS",
    "BUILDKIT_CONTEXT_KEEP_GIT_DIR",
    "BUILDKIT_DOCKERFILE_CHECK",
    "BUILDKIT_INLINE_CACHE",
    "BUILDKIT_SANDBOX_HOSTNAME",
    "BUILDKIT_SBOM_SCAN_CONTEXT",
    "BUILDKIT_SBOM_SCAN_STAGE",
    "SOURCE_DATE_EPOCH",
    "TARGETSTAGE",
];

/// The name of the machine in RUN.
const HOSTNAME: &str = "BUILDKIT_SANDBOX_HOSTNAME";

/// Returns the names of all build arguments that speak to the builder.
pub(super) fn names() -> impl Iterator<Item = &'static str> {
    KNOWN.into_iter().chain(IDLE.into_iter().map(|(name, _)| name))
}

/// Returns the name that the machine has in RUN steps; `None` for that of every build.
///
/// # Errors
/// The argument is no name of a host.
pub(super) fn hostname(build_args: &[(String, String)]) -> Result<Option<&str>, Diagnostic> {
    let given = build_args.iter().rev().find(|(name, _)| name == HOSTNAME);
    let Some(name) = given.map(|(_, value)| value.as_str()).filter(|value| !value.is_empty()) else { return Ok(None) };
    let is_fine = name.len() <= 64 && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._".contains(&byte));
    if !is_fine {
        let message = format!("{name:?}, the build argument `{HOSTNAME}`, is no name of a host");
        return Err(Diagnostic::error(message).hint("it has up to 64 letters, digits, dots, `-` and `_`"));
    }
    Ok(Some(name))
}

/// Returns the prefix of the names of cache mounts that the user asks for.
pub(super) fn cache_namespace(build_args: &[(String, String)]) -> Option<&str> {
    let given = build_args.iter().rev().find(|(name, _)| name == "BUILDKIT_CACHE_MOUNT_NS");
    given.map(|(_, value)| value.as_str()).filter(|value| !value.is_empty())
}
