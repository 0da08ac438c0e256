//! `coracle unshare`: a command with the ids that steps have.

use std::os::unix::process::CommandExt;
use std::process::{Command, ExitCode};

use coracle_runtime::IdMaps;
use coracle_runtime::{probe, userns};

use super::doctor::existing;
use super::report::{Classify, Failure, Style, chain};
use super::request::UnshareRequest;
use super::say;
use super::text::visible;

/// Becomes the command, as root of a user namespace.
pub(super) fn unshare(request: &UnshareRequest, style: Style) -> Result<ExitCode, Failure> {
    let maps = probe::full_map(&existing(&request.place)).unwrap_or_else(|error| {
        let hint = Classify::hint(&error).map(|hint| format!("\n  = hint: {hint}")).unwrap_or_default();
        let mark = style.paint("33", "warning:");
        say(&format!("{mark} the command has one id, its own: {}{}\n", visible(&chain(&error)), visible(&hint)));
        IdMaps::single()
    });
    userns::enter(&maps)?;
    userns::own_mounts()?;
    let error = Command::new(&request.program).args(&request.arguments).exec();
    let program = request.program.to_string_lossy();
    say(&format!("{} cannot start {:?}: {error}\n", style.paint("1;31", "error:"), visible(&program)));
    // As a shell has it.
    Ok(ExitCode::from(if error.kind() == std::io::ErrorKind::NotFound { 127 } else { 126 }))
}
