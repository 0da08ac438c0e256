//! Build arguments that speak to the builder.

use crate::source::Diagnostic;

/// Those of BuildKit that mean nothing here, and what to do in place of each.
const IDLE: [(&str, &str); 3] = [
    ("BUILDKIT_INLINE_CACHE", "the cache of a build is in the store, whatever the image is"),
    ("BUILDKIT_MULTI_PLATFORM", "`coracle manifest` makes one image of several platforms"),
    ("BUILDKIT_SYNTAX", "no frontend is fetched: the file is read as an ordinary Dockerfile"),
];

/// Returns a warning for each build argument that would change a build with BuildKit and does not change this one.
pub(super) fn warnings(build_args: &[(String, String)]) -> Vec<Diagnostic> {
    let idle =
        IDLE.iter().filter(|(name, _)| build_args.iter().any(|(other, value)| other == name && !value.is_empty()));
    idle.map(|(name, hint)| Diagnostic::warning(format!("the build argument `{name}` has no effect")).hint(*hint))
        .collect()
}

/// Returns the prefix of the names of cache mounts that the user asks for.
pub(super) fn cache_namespace(build_args: &[(String, String)]) -> Option<&str> {
    let given = build_args.iter().rev().find(|(name, _)| name == "BUILDKIT_CACHE_MOUNT_NS");
    given.map(|(_, value)| value.as_str()).filter(|value| !value.is_empty())
}
