//! Checks: what can be said against a Dockerfile that builds all the same.
//!
//! The names and the meaning of the checks are BuildKit's (docs/checks.md lists them). A part of the findings comes from the
//! parser and from [`Graph::lower`], which see them anyway; the rest is looked for here. [`Checks::filter`] leaves out what
//! `# check=` does not want to hear of. Nothing here reads a file or a base image: what is known of them is handed in.

mod comments;
mod outline;
mod rules;
mod settings;
mod spelling;
mod variables;

pub use outline::{ArgOutline, CacheOutline, Outline, SecretOutline, Target, outline, targets};
pub use rules::{RULES, Rule, rule};
pub use settings::{Settings, SettingsError};

use super::Graph;
use crate::dockerfile::Dockerfile;
use crate::oci::ImageConfig;
use crate::source::{Diagnostic, Source, Span};

/// The build argument that says what `# check=` says, and wins over it.
const BUILD_ARG: &str = "BUILDKIT_DOCKERFILE_CHECK";

/// Which stages are looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stages {
    /// Those that the target needs.
    Needed,
    /// All of the file.
    All,
}

/// A source of COPY or ADD in the build context, variables expanded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ContextSource {
    /// COPY or ADD.
    pub keyword: &'static str,
    /// The path or pattern.
    pub path: String,
    /// Where it is written.
    pub span: Span,
}

impl ContextSource {
    /// Returns the warning that an ignore file leaves it out; `rule` says which line of which file does.
    pub fn ignored(&self, rule: &str) -> Diagnostic {
        Diagnostic::warning(format!("{} names `{}`, which an ignore file leaves out", self.keyword, self.path))
            .at(self.span)
            .hint(rule)
            .rule("CopyIgnoredFile")
    }
}

/// What was found, and what could not be looked at.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Findings {
    /// What was found, in no order; not filtered yet.
    pub diagnostics: Vec<Diagnostic>,
    /// What COPY and ADD read from the context, as far as it is known.
    pub sources: Vec<ContextSource>,
    /// The base images that are not known: what they define is not, either, so variables are not checked on them.
    pub unseen: Vec<String>,
}

/// Looks at the file of `graph`, whose text is `source`. `base` knows the configuration of base images, where they are there.
pub fn check(
    source: &Source,
    graph: &Graph<'_>,
    stages: Stages,
    base: &dyn Fn(&str) -> Option<ImageConfig>,
) -> Findings {
    let mut diagnostics = Vec::new();
    spelling::check(source, graph.file, &mut diagnostics);
    let mut walk = variables::Walk { found: diagnostics, ..variables::Walk::new(graph, base) };
    match stages {
        Stages::Needed => walk.stages(&graph.order),
        Stages::All => walk.stages(&(0..graph.file.stages.len()).collect::<Vec<_>>()),
    }
    Findings { diagnostics: walk.found, sources: walk.sources, unseen: walk.unseen }
}

/// Which findings count in one file.
#[derive(Debug, Clone)]
pub struct Checks {
    settings: Settings,
    /// What comments at instructions say, and where those instructions are.
    local: Vec<(Span, Settings)>,
    /// Names that no check has.
    unknown: Vec<Diagnostic>,
}

impl Checks {
    /// Returns what `file`, whose text is `source`, and the build arguments say of the checks.
    ///
    /// # Errors
    /// What they say makes no sense.
    pub fn new(source: &Source, file: &Dockerfile, build_args: &[(String, String)]) -> Result<Self, Diagnostic> {
        let given = build_args.iter().rev().find(|(name, _)| name == BUILD_ARG);
        let (text, span) = match (given, &file.directives.check) {
            (Some((_, value)), _) => (value.as_str(), None),
            (None, Some(directive)) => (directive.value.as_str(), Some(directive.span)),
            (None, None) => ("", None),
        };
        let place = |diagnostic: Diagnostic| match span {
            Some(span) => diagnostic.at(span),
            None => diagnostic.label(BUILD_ARG),
        };
        let settings = Settings::parse(text).map_err(|error| {
            let error = Diagnostic::error(error.to_string());
            place(error).hint("as in `# check=skip=UndefinedVar,StageNameCasing;error=true`")
        })?;
        let unknown = settings.unknown().into_iter().map(|(name, hint)| {
            place(Diagnostic::warning(format!("`# check=` names `{name}`, which is no check")).maybe_hint(hint))
        });
        let instructions = file.stages.iter().flat_map(|stage| {
            std::iter::once(stage.span).chain(stage.instructions.iter().map(|instruction| instruction.span))
        });
        let global = file.global_args.iter().map(|arg| arg.span);
        let local = instructions
            .chain(global)
            .filter_map(|span| Some((span, comments::settings(&comments::above(source, span.start))?)))
            .collect();
        let unknown = unknown.collect();
        Ok(Checks { settings, local, unknown })
    }

    /// Returns those of `found` that count, in the order of the file. What comes from no check counts always.
    pub fn filter(&self, found: impl IntoIterator<Item = Diagnostic>) -> Vec<Diagnostic> {
        let counts = |diagnostic: &Diagnostic| {
            let Some(rule) = diagnostic.rule else { return true };
            let inside = |outer: &Span, inner: Span| outer.start <= inner.start && inner.start <= outer.end;
            let local = diagnostic.span.and_then(|span| self.local.iter().find(|(outer, _)| inside(outer, span)));
            match local {
                Some((_, more)) => self.settings.makes_with(more, rule),
                None => self.settings.makes(rule),
            }
        };
        let mut kept: Vec<Diagnostic> = self.unknown.iter().cloned().chain(found.into_iter().filter(counts)).collect();
        kept.sort_by_key(|diagnostic| diagnostic.span);
        kept.dedup();
        kept
    }

    /// Returns the names of the checks that found something, if that is an error: sorted, each once.
    pub fn failed(&self, kept: &[Diagnostic]) -> Option<Vec<&'static str>> {
        let mut rules: Vec<&'static str> = kept.iter().filter_map(|diagnostic| diagnostic.rule).collect();
        rules.sort_unstable();
        rules.dedup();
        (self.settings.error && !rules.is_empty()).then_some(rules)
    }
}

#[cfg(test)]
mod tests;
