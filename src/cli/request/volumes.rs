use super::UsageError;
use crate::build::Volume;
use crate::cli::args::{BuildHostArgs, BuildVolume, DeviceSpec, VolumeUse};
use crate::cli::environment::Environment;

/// The names of proxies, in small letters.
const PROXIES: [&str; 5] = ["http_proxy", "https_proxy", "ftp_proxy", "no_proxy", "all_proxy"];

/// What of the host RUN steps see; paths on the host are absolute.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct HostRequest {
    /// Files and folders.
    pub volumes: Vec<BuildVolume>,
    /// Devices.
    pub devices: Vec<DeviceSpec>,
}

impl HostRequest {
    pub(super) fn new(args: BuildHostArgs, environment: &Environment) -> Result<Self, UsageError> {
        let mut volumes = args.volumes;
        for volume in &mut volumes {
            volume.source = environment.absolute(&volume.source)?;
        }
        Ok(HostRequest { volumes, devices: args.devices })
    }

    /// Returns what steps see as it is on the host.
    pub fn live(&self) -> Vec<Volume> {
        let live = self.volumes.iter().filter(|volume| volume.usage == VolumeUse::Write);
        let volume = |source: &std::path::Path, target: &str| Volume {
            source: source.to_path_buf(),
            target: target.to_owned(),
            read_only: false,
        };
        let volumes = live.map(|found| volume(&found.source, &found.target));
        volumes.chain(self.devices.iter().map(|device| volume(&device.source, &device.target))).collect()
    }
}

/// Returns the build arguments for the proxies that are set here, as they are.
pub(super) fn proxies(environment: &Environment) -> Result<Vec<(String, String)>, UsageError> {
    let mut found = Vec::new();
    for small in PROXIES {
        for name in [small.to_owned(), small.to_ascii_uppercase()] {
            let Some(value) = environment.var(&name) else { continue };
            let not_utf8 = || UsageError::NotUtf8 { what: format!("the value of the variable {name:?}") };
            let value = value.to_str().ok_or_else(not_utf8)?.to_owned();
            found.push((name, value));
        }
    }
    Ok(found)
}
