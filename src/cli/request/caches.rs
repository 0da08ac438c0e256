use std::path::{Path, PathBuf};

use super::UsageError;
use crate::cli::args::{CacheVerb, CachesArgs};
use crate::cli::environment::Environment;

/// `coracle cache`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CacheRequest {
    /// The folder of the store, absolute.
    pub root: PathBuf,
    /// The folder of cache mounts, absolute; `None` for the one in the store.
    pub cache_dir: Option<PathBuf>,
    /// What to do; paths are absolute, or `-`. A folder that need not be there has a slash at its end.
    pub verb: CacheVerb,
}

impl CacheRequest {
    pub(super) fn new(args: CachesArgs, root: PathBuf, environment: &Environment) -> Result<Self, UsageError> {
        let CachesArgs { mut verb, cache_dir } = args;
        match &mut verb {
            CacheVerb::Export(export) if export.destination == Path::new("-") && environment.stdout_is_terminal => {
                return Err(UsageError::ArchiveToTerminal);
            }
            CacheVerb::Export(export) if export.destination == Path::new("-") => {}
            CacheVerb::Export(export) => {
                let is_folder = export.destination.as_os_str().as_encoded_bytes().ends_with(b"/");
                export.destination = environment.absolute(&export.destination)?;
                if is_folder {
                    export.destination.push("");
                }
            }
            CacheVerb::Import(import) if import.source != Path::new("-") => {
                import.source = environment.absolute(&import.source)?;
            }
            _ => {}
        }
        let cache_dir = super::cache_dir(cache_dir, environment)?;
        Ok(CacheRequest { root, cache_dir, verb })
    }
}
