use std::path::PathBuf;

use super::{DockerfileFrom, NeedsRequest, SourcesRequest, Task, UsageError};
use crate::cli::args::{BundleCreateArgs, BundleLsArgs, ContextLocation, NamedLocation, PinnedArgs, PullPolicy};
use crate::cli::environment::Environment;
use crate::oci::Platform;

/// `coracle bundle create`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BundleCreateRequest {
    /// The Dockerfile.
    pub needs: NeedsRequest,
    /// For which platforms; none for this machine's.
    pub platforms: Vec<Platform>,
    /// The file to write, absolute.
    pub output: PathBuf,
}

impl BundleCreateRequest {
    pub(super) fn new(args: BundleCreateArgs, root: PathBuf, environment: &Environment) -> Result<Self, UsageError> {
        let BundleCreateArgs { output, file, target, build_args, platforms, context, named, doors, registry } = args;
        let needs =
            NeedsRequest::new(root, (file, &context), (target, build_args), (named, registry, doors), environment)?;
        let mut each: Vec<Platform> = Vec::new();
        for platform in platforms {
            if !each.contains(&platform) {
                each.push(platform);
            }
        }
        Ok(BundleCreateRequest { needs, platforms: each, output: environment.absolute(&output)? })
    }
}

/// `coracle bundle ls`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BundleLsRequest {
    /// The bundle, absolute.
    pub file: PathBuf,
    /// Where a compressed one is unpacked to.
    pub temp: PathBuf,
    /// Whether to print JSON.
    pub json: bool,
}

impl BundleLsRequest {
    pub(super) fn new(args: BundleLsArgs, environment: &Environment) -> Result<Self, UsageError> {
        Ok(BundleLsRequest { file: environment.absolute(&args.file)?, temp: environment.temp_dir(), json: args.json })
    }
}

/// Returns the bundle of a build, absolute. With one nothing may ask for the network.
pub(super) fn of_build(
    args: &PinnedArgs,
    (task, pull): (Task, PullPolicy),
    sources: &SourcesRequest,
    environment: &Environment,
) -> Result<Option<PathBuf>, UsageError> {
    let Some(bundle) = &args.bundle else { return Ok(None) };
    if task != Task::Build {
        return Err(UsageError::BundleOnly);
    }
    match pull {
        PullPolicy::Always => return Err(UsageError::BundlePull { policy: "always" }),
        PullPolicy::Newer => return Err(UsageError::BundlePull { policy: "newer" }),
        PullPolicy::Missing | PullPolicy::Never => {}
    }
    let named = sources.named.iter().filter_map(|named| match &named.location {
        NamedLocation::Files(location) => Some(location),
        NamedLocation::Image(_) | NamedLocation::Layout { .. } => None,
    });
    let is_elsewhere =
        |location: &&ContextLocation| matches!(location, ContextLocation::Url(_) | ContextLocation::Git(_));
    let elsewhere = std::iter::once(&sources.context).chain(named).find(is_elsewhere);
    let place = match (&sources.dockerfile, elsewhere) {
        (_, Some(location)) => Some(location.to_string()),
        (DockerfileFrom::Url(url), None) => Some(crate::address::shown(url)),
        _ => None,
    };
    match place {
        Some(place) => Err(UsageError::BundleContext { place }),
        None => Ok(Some(environment.absolute(bundle)?)),
    }
}

#[cfg(test)]
mod tests {
    use super::super::Request;
    use super::*;
    use crate::cli::args;

    fn meant(line: &str) -> Result<Request, UsageError> {
        let vars = [("HOME".into(), "/home/ann".into())].into();
        let environment = Environment { vars, cwd: Some("/home/ann/web".into()), ..Environment::default() };
        Request::new(args::parse(line.split(' ').map(Into::into)).expect(line), &environment)
    }

    #[test]
    fn a_bundle_is_made_for_each_platform_once() {
        let Ok(Request::BundleCreate(request)) =
            meant("coracle bundle create --platform linux/arm64,linux/amd64,linux/arm64 .")
        else {
            panic!("another verb")
        };
        assert_eq!(request.platforms, ["linux/arm64", "linux/amd64"].map(|text| text.parse().expect("a platform")));
        assert_eq!(request.output, PathBuf::from("/home/ann/web/bundle.tar"));
        let Ok(Request::BundleLs(request)) = meant("coracle bundle inspect b.tar --json") else {
            panic!("another verb")
        };
        assert_eq!((request.file, request.json), (PathBuf::from("/home/ann/web/b.tar"), true));
    }

    #[test]
    fn a_build_from_a_bundle_needs_nobody() {
        let built = |line: &str| match meant(&format!("coracle build --bundle b.tar {line}")) {
            Ok(Request::Build(request)) => Ok(request.bundle),
            Ok(other) => panic!("{line} is {other:?}"),
            Err(error) => Err(error),
        };
        for line in [".", "--pull=never .", "--locked --push -t web .", "--build-context x=dir .", "-"] {
            assert_eq!(built(line), Ok(Some("/home/ann/web/b.tar".into())), "{line}");
        }
        assert_eq!(built("--pull=newer ."), Err(UsageError::BundlePull { policy: "newer" }));
        assert_eq!(built("--check ."), Err(UsageError::BundleOnly));
        let place = |place: &str| Err(UsageError::BundleContext { place: place.into() });
        assert_eq!(built("https://ann:pw@h/r.git#main"), place("https://h/r.git#main"));
        assert_eq!(built("--build-context x=https://h/x.tar ."), place("https://h/x.tar"));
        assert_eq!(built("-f https://ann:pw@h/Dockerfile ."), place("https://ann:***@h/Dockerfile"));
    }
}
