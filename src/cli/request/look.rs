use super::{AttestRequest, BuildRequest, Platforms, UsageError};
use crate::cli::args::{Annotation, Compression, FormName, Level, Look, LookArgs, OutputSpec};
use crate::oci::Platform;

/// Returns what the image looks like in all places: as the flags say, and the outputs that are the image itself.
pub(super) fn whole_look(
    flags: LookArgs,
    outputs: &[OutputSpec],
    platforms: &Platforms,
    attest: &AttestRequest,
) -> Result<Look, UsageError> {
    let check = |look: &Look| {
        // Beside an attestation even one image is in an index.
        self::check(look, platforms.make_index() || attest.is_wanted())?;
        attest.check(look)
    };
    let mut look = flags.look()?;
    for output in outputs {
        let OutputSpec::Image(image) = output else { continue };
        if let Some(key) = look.contradiction(&image.look) {
            return Err(UsageError::TwoLooks { key });
        }
        look = look.with(&image.look);
    }
    check(&look)?;
    for output in outputs {
        if let OutputSpec::OciArchive(_, own) | OutputSpec::OciDir(_, own) = output {
            check(&look.with(own))?;
        }
    }
    Ok(look)
}

/// Returns what is to be said where an annotation is for a descriptor that a registry does not keep.
pub(super) fn stays_here(look: &Look, outputs: &[OutputSpec], in_index: bool) -> Option<String> {
    let pushes = outputs.iter().any(|output| matches!(output, OutputSpec::Image(image) if image.push));
    let stays = |annotation: &&Annotation| match annotation.level {
        Level::IndexDescriptor => true,
        Level::ManifestDescriptor => !in_index,
        Level::Manifest | Level::Index => false,
    };
    let annotation = look.annotations.iter().find(stays).filter(|_| pushes)?;
    let key = &annotation.key;
    Some(format!("the annotation {key:?} does not get to a registry: what leads to an image there has none"))
}

impl BuildRequest {
    /// Refuses annotations for the image of a platform that is none of `built`, those that images are made for.
    pub fn check_annotations(&self, built: &[Platform]) -> Result<(), UsageError> {
        let of_outputs = self.outputs.iter().filter_map(|output| match output {
            OutputSpec::OciArchive(_, own) | OutputSpec::OciDir(_, own) => Some(own),
            _ => None,
        });
        let annotations = std::iter::once(&self.look).chain(of_outputs).flat_map(|look| &look.annotations);
        let built: Vec<Platform> = built.iter().map(Platform::normalised).collect();
        for annotation in annotations {
            if let Some(platform) = annotation.platform.as_ref().filter(|platform| !built.contains(platform)) {
                let built = built.iter().map(ToString::to_string).collect();
                let (key, platform) = (annotation.key.clone(), platform.to_string());
                return Err(UsageError::NoSuchPlatform { key, platform, built });
            }
        }
        Ok(())
    }
}

/// Returns what an image is to look like that is there already.
pub(super) fn checked(look: Look) -> Result<Look, UsageError> {
    check(&look, false).map(|()| look)
}

/// Refuses what no image can be.
fn check(look: &Look, in_index: bool) -> Result<(), UsageError> {
    let of_index = |a: &&Annotation| matches!(a.level, Level::Index | Level::IndexDescriptor);
    if let Some(Annotation { key, .. }) = look.annotations.iter().find(of_index)
        && !in_index
    {
        return Err(UsageError::NoIndex { key: key.clone() });
    }
    if look.form == Some(FormName::Docker) {
        if matches!(look.compression, Some(Compression::Zstd(_))) {
            return Err(UsageError::DockerZstd);
        }
        if let Some(Annotation { key, .. }) = look.annotations.first() {
            return Err(UsageError::DockerAnnotation { key: key.clone() });
        }
    }
    Ok(())
}

/// Returns whether a build argument says yes.
pub(super) fn is_set(build_args: &[(String, String)], name: &str) -> bool {
    let given = build_args.iter().rev().find(|(other, _)| other == name);
    given.is_some_and(|(_, value)| matches!(value.to_ascii_lowercase().as_str(), "1" | "true" | "t"))
}
