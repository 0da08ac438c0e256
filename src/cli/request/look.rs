use super::{Platforms, UsageError};
use crate::cli::args::{Annotation, Compression, FormName, Level, Look, LookArgs, OutputSpec};

/// Returns what the image looks like in all places: as the flags say, and the outputs that are the image itself.
pub(super) fn whole_look(flags: LookArgs, outputs: &[OutputSpec], platforms: &Platforms) -> Result<Look, UsageError> {
    let mut look = flags.look()?;
    for output in outputs {
        let OutputSpec::Image(image) = output else { continue };
        if let Some(key) = look.contradiction(&image.look) {
            return Err(UsageError::TwoLooks { key });
        }
        look = look.with(&image.look);
    }
    check(&look, platforms)?;
    for output in outputs {
        if let OutputSpec::OciArchive(_, own) | OutputSpec::OciDir(_, own) = output {
            check(&look.with(own), platforms)?;
        }
    }
    Ok(look)
}

/// Returns what an image is to look like that is there already.
pub(super) fn checked(look: Look) -> Result<Look, UsageError> {
    check(&look, &Platforms::OfBase).map(|()| look)
}

/// Refuses what no image can be.
fn check(look: &Look, platforms: &Platforms) -> Result<(), UsageError> {
    let of_index = |a: &&Annotation| matches!(a.level, Level::Index | Level::IndexDescriptor);
    if let Some(Annotation { key, .. }) = look.annotations.iter().find(of_index)
        && !platforms.make_index()
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
