use std::path::PathBuf;

use super::images::located;
use super::registry::{in_full, in_registry};
use super::{RegistryRequest, UsageError};
use crate::cli::args::{Assignment, DetailArgs, ManifestArgs, ManifestVerb, Named, RegistryArgs};
use crate::cli::environment::Environment;
use crate::oci::Platform;
use crate::output::Location;
use crate::output::content::Form as ManifestForm;
use crate::output::index::Details;

/// `coracle manifest`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ManifestRequest {
    /// The folder of the store.
    pub root: PathBuf,
    /// A folder for the time being.
    pub temp: PathBuf,
    /// What to do.
    pub act: ManifestAct,
    /// How registries are talked to.
    pub registry: RegistryRequest,
}

/// What to do with a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ManifestAct {
    /// Make one.
    Create {
        /// Its name.
        list: String,
        /// What is in it.
        images: Vec<Named>,
        /// Whether one that is there is changed.
        amend: bool,
        /// Whether all images of an index are taken.
        all: bool,
        /// Annotations of the list.
        annotations: Vec<(String, String)>,
    },
    /// Add images.
    Add {
        /// The list.
        list: String,
        /// What is added.
        images: Vec<Named>,
        /// Whether all images of an index are taken.
        all: bool,
        /// What is said about them.
        details: Details,
    },
    /// Change what is said.
    Annotate {
        /// The list.
        list: String,
        /// About which image; `None` for the list itself.
        image: Option<String>,
        /// What is said.
        details: Details,
    },
    /// Show it.
    Inspect {
        /// The list.
        list: Named,
    },
    /// Write it somewhere else.
    Push {
        /// The list.
        list: String,
        /// Where it goes; `None` for the registry of its name.
        destination: Option<Location>,
        /// Whether it is removed afterwards.
        remove: bool,
        /// What manifests are converted to.
        form: Option<ManifestForm>,
        /// Where the digest is written.
        digestfile: Option<PathBuf>,
    },
    /// Remove lists.
    Rm {
        /// Their names.
        lists: Vec<String>,
    },
    /// Say whether it is there.
    Exists {
        /// The list.
        list: String,
    },
    /// Take images out.
    Remove {
        /// The list.
        list: String,
        /// Their digests.
        digests: Vec<String>,
    },
}

impl ManifestRequest {
    pub(super) fn new(args: ManifestArgs, root: PathBuf, environment: &Environment) -> Result<Self, UsageError> {
        let images = |images: Vec<Named>| -> Result<Vec<Named>, UsageError> {
            images.into_iter().map(|image| located(image, environment)).collect()
        };
        let mut registry = RegistryArgs::default();
        let act = match args.verb {
            ManifestVerb::Create(args) => {
                registry = args.registry;
                ManifestAct::Create {
                    list: args.list,
                    images: images(args.images)?,
                    amend: args.amend,
                    all: args.all,
                    annotations: annotations(args.annotations),
                }
            }
            ManifestVerb::Add(args) => {
                registry = args.registry;
                let details = details(args.details);
                ManifestAct::Add { list: args.list, images: images(args.images)?, all: args.all, details }
            }
            ManifestVerb::Annotate(args) => {
                ManifestAct::Annotate { list: args.list, image: args.image, details: details(args.details) }
            }
            ManifestVerb::Inspect(args) => {
                registry = args.registry;
                ManifestAct::Inspect { list: located(args.list, environment)? }
            }
            ManifestVerb::Push(args) => {
                registry = args.registry;
                let mut destination = args.destination;
                if let Some(path) = destination.as_mut().and_then(Location::path_mut) {
                    *path = environment.absolute(path)?;
                }
                ManifestAct::Push {
                    list: args.list,
                    destination,
                    remove: args.rm,
                    form: args.format.map(Into::into),
                    digestfile: args.digestfile.map(|path| environment.absolute(&path)).transpose()?,
                }
            }
            ManifestVerb::Rm(args) => ManifestAct::Rm { lists: args.lists },
            ManifestVerb::Exists(args) => ManifestAct::Exists { list: args.list },
            ManifestVerb::Remove(args) => ManifestAct::Remove { list: args.list, digests: args.digests },
        };
        let registry = RegistryRequest::new(registry, environment)?;
        let registry = match &act {
            ManifestAct::Create { images, .. } | ManifestAct::Add { images, .. } => registry.naming_places(images),
            ManifestAct::Inspect { list } => registry.naming_places([list]),
            ManifestAct::Push { list, destination: None, .. } => registry.naming([in_full(list)]),
            ManifestAct::Push { destination: Some(destination), .. } => registry.naming(in_registry(destination)),
            _ => registry,
        };
        Ok(ManifestRequest { root, temp: environment.temp_dir(), act, registry })
    }
}

fn annotations(given: Vec<Assignment>) -> Vec<(String, String)> {
    given.into_iter().map(|annotation| (annotation.name, annotation.value.unwrap_or_default())).collect()
}

fn details(args: DetailArgs) -> Details {
    Details {
        os: args.os,
        architecture: args.arch,
        variant: args.variant,
        os_version: args.os_version,
        os_features: args.os_features,
        annotations: annotations(args.annotations),
    }
}

/// Returns the platform that is meant by the details of a member, to choose it from an index.
pub fn platform_of(details: &Details) -> Platform {
    let host = Platform::host();
    match (&details.os, &details.architecture) {
        (None, None) => host,
        (os, architecture) => Platform {
            os: os.clone().unwrap_or(host.os),
            architecture: architecture.clone().unwrap_or(host.architecture),
            variant: details.variant.clone(),
        },
    }
}
