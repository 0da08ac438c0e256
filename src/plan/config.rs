//! The configuration that a stage starts with.

use serde_json::Value;

use super::BaseImage;
use super::env::{self, Variables};
use crate::oci::{ImageConfig, Platform};

/// Where programs are looked for, if a base image says nothing of it.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// What an older builder noted about itself: none of it is true of the new image.
const STALE: [&str; 9] = [
    "container",
    "container_config",
    "docker_version",
    "id",
    "parent",
    "parent_id",
    "throwaway",
    "moby.buildkit.buildinfo.v1",
    "moby.buildkit.cache.v0",
];

/// Returns the configuration of a stage on nothing.
pub(super) fn scratch(platform: &Platform) -> ImageConfig {
    let mut config = ImageConfig { platform: platform.clone(), ..ImageConfig::default() };
    config.config.working_dir = "/".into();
    config
}

/// Returns what the programs of `image` are for: what it says, and else `default`.
pub(super) fn platform_of(image: Option<&BaseImage>, default: &Platform) -> Platform {
    let known = image.map(|image| &image.config.platform).filter(|platform| !platform.architecture.is_empty());
    known.unwrap_or(default).clone()
}

/// Returns the configuration of a stage on the image of `base`, which was wanted for `platform`. Where the image is made for a `target`,
/// it says so, whatever its base is for.
pub(super) fn on_image(base: &ImageConfig, target: Option<&Platform>, platform: &Platform) -> ImageConfig {
    let mut config = base.clone();
    config.created = None;
    // The triggers of the base are done in this stage.
    config.config.on_build.clear();
    for name in STALE {
        config.other.remove(name);
    }
    let says_nothing = config.platform.architecture.is_empty() || config.platform.os.is_empty();
    let platform = match target {
        Some(target) => target,
        None if says_nothing => platform,
        None => return config,
    };
    // What only the base knows stays where it fits.
    if is_same(&config.platform, platform) {
        config.platform.variant = platform.variant.clone().or(config.platform.variant);
    } else {
        config.platform = platform.clone();
        config.other.remove("os.version");
    }
    config
}

/// Returns whether an image for `have` is one for `want`, as far as both say.
pub(super) fn fits(have: &Platform, want: &Platform) -> bool {
    let variant = |platform: &Platform| match (platform.architecture.as_str(), platform.variant.as_deref()) {
        ("arm64", None) => Some("v8".to_owned()),
        ("arm", None) => Some("v7".to_owned()),
        (_, variant) => variant.map(str::to_owned),
    };
    is_same(have, want) && (variant(have) == variant(want) || variant(have).is_none() || variant(want).is_none())
}

fn is_same(a: &Platform, b: &Platform) -> bool {
    a.os == b.os && a.architecture == b.architecture
}

/// Returns the environment of `config`, with a PATH.
pub(super) fn environment(config: &ImageConfig) -> Variables {
    let mut variables = Variables::default();
    for entry in &config.config.env {
        let (name, value) = env::split(entry);
        variables.set(name, value);
    }
    if !variables.contains("PATH") {
        variables.set("PATH", PATH);
    }
    variables
}

/// Returns the value that stands for "is in the set".
pub(super) fn present() -> Value {
    Value::Object(serde_json::Map::new())
}
