use clap::Args;

use crate::oci::Platform;

/// The flag that names a platform.
#[derive(Debug, Args)]
pub struct PlatformArgs {
    /// Build for this platform, as linux/arm64
    #[arg(long, alias = "custom-platform", value_name = "PLATFORM", value_parser = one_platform)]
    pub platform: Option<Platform>,
}

/// Returns the platform that `text` names.
fn one_platform(text: &str) -> Result<Platform, String> {
    if text.contains(',') {
        return Err("one platform at a time: build for each of them, and make one image of the results with \
                    `coracle manifest`"
            .into());
    }
    text.parse().map_err(|error: crate::oci::PlatformError| error.to_string())
}
