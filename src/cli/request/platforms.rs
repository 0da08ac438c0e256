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
        let mut known: Vec<Platform> = Vec::new();
        for platform in &args.platform {
            let platform = platform.normalised();
            if known.contains(&platform) {
                return Err(UsageError::PlatformTwice { platform });
            }
            known.push(platform);
        }
        let mut platforms = args.platform;
        platforms.extend(args.parts.platform());
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
