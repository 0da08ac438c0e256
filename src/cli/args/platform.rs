use clap::Args;
use clap::builder::NonEmptyStringValueParser;

use crate::oci::Platform;

/// The flags that name platforms.
#[derive(Debug, Default, Args)]
pub struct PlatformArgs {
    /// Build for these platforms, as linux/amd64,linux/arm64
    #[arg(long, alias = "custom-platform", value_name = "PLATFORM,…", value_delimiter = ',', conflicts_with_all = ["arch", "os", "variant"])]
    pub platform: Vec<Platform>,
    /// Build for all platforms that the base images share
    #[arg(long, conflicts_with_all = ["platform", "arch", "os", "variant"])]
    pub all_platforms: bool,
    /// The parts of one platform.
    #[command(flatten)]
    pub parts: PartArgs,
    /// The version of the operating system that the image says
    #[arg(long, value_name = "VERSION", value_parser = NonEmptyStringValueParser::new())]
    pub os_version: Option<String>,
}

/// The flags that name the parts of a platform.
#[derive(Debug, Default, Args)]
pub struct PartArgs {
    /// The processor of --platform alone [default: that of this machine]
    #[arg(long, value_name = "ARCH", value_parser = NonEmptyStringValueParser::new())]
    pub arch: Option<String>,
    /// The operating system of --platform alone [default: linux]
    #[arg(long, value_name = "OS", value_parser = NonEmptyStringValueParser::new())]
    pub os: Option<String>,
    /// The variant of --arch
    #[arg(long, value_name = "VARIANT", value_parser = NonEmptyStringValueParser::new())]
    pub variant: Option<String>,
}

impl PartArgs {
    /// Returns the platform of these parts; `None` where there is none of them.
    pub fn platform(&self) -> Option<Platform> {
        if self.arch.is_none() && self.os.is_none() && self.variant.is_none() {
            return None;
        }
        let host = Platform::host();
        Some(Platform {
            architecture: self.arch.clone().unwrap_or(host.architecture),
            os: self.os.clone().unwrap_or(host.os),
            variant: self.variant.clone(),
        })
    }
}
