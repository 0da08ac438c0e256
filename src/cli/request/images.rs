use std::path::PathBuf;

use super::{RegistryRequest, UsageError};
use crate::cli::args::{
    ArchiveName, CopyArgs, DiffArgs, Document, Filter, HistoryArgs, ImagesArgs, InspectArgs, LoadArgs, Named, SaveArgs,
    SortKey, is_stdout,
};
use crate::cli::environment::Environment;
use crate::cli::template::Template;
use crate::oci::Platform;
use crate::output::content::{Form as ManifestForm, Selection};

/// How a list of images is printed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Form {
    /// A table for people.
    Table,
    /// JSON.
    Json,
    /// Ids alone, a line each.
    Ids,
    /// A line each, as this says.
    Template(Template),
    /// A table of such lines, with a head: columns stand between tabs.
    TemplateTable(Template),
}

/// `coracle copy`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CopyRequest {
    /// The folder of the store.
    pub root: PathBuf,
    /// A folder for the time being.
    pub temp: PathBuf,
    /// Where the image is; its path is absolute.
    pub source: Named,
    /// Where it goes; its path is absolute.
    pub destination: Named,
    /// Which images of an index.
    pub selection: Selection,
    /// What manifests are converted to.
    pub form: Option<ManifestForm>,
    /// Whether what refers to the images is copied as well: then both are registries.
    pub referrers: bool,
    /// Where the digest is written; absolute.
    pub digestfile: Option<PathBuf>,
    /// How registries are talked to.
    pub registry: RegistryRequest,
    /// Whether no progress is shown.
    pub quiet: bool,
}

impl CopyRequest {
    pub(super) fn new(args: CopyArgs, root: PathBuf, environment: &Environment) -> Result<Self, UsageError> {
        let is_registry = |named: &Named| matches!(named, Named::Place(crate::output::Location::Registry(_)));
        if args.referrers && !(is_registry(&args.source) && is_registry(&args.destination)) {
            return Err(UsageError::ReferrersElsewhere);
        }
        let registry =
            RegistryRequest::new(args.registry, environment)?.naming_places([&args.source, &args.destination]);
        Ok(CopyRequest {
            root,
            temp: environment.temp_dir(),
            source: located(args.source, environment)?,
            destination: located(args.destination, environment)?,
            selection: selection(args.platform, args.all),
            form: args.format.map(Into::into),
            referrers: args.referrers,
            digestfile: args.digestfile.map(|path| environment.absolute(&path)).transpose()?,
            registry,
            quiet: args.quiet,
        })
    }
}

/// Returns the image with an absolute path.
pub(super) fn located(mut named: Named, environment: &Environment) -> Result<Named, UsageError> {
    if let Named::Place(location) = &mut named
        && let Some(path) = location.path_mut()
    {
        *path = environment.absolute(path)?;
    }
    Ok(named)
}

pub(super) fn selection(platform: Option<Platform>, all: bool) -> Selection {
    if all { Selection::All } else { Selection::Platform(platform.unwrap_or_default()) }
}

/// `coracle save`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SaveRequest {
    /// The folder of the store.
    pub root: PathBuf,
    /// A folder for the time being.
    pub temp: PathBuf,
    /// Images in the store, at least one.
    pub names: Vec<String>,
    /// The file, absolute; `None` for standard output, which is no terminal.
    pub output: Option<PathBuf>,
    /// The form of the archive, where the user names one.
    pub format: Option<ArchiveName>,
    /// Which images of an index.
    pub selection: Selection,
    /// Whether no progress is shown.
    pub quiet: bool,
}

impl SaveRequest {
    pub(super) fn new(args: SaveArgs, root: PathBuf, environment: &Environment) -> Result<Self, UsageError> {
        let output = match args.output {
            Some(path) if is_stdout(&path) => None,
            Some(path) => Some(environment.absolute(&path)?),
            None => None,
        };
        if output.is_none() && environment.stdout_is_terminal {
            return Err(UsageError::ArchiveToTerminal);
        }
        let selection = selection(None, args.all);
        Ok(SaveRequest {
            root,
            temp: environment.temp_dir(),
            names: args.names,
            output,
            format: args.format,
            selection,
            quiet: args.quiet,
        })
    }
}

/// `coracle load`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LoadRequest {
    /// The folder of the store.
    pub root: PathBuf,
    /// The archive or folder, absolute; `None` for standard input.
    pub input: Option<PathBuf>,
    /// Which images of an index.
    pub selection: Selection,
    /// Whether no progress is shown.
    pub quiet: bool,
}

impl LoadRequest {
    pub(super) fn new(args: LoadArgs, root: PathBuf, environment: &Environment) -> Result<Self, UsageError> {
        let input = match args.input {
            Some(path) if path.as_os_str() == "-" => None,
            Some(path) => Some(environment.absolute(&path)?),
            None => None,
        };
        Ok(LoadRequest { root, input, selection: selection(args.platform, args.all), quiet: args.quiet })
    }
}

/// `coracle images`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImagesRequest {
    /// The folder of the store.
    pub root: PathBuf,
    /// How to print them.
    pub form: Form,
    /// Only those whose name fits.
    pub pattern: Option<String>,
    /// Only those that all of these let through.
    pub filters: Vec<Filter>,
    /// Whether those without a name are shown too.
    pub unnamed: bool,
    /// Whether digests are shown in full.
    pub full: bool,
    /// By what they are sorted.
    pub sort: SortKey,
    /// Whether a table has no head.
    pub headless: bool,
}

impl ImagesRequest {
    pub(super) fn new(args: ImagesArgs, root: PathBuf) -> Result<Self, UsageError> {
        let form = form(args.json, args.quiet, args.format.as_deref())?;
        let (pattern, filters, sort) = (args.pattern, args.filter, args.sort);
        let (unnamed, full, headless) = (args.all, args.digests, args.no_heading);
        Ok(ImagesRequest { root, form, pattern, filters, unnamed, full, sort, headless })
    }
}

/// Returns how a list is printed.
fn form(json: bool, ids: bool, template: Option<&str>) -> Result<Form, UsageError> {
    match (json, ids, template) {
        (true, ..) | (_, _, Some("json")) => Ok(Form::Json),
        (_, true, _) => Ok(Form::Ids),
        // docker's word for a head and columns.
        (_, _, Some(text)) => match text.strip_prefix("table ") {
            Some(text) => Ok(Form::TemplateTable(parse(text)?)),
            None => Ok(Form::Template(parse(text)?)),
        },
        _ => Ok(Form::Table),
    }
}

pub(super) fn parse(text: &str) -> Result<Template, UsageError> {
    Template::parse(text).map_err(|source| UsageError::BadTemplate { source })
}

/// `coracle inspect`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InspectRequest {
    /// The folder of the store.
    pub root: PathBuf,
    /// A folder for the time being.
    pub temp: PathBuf,
    /// The image; its path is absolute.
    pub name: Named,
    /// Which document; `None` for the one that goes without saying.
    pub document: Option<Document>,
    /// Whether its bytes are printed as they are.
    pub raw: bool,
    /// What is printed of it.
    pub template: Option<Template>,
    /// For which platform.
    pub platform: Platform,
    /// How registries are talked to.
    pub registry: RegistryRequest,
}

impl InspectRequest {
    pub(super) fn new(args: InspectArgs, root: PathBuf, environment: &Environment) -> Result<Self, UsageError> {
        let (document, raw) = (args.document, args.raw);
        let template = args.format.as_deref().filter(|text| *text != "json").map(parse).transpose()?;
        let name = located(args.name, environment)?;
        let platform = args.platform.unwrap_or_default();
        let (temp, registry) = (environment.temp_dir(), RegistryRequest::new(args.registry, environment)?);
        let registry = registry.naming_places([&name]);
        Ok(InspectRequest { root, temp, name, document, raw, template, platform, registry })
    }
}

/// `coracle history`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HistoryRequest {
    /// The folder of the store.
    pub root: PathBuf,
    /// The image in the store, not empty.
    pub name: String,
    /// How to print it.
    pub form: Form,
    /// Whether commands and digests are shown in full.
    pub full: bool,
    /// For which platform.
    pub platform: Platform,
}

impl HistoryRequest {
    pub(super) fn new(args: HistoryArgs, root: PathBuf) -> Result<Self, UsageError> {
        let form = form(args.json, args.quiet, args.format.as_deref())?;
        let platform = args.platform.unwrap_or_default();
        Ok(HistoryRequest { root, name: args.name, form, full: args.no_trunc, platform })
    }
}

/// `coracle tag`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TagRequest {
    /// The folder of the store.
    pub root: PathBuf,
    /// The image in the store, not empty.
    pub name: String,
    /// Its further names, at least one, none empty.
    pub new: Vec<String>,
}

/// `coracle untag`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UntagRequest {
    /// The folder of the store.
    pub root: PathBuf,
    /// At least one name, none empty.
    pub names: Vec<String>,
}

/// `coracle rmi`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RmiRequest {
    /// The folder of the store.
    pub root: PathBuf,
    /// Names, none empty; `None` for all.
    pub names: Option<Vec<String>>,
    /// Whether a name that is not there is no failure.
    pub ignore: bool,
}

/// `coracle diff`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DiffRequest {
    /// The folder of the store.
    pub root: PathBuf,
    /// A folder for the time being.
    pub temp: PathBuf,
    /// An image; its path is absolute.
    pub first: Named,
    /// Another one.
    pub second: Named,
    /// Whether to print JSON.
    pub json: bool,
    /// For which platform.
    pub platform: Platform,
    /// How registries are talked to.
    pub registry: RegistryRequest,
}

impl DiffRequest {
    pub(super) fn new(args: DiffArgs, root: PathBuf, environment: &Environment) -> Result<Self, UsageError> {
        let (first, second) = (located(args.first, environment)?, located(args.second, environment)?);
        let platform = args.platform.unwrap_or_default();
        let (temp, registry) = (environment.temp_dir(), RegistryRequest::new(args.registry, environment)?);
        let registry = registry.naming_places([&first, &second]);
        Ok(DiffRequest { root, temp, first, second, json: args.json, platform, registry })
    }
}
