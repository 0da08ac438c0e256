//! Flags of `coracle run` about what of the host it sees.

use std::path::PathBuf;
use std::str::FromStr;

use clap::Args;

/// Flags about folders and ports of the host.
#[derive(Debug, Args)]
#[command(next_help_heading = "Folders and ports of the host")]
pub struct HostArgs {
    /// Show a file or folder of the host; can be repeated.
    // Not from the line above: for rustdoc the brackets would be a link.
    #[arg(
        short,
        long = "volume",
        value_name = "SPEC",
        help = "Show a file or folder of the host: SOURCE:TARGET[:ro]; can be repeated"
    )]
    pub volumes: Vec<VolumeSpec>,
    /// A port of the container, which is on the host's network: PORT:PORT; can be repeated
    #[arg(short, long = "publish", value_name = "SPEC")]
    pub ports: Vec<PortSpec>,
}

/// A value of these flags makes no sense, or means what cannot be done.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum HostError {
    /// Not of the form of a volume.
    #[error("a volume is SOURCE:TARGET, with :ro behind it where it must not be changed; TARGET is absolute")]
    Volume,
    /// A name in place of a path.
    #[error("{name:?} is the name of a volume, and there are none: write the path of a folder, ./{name}")]
    Named {
        /// The name.
        name: String,
    },
    /// An option that means nothing here.
    #[error("a volume has ro or rw behind it, and not {option:?}")]
    Option {
        /// The option.
        option: String,
    },
    /// An option that means nothing in a build.
    #[error("a volume of a build has ro, rw or O behind it, and not {option:?}")]
    BuildOption {
        /// The option.
        option: String,
    },
    /// Not of the form of a device.
    #[error(
        "a device is PATH[:TARGET[:rwm]], where PATH begins with /dev/; less than rwm cannot be enforced without root"
    )]
    Device,
    /// Not of the form of a port.
    #[error("a port is PORT:PORT, from 1 to 65535, as 8080:8080")]
    Port,
    /// Another number outside.
    #[error(
        "the container uses the host's network, so its port {container} is the host's port {container}, and cannot be {host}: \
         have the program listen on {host}, or write {container}:{container}"
    )]
    Moved {
        /// Outside.
        host: u16,
        /// Inside.
        container: u16,
    },
    /// An address.
    #[error(
        "the container uses the host's network, so its program decides on which address it listens, and not {address:?}"
    )]
    Address {
        /// The address.
        address: String,
    },
}

/// A file or folder of the host, and its place in the container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VolumeSpec {
    /// As given.
    pub source: PathBuf,
    /// Absolute.
    pub target: String,
    /// Whether it must not be changed.
    pub read_only: bool,
}

impl FromStr for VolumeSpec {
    type Err = HostError;

    fn from_str(text: &str) -> Result<Self, HostError> {
        let (source, target, options) = volume_parts(text)?;
        let mut read_only = false;
        for option in options {
            match option {
                "ro" => read_only = true,
                "rw" => read_only = false,
                other => return Err(HostError::Option { option: other.into() }),
            }
        }
        if !target.starts_with('/') {
            return Err(HostError::Volume);
        }
        Ok(VolumeSpec { source: source.into(), target: target.into(), read_only })
    }
}

/// Returns the file or folder, its place and the options of `SOURCE:TARGET[:OPTION,…]`.
pub(super) fn volume_parts(text: &str) -> Result<(&str, &str, impl Iterator<Item = &str>), HostError> {
    let mut parts = text.split(':');
    let (source, target) = (parts.next().unwrap_or_default(), parts.next().ok_or(HostError::Volume)?);
    let options = parts.next().into_iter().flat_map(|options| options.split(','));
    if parts.next().is_some() || source.is_empty() || text.contains('\0') {
        return Err(HostError::Volume);
    }
    if !source.contains('/') && !source.starts_with('.') {
        return Err(HostError::Named { name: source.into() });
    }
    Ok((source, target, options))
}

/// A port that is the same outside and inside.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PortSpec(pub u16);

impl FromStr for PortSpec {
    type Err = HostError;

    fn from_str(text: &str) -> Result<Self, HostError> {
        let (rest, protocol) = text.split_once('/').unwrap_or((text, "tcp"));
        if !matches!(protocol, "tcp" | "udp" | "sctp") {
            return Err(HostError::Port);
        }
        let (rest, container) = rest.rsplit_once(':').ok_or(HostError::Port)?;
        let (address, host) = rest.rsplit_once(':').unwrap_or(("", rest));
        let port = |text: &str| text.parse::<u16>().ok().filter(|port| *port != 0).ok_or(HostError::Port);
        let (host, container) = (port(host)?, port(container)?);
        match address {
            _ if host != container => Err(HostError::Moved { host, container }),
            "" | "0.0.0.0" | "[::]" => Ok(PortSpec(container)),
            address => Err(HostError::Address { address: address.into() }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_is_the_same_outside_and_inside() {
        for text in ["80:80", "0.0.0.0:80:80", "80:80/udp", "[::]:80:80"] {
            assert_eq!(text.parse(), Ok(PortSpec(80)), "{text}");
        }
        assert_eq!("8080:80".parse::<PortSpec>(), Err(HostError::Moved { host: 8080, container: 80 }));
        assert_eq!("127.0.0.1:80:80".parse::<PortSpec>(), Err(HostError::Address { address: "127.0.0.1".into() }));
        for bad in ["", "80", "0:0", "80:80/x", "a:80", "70000:70000", "80-90:80-90"] {
            assert_eq!(bad.parse::<PortSpec>(), Err(HostError::Port), "{bad}");
        }
    }

    #[test]
    fn a_volume_is_a_path_and_a_place() {
        let volume = |source: &str, target: &str, read_only| {
            Ok(VolumeSpec { source: source.into(), target: target.into(), read_only })
        };
        assert_eq!("/a:/b".parse(), volume("/a", "/b", false));
        assert_eq!("./a:/b:ro".parse(), volume("./a", "/b", true));
        assert_eq!(".:/b:rw".parse(), volume(".", "/b", false));
        assert_eq!("data:/b".parse::<VolumeSpec>(), Err(HostError::Named { name: "data".into() }));
        assert_eq!("/a:/b:z".parse::<VolumeSpec>(), Err(HostError::Option { option: "z".into() }));
        for bad in ["", "/a", "/a:b", ":/b", "/a:/b:ro:x"] {
            assert_eq!(bad.parse::<VolumeSpec>(), Err(HostError::Volume), "{bad}");
        }
    }
}
