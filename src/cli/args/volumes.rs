//! What of the host RUN steps of a build see.

use std::path::PathBuf;
use std::str::FromStr;

use clap::Args;

use super::HostError;
use super::container::volume_parts;
use crate::tree::TreePath;

/// Flags of `coracle build` about that.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "What of the host each RUN sees")]
pub struct BuildHostArgs {
    /// Show a file or folder: as below; can be repeated.
    // Not from the line above: for rustdoc the brackets would be a link.
    #[arg(
        long = "volume",
        value_name = "SPEC",
        help = "A file or folder: SOURCE:TARGET[:ro|O]; without ro or O no RUN is in the cache; can be repeated"
    )]
    pub volumes: Vec<BuildVolume>,
    /// A device, as below; can be repeated.
    // Not from the line above, as with volumes.
    #[arg(
        long = "device",
        value_name = "SPEC",
        help = "A device: PATH[:TARGET]; no RUN is in the cache then; can be repeated"
    )]
    pub devices: Vec<DeviceSpec>,
    /// Hand on HTTP_PROXY and its sisters as they are set here
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", default_value = "false", hide_default_value = true, value_name = "BOOL", hide_possible_values = true)]
    pub http_proxy: bool,
}

/// What a RUN may do with a file or folder of the host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum VolumeUse {
    /// Read it as it was when the build looked.
    Read,
    /// That, and change it for itself: the changes are dropped.
    Discard,
    /// Change it on the host.
    Write,
}

/// A file or folder of the host, and its place in RUN steps.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BuildVolume {
    /// As given.
    pub source: PathBuf,
    /// Absolute, without a slash at its end.
    pub target: String,
    /// What a RUN may do with it.
    pub usage: VolumeUse,
}

impl FromStr for BuildVolume {
    type Err = HostError;

    fn from_str(text: &str) -> Result<Self, HostError> {
        let (source, target, options) = volume_parts(text)?;
        let mut usage = VolumeUse::Write;
        for option in options {
            match option {
                "ro" => usage = VolumeUse::Read,
                "rw" => usage = VolumeUse::Write,
                "O" => usage = VolumeUse::Discard,
                // Steps have the label of their user, who can read it, and mounts of theirs reach nobody.
                "z" | "Z" | "private" | "rprivate" => {}
                other => return Err(HostError::BuildOption { option: other.into() }),
            }
        }
        Ok(BuildVolume { source: source.into(), target: place(target)?, usage })
    }
}

/// A device of the host, and its place in RUN steps.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeviceSpec {
    /// Absolute.
    pub source: PathBuf,
    /// Absolute, without a slash at its end.
    pub target: String,
}

impl FromStr for DeviceSpec {
    type Err = HostError;

    fn from_str(text: &str) -> Result<Self, HostError> {
        let parts: Vec<&str> = text.split(':').collect();
        let (source, target) = match parts[..] {
            [source] => (source, source),
            [source, "rw" | "rwm"] => (source, source),
            [source, target] | [source, target, "rw" | "rwm"] => (source, target),
            _ => return Err(HostError::Device),
        };
        if !source.starts_with("/dev/") || text.contains('\0') {
            return Err(HostError::Device);
        }
        Ok(DeviceSpec { source: source.into(), target: place(target).map_err(|_| HostError::Device)? })
    }
}

/// Returns a place in a container without a slash at its end, which is not its root.
fn place(target: &str) -> Result<String, HostError> {
    let path = TreePath::new(target).ok().filter(|path| target.starts_with('/') && !path.is_root());
    path.map(|path| format!("/{path}")).ok_or(HostError::Volume)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_volume_is_a_path_a_place_and_a_use() {
        let volume =
            |source: &str, target: &str, usage| Ok(BuildVolume { source: source.into(), target: target.into(), usage });
        assert_eq!("/a:/b".parse(), volume("/a", "/b", VolumeUse::Write));
        assert_eq!("./a:/b/../c/:ro,Z".parse(), volume("./a", "/c", VolumeUse::Read));
        assert_eq!("/a:/b:O".parse(), volume("/a", "/b", VolumeUse::Discard));
        for bad in ["/a", "/a:b", "/a:/", "a:/b", "/a:/b:U", "/a:/b:ro:x", ":/b"] {
            assert!(bad.parse::<BuildVolume>().is_err(), "{bad}");
        }
    }

    #[test]
    fn a_device_lies_in_dev() {
        let device = |source: &str, target: &str| Ok(DeviceSpec { source: source.into(), target: target.into() });
        assert_eq!("/dev/fuse".parse(), device("/dev/fuse", "/dev/fuse"));
        assert_eq!("/dev/fuse:rwm".parse(), device("/dev/fuse", "/dev/fuse"));
        assert_eq!("/dev/sdc:/dev/xvdc:rwm".parse(), device("/dev/sdc", "/dev/xvdc"));
        for bad in ["/etc/passwd", "/dev/fuse:/dev/x:r", "vendor.example/device=one", "/dev/a:b"] {
            assert_eq!(bad.parse::<DeviceSpec>(), Err(HostError::Device), "{bad}");
        }
    }
}
