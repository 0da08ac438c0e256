use super::{Task, UsageError};
use crate::cli::args::{OutputSpec, PlatformArgs};
use crate::oci::Platform;

/// What an image is made for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Platforms {
    /// For what its base is for.
    #[default]
    OfBase,
    /// For one.
    One(Platform),
    /// For each of these, at least two, none twice: the result is an index.
    Several(Vec<Platform>),
    /// For all that its base images have in common: the result is an index.
    All,
}

impl Platforms {
    pub(super) fn new(args: PlatformArgs, task: Task, outputs: &[OutputSpec]) -> Result<Self, UsageError> {
        if args.all_platforms {
            if task != Task::Build {
                return Err(UsageError::AllPlatformsOnly);
            }
            return Platforms::All.fit(outputs);
        }
        let mut platforms: Vec<Platform> = Vec::new();
        // As BuildKit has it, TARGETPLATFORM and its parts are under the names that images use.
        for platform in args.platform.iter().chain(&args.parts.platform()).map(Platform::normalised) {
            if platforms.contains(&platform) {
                return Err(UsageError::PlatformTwice { platform });
            }
            platforms.push(platform);
        }
        match platforms.len() {
            0 => Ok(Platforms::OfBase),
            1 => Ok(Platforms::One(platforms.remove(0))),
            _ if matches!(task, Task::Outline(_)) => Err(UsageError::OneOutline),
            _ => Platforms::Several(platforms).fit(outputs),
        }
    }

    /// Refuses outputs that have no place for an index.
    fn fit(self, outputs: &[OutputSpec]) -> Result<Self, UsageError> {
        match outputs.iter().any(|output| matches!(output, OutputSpec::DockerArchive(_))) {
            true => Err(UsageError::OnePlatformOutput),
            false => Ok(self),
        }
    }

    /// Returns whether the result is an index.
    pub fn make_index(&self) -> bool {
        matches!(self, Platforms::Several(_) | Platforms::All)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::args::PartArgs;

    #[test]
    fn platforms_have_the_names_that_images_use() {
        let made = |platforms: &[&str], variant: Option<&str>| {
            let platform = platforms.iter().map(|text| text.parse().expect("a platform")).collect();
            let arch = variant.map(|_| "arm64".to_owned());
            let parts = PartArgs { arch, os: None, variant: variant.map(str::to_owned) };
            Platforms::new(PlatformArgs { platform, parts, ..PlatformArgs::default() }, Task::Build, &[])
        };
        let platform = |text: &str| text.parse::<Platform>().expect("a platform");
        for (given, normal) in
            [("linux/arm64/v8", "linux/arm64"), ("linux/arm", "linux/arm/v7"), ("linux/x86_64", "linux/amd64")]
        {
            assert_eq!(made(&[given], None).unwrap(), Platforms::One(platform(normal)));
        }
        assert_eq!(made(&[], Some("v8")).unwrap(), Platforms::One(platform("linux/arm64")));
        let several = Platforms::Several(vec![platform("linux/arm64"), platform("linux/arm/v7")]);
        assert_eq!(made(&["linux/aarch64", "linux/arm"], None).unwrap(), several);
        let twice = made(&["linux/arm64", "linux/arm64/v8"], None).unwrap_err();
        assert!(matches!(twice, UsageError::PlatformTwice { .. }), "{twice}");
    }
}
