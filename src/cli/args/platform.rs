use clap::Args;

use crate::oci::Platform;

/// The flags that name platforms.
#[derive(Debug, Args)]
pub struct PlatformArgs {
    /// Build for these platforms, as linux/amd64,linux/arm64
    #[arg(long, alias = "custom-platform", value_name = "PLATFORM,…", value_delimiter = ',')]
    pub platform: Vec<Platform>,
    /// Build for all platforms that the base images share
    #[arg(long, conflicts_with = "platform")]
    pub all_platforms: bool,
}
