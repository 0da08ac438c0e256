//! Files and folders of the host that RUN steps see, by `--volume` and `--device`.
//!
//! What is only read is a bind mount like any other: what is in it counts for the cache, and the step has a copy. What a step may change
//! on the host is shown as it is, and then no RUN comes from the cache.

use std::collections::BTreeMap;
use std::os::unix::fs::FileTypeExt;
use std::path::Path;

use super::args::VolumeUse;
use super::classify::{BuildProblem, FileLost};
use super::report::Failure;
use super::request::HostRequest;
use crate::context::Context;
use crate::plan::{CopyFrom, Mount, MountKind, Op, Plan};

/// Checks that all that is to be seen is there.
pub(super) fn check(request: &HostRequest) -> Result<(), Failure> {
    for volume in &request.volumes {
        let lost = |source| FileLost { call: "find the volume", path: volume.source.display().to_string(), source };
        std::fs::metadata(&volume.source).map_err(lost)?;
    }
    for device in &request.devices {
        let path = &device.source;
        let lost = |source| FileLost { call: "find the device", path: path.display().to_string(), source };
        let kind = std::fs::metadata(path).map_err(lost)?.file_type();
        if !kind.is_char_device() && !kind.is_block_device() {
            return Err(BuildProblem::NoDevice { path: path.clone() }.into());
        }
    }
    Ok(())
}

/// Returns the name of the context of the volume `number`: no `--build-context` has it.
fn name(number: usize) -> String {
    format!("--volume {number}")
}

/// Gives each RUN of the plan what it may only read, before its own mounts.
pub(super) fn add(plan: &mut Plan, request: &HostRequest) {
    let read = request.volumes.iter().enumerate().filter(|(_, volume)| volume.usage != VolumeUse::Write);
    let read: Vec<_> = read.collect();
    for step in plan.stages.iter_mut().flat_map(|stage| &mut stage.steps) {
        let Op::Run(run) = &mut step.op else { continue };
        let mounts = read.iter().map(|(number, volume)| Mount {
            span: step.span,
            target: volume.target.clone(),
            kind: MountKind::Bind {
                from: CopyFrom::Named(name(*number)),
                source: source(&volume.source).1,
                writable: volume.usage == VolumeUse::Discard,
            },
        });
        run.mounts.splice(0..0, mounts);
    }
}

/// Returns the folder in which the files are, and the path there: a file is looked at alone.
fn source(path: &Path) -> (&Path, String) {
    match (path.is_dir(), path.parent(), path.file_name().and_then(|name| name.to_str())) {
        (false, Some(parent), Some(name)) => (parent, format!("/{name}")),
        _ => (path, "/".into()),
    }
}

/// Opens what may only be read.
pub(super) fn open(request: &HostRequest) -> Result<BTreeMap<String, Context>, Failure> {
    let mut all = BTreeMap::new();
    for (number, volume) in request.volumes.iter().enumerate() {
        if volume.usage != VolumeUse::Write {
            // No ignore file counts: what is named is all of it.
            all.insert(name(number), Context::of_folder(source(&volume.source).0)?);
        }
    }
    Ok(all)
}
