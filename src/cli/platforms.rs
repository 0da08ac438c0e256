//! A build for several platforms: a graph for each, and one plan of all.

use std::collections::BTreeMap;

use oci_spec::image::Descriptor;

use super::args::PullPolicy;
use super::finder::{self, Finder, Found};
use super::locked::Locked;
use super::report::Failure;
use super::request::{BuildRequest, Platforms};
use super::{build, bundled, needs, sources};
use crate::dockerfile::Dockerfile;
use crate::oci::{Platform, digest_of, media_type, os_platform};
use crate::output::OutputError;
use crate::output::content::{Content, Origin, Selection, Top, read_document};
use crate::plan::{BaseImage, BaseLabels, Graph, GraphOptions, ImageUse, Plan, join};
use crate::source::{Diagnostic, Source};

/// How many indexes may lead to an image.
const MAX_DEPTH: usize = 8;

/// The stages of a Dockerfile: for what its base is for, or for each of several platforms.
pub(super) struct Graphs<'a> {
    graphs: Vec<Graph<'a>>,
    /// Those of the graphs; empty where none is asked for.
    platforms: Vec<Platform>,
}

impl<'a> Graphs<'a> {
    /// Returns the stages as the request wants them, but for [`Platforms::All`], for which [`common`] has the platforms.
    pub fn new(file: &'a Dockerfile, request: &BuildRequest) -> Result<Self, Vec<Diagnostic>> {
        let platforms = match &request.platforms {
            Platforms::OfBase | Platforms::All => Vec::new(),
            Platforms::One(platform) => vec![platform.clone()],
            Platforms::Several(platforms) => platforms.clone(),
        };
        Self::of(file, request, platforms)
    }

    /// Returns the stages for each of `platforms`.
    pub fn of(file: &'a Dockerfile, request: &BuildRequest, platforms: Vec<Platform>) -> Result<Self, Vec<Diagnostic>> {
        let graphs = match &platforms[..] {
            [] => vec![graph(file, request, None, None)?],
            [first, ..] => {
                let graph = |platform: &Platform| graph(file, request, Some(platform), Some(first));
                platforms.iter().map(graph).collect::<Result<_, _>>()?
            }
        };
        Ok(Graphs { graphs, platforms })
    }

    /// Returns the stages for each platform.
    pub fn each(&self) -> &[Graph<'a>] {
        &self.graphs
    }

    /// Returns the stages for the first platform.
    pub fn first(&self) -> &Graph<'a> {
        &self.graphs[0]
    }

    /// Returns whether there is more than one platform.
    pub fn are_several(&self) -> bool {
        self.graphs.len() > 1
    }

    /// As [`Graph::take_triggers`]: each image once.
    pub fn take_triggers(&mut self, bases: &BTreeMap<String, BaseImage>) -> Result<Vec<ImageUse>, Vec<Diagnostic>> {
        let mut images: Vec<ImageUse> = Vec::new();
        for graph in &mut self.graphs {
            for image in graph.take_triggers(bases)? {
                if images.iter().all(|known| known.key != image.key) {
                    images.push(image);
                }
            }
        }
        Ok(images)
    }

    /// Returns one plan of all, and for each platform what the user should know about it.
    pub fn lower(&self, bases: &BTreeMap<String, BaseImage>) -> Result<(Plan, Vec<Vec<Diagnostic>>), Vec<Diagnostic>> {
        let (mut parts, mut warnings) = (Vec::new(), Vec::new());
        for (at, graph) in self.graphs.iter().enumerate() {
            let (plan, found) = graph.lower(bases)?;
            parts.push((self.platforms.get(at).cloned().unwrap_or_default(), plan));
            warnings.push(found);
        }
        Ok((join(parts), warnings))
    }
}

fn graph<'a>(
    file: &'a Dockerfile,
    request: &BuildRequest,
    platform: Option<&Platform>,
    plain: Option<&Platform>,
) -> Result<Graph<'a>, Vec<Diagnostic>> {
    let options = GraphOptions {
        target: request.target.clone(),
        build_args: request.build_args.clone(),
        platform: platform.cloned(),
        plain: plain.cloned(),
        contexts: sources::kinds(&request.sources),
        labels: if request.changes.drops_labels { BaseLabels::Dropped } else { BaseLabels::Inherited },
        ..GraphOptions::default()
    };
    Graph::new(file, options)
}

/// Adds to `all` what is not in it yet.
pub(super) fn add_new(all: &mut Vec<Diagnostic>, found: Vec<Diagnostic>) {
    for one in found {
        if all.iter().all(|known| (&known.message, known.span) != (&one.message, one.span)) {
            all.push(one);
        }
    }
}

/// Returns the platforms of Linux for which each base image of the build has an image, in the order of the first of them.
pub(super) fn common(
    file: &Dockerfile,
    request: &BuildRequest,
    finder: &Finder<'_>,
    locked: Option<&Locked<'_>>,
    source: &Source,
) -> Result<Vec<Platform>, Failure> {
    let failed = |errors: Vec<Diagnostic>| build::rendered(&errors, source, request.style);
    let here = Graphs::of(file, request, Vec::new()).map_err(failed)?;
    let mut known: BTreeMap<String, Vec<Platform>> = BTreeMap::new();
    let mut look = |used: &ImageUse| -> Result<Vec<Platform>, Failure> {
        if let Some(platforms) = known.get(&used.name) {
            return Ok(platforms.clone());
        }
        let platforms = platforms_of(used, request, finder, locked);
        let platforms = platforms.map_err(|failure| needs::at(used.span, failure, source, request.style))?;
        known.insert(used.name.clone(), platforms.clone());
        Ok(platforms)
    };
    let mut candidates: Vec<Platform> = Vec::new();
    for used in here.first().images() {
        for platform in look(used)? {
            if platform.os == "linux" && !candidates.contains(&platform) {
                candidates.push(platform);
            }
        }
    }
    let mut common = Vec::new();
    for platform in candidates {
        // Which images there are may depend on the platform.
        let graphs = Graphs::of(file, request, vec![platform.clone()]).map_err(failed)?;
        let mut fits = true;
        for used in graphs.first().images() {
            fits &= look(used)?.iter().any(|image| used.platform.rank(image).is_some());
        }
        if fits {
            common.push(platform);
        }
    }
    if !common.is_empty() {
        return Ok(common);
    }
    let error = match known.is_empty() {
        true => Diagnostic::error("--all-platforms goes by the base images, and there is none here but scratch")
            .hint("name the platforms: --platform=linux/amd64,linux/arm64"),
        false => known.iter().fold(
            Diagnostic::error("there is no platform that all base images have in common"),
            |error, (name, platforms)| error.hint(format!("{name} is for {}", listed(platforms))),
        ),
    };
    Err(failed(vec![error]))
}

pub(super) fn listed(platforms: &[Platform]) -> String {
    platforms.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

/// Returns for which platforms there is an image of a name.
fn platforms_of(
    used: &ImageUse,
    request: &BuildRequest,
    finder: &Finder<'_>,
    locked: Option<&Locked<'_>>,
) -> Result<Vec<Platform>, Failure> {
    if let Some(bundle) = finder.bundle.filter(|_| !finder::is_place(&used.name))
        && let Some(row) = bundled::find(bundle, &used.name)?
    {
        // Its index may list more.
        return Ok(row.platforms.clone());
    }
    let key = finder::image_key(&used.name)?;
    let pin = locked.and_then(|locked| locked.pins.images.get(&key));
    let looks_here =
        pin.is_none() && finder.bundle.is_none() && matches!(request.pull, PullPolicy::Missing | PullPolicy::Never);
    let found: Found<'_> = match if looks_here { finder.stored(&used.name)? } else { None } {
        Some(found) => found,
        None if request.pull == PullPolicy::Never => {
            return Err(super::classify::NoImage { name: used.name.clone() }.into());
        }
        None => finder.find(&used.name, pin)??,
    };
    of_origin(found.origin()?.as_ref())
}

/// Returns for which platforms there is an image.
pub(super) fn of_origin(origin: &dyn Origin) -> Result<Vec<Platform>, Failure> {
    let mut platforms = Vec::new();
    add_platforms(origin, &origin.top()?.starts, 0, &mut platforms)?;
    Ok(platforms)
}

fn add_platforms(
    origin: &dyn Origin,
    entries: &[Descriptor],
    depth: usize,
    platforms: &mut Vec<Platform>,
) -> Result<(), Failure> {
    for entry in entries {
        let is_index = media_type::is_index(entry.media_type().as_ref());
        let platform = match os_platform(entry) {
            _ if is_index && depth < MAX_DEPTH => {
                let what = format!("index {}", digest_of(entry).map_err(OutputError::from)?);
                let bytes = read_document(origin, entry, &what)?;
                let parts = crate::oci::Parts::parse(&bytes, Some(entry.media_type().as_ref()), &what);
                let children = parts.map_err(OutputError::from)?.children.unwrap_or_default();
                add_platforms(origin, &children, depth + 1, platforms)?;
                continue;
            }
            // Attestations say unknown/unknown.
            Some(platform) if platform.os == "unknown" => continue,
            Some(platform) => platform,
            None => {
                let top = Top { starts: vec![entry.clone()], names: Vec::new() };
                let content = Content::gather(origin, &top, &Selection::Platform(Platform::host()))?;
                match content.image().map_err(OutputError::from)? {
                    Some(image) => image.config.platform,
                    None => continue,
                }
            }
        };
        let platform = platform.normalised();
        if !platforms.contains(&platform) {
            platforms.push(platform);
        }
    }
    Ok(())
}
