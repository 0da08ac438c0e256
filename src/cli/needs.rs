//! What a Dockerfile needs: read and planned as a build does it, without building.

use std::collections::BTreeMap;
use std::path::PathBuf;

use super::finder::Finder;
use super::given;
use super::registry::LazyClient;
use super::report::{Failure, Style};
use super::request::{NeedsRequest, SourcesRequest};
use super::sources::{self, Sources};
use crate::dockerfile;
use crate::fetch::{Fetcher, GitDir};
use crate::net::Cancel;
use crate::oci::{ImageConfig, Platform};
use crate::plan::{BaseImage, ContextKind, Graph, GraphOptions, ImageUse, Plan};
use crate::progress::Sink;
use crate::source::{Diagnostic, Source, Span};
use crate::store::Store;

/// What is needed to read a Dockerfile and to look for what it names.
pub(super) struct Reader<'a> {
    pub request: &'a NeedsRequest,
    pub store: Store,
    pub fetcher: Fetcher,
    pub client: LazyClient<'a>,
    pub sink: &'a dyn Sink,
}

/// A Dockerfile that was read.
pub(super) struct Read<'a> {
    /// Where it is on this machine; `None` where it is not.
    pub dockerfile: Option<PathBuf>,
    request: &'a NeedsRequest,
    source: Source,
    contexts: Vec<(String, ContextKind)>,
    style: Style,
}

/// A Dockerfile that was planned.
pub(super) struct Needs {
    pub plan: Plan,
    source: Source,
    style: Style,
}

impl<'a> Reader<'a> {
    pub fn open(request: &'a NeedsRequest, sink: &'a dyn Sink) -> Result<Self, Failure> {
        let store = Store::open(&request.root)?;
        let given = given::given(&request.given)?;
        let fetcher = sources::fetcher(&request.sources, &store, &given, Cancel::default());
        let client = LazyClient::new(&request.registry, Cancel::default());
        Ok(Reader { request, store, fetcher, client, sink })
    }

    pub fn finder(&self) -> Finder<'_> {
        Finder { client: &self.client, store: &self.store, sink: self.sink, bundle: None }
    }

    /// Reads the Dockerfile.
    pub fn read(&self, style: Style) -> Result<Read<'a>, Failure> {
        let request: &SourcesRequest = &self.request.sources;
        let git_dir = GitDir::Dropped;
        let sources = Sources { request, store: &self.store, fetcher: &self.fetcher, git_dir, sink: self.sink };
        let (main, source) = sources.main()?;
        let dockerfile = main.dockerfile_here();
        let read = Read { dockerfile, request: self.request, source, contexts: sources::kinds(request), style };
        self.client.settle(|| read.bases())?;
        Ok(read)
    }
}

impl Read<'_> {
    /// Plans the Dockerfile; `config` gives the configuration of each image that it names.
    pub fn needs(
        &self,
        platform: Option<&Platform>,
        config: &mut dyn FnMut(&ImageUse) -> Result<ImageConfig, Failure>,
    ) -> Result<Needs, Failure> {
        let failed = |diagnostics: Vec<Diagnostic>| super::build::rendered(&diagnostics, &self.source, self.style);
        let file = dockerfile::parse(&self.source).map_err(failed)?;
        let mut graph = Graph::new(&file, self.options(platform)).map_err(failed)?;
        let mut known = BTreeMap::new();
        loop {
            let more = graph.take_triggers(&known).map_err(failed)?;
            if more.is_empty() {
                break;
            }
            for used in more {
                let found = config(&used).map_err(|failure| at(used.span, failure, &self.source, self.style))?;
                known.insert(used.key, BaseImage { config: found });
            }
        }
        let (plan, _) = graph.lower(&known).map_err(failed)?;
        Ok(Needs { plan, source: self.source.clone(), style: self.style })
    }

    /// Returns the images that the Dockerfile builds on.
    fn bases(&self) -> Result<Vec<String>, Failure> {
        let failed = |diagnostics: Vec<Diagnostic>| super::build::rendered(&diagnostics, &self.source, self.style);
        let file = dockerfile::parse(&self.source).map_err(failed)?;
        let graph = Graph::new(&file, self.options(None)).map_err(failed)?;
        Ok(graph.bases().map(str::to_owned).collect())
    }

    fn options(&self, platform: Option<&Platform>) -> GraphOptions {
        GraphOptions {
            target: self.request.target.clone(),
            build_args: self.request.build_args.clone(),
            platform: platform.cloned(),
            contexts: self.contexts.clone(),
            ..GraphOptions::default()
        }
    }
}

impl Needs {
    /// Returns a failure at its place in the Dockerfile.
    pub fn at(&self, span: Span, failure: Failure) -> Failure {
        at(span, failure, &self.source, self.style)
    }
}

/// Returns a failure at its place in a Dockerfile.
pub(super) fn at(span: Span, failure: Failure, source: &Source, style: Style) -> Failure {
    let Some(message) = failure.message() else { return failure };
    let text = Diagnostic::error(message).at(span).render(source, style == Style::Colour);
    let shown = Failure::rendered(failure.status(), text);
    failure.hints().iter().cloned().fold(shown, Failure::with_hint)
}
