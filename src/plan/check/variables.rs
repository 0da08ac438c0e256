//! Checks that follow variables through the stages.
//!
//! Names count here, values only where a check needs one; a value that depends on what is not known (a base image that is
//! not there) is not known either, and is never guessed.

use std::collections::{BTreeMap, BTreeSet};

use super::{ContextSource, spelling};
use crate::dockerfile::suggest::did_you_mean;
use crate::dockerfile::{Arg, Copy, CopySource, Instruction, Spanned, Stage, Word, expand};
use crate::oci::{ImageConfig, Platform, Reference};
use crate::plan::config::environment;
use crate::plan::graph::{Graph, Origin};
use crate::source::{Diagnostic, Span};

/// A value of more bytes is not followed.
const LONGEST: usize = 4096;

/// ARGs that speak to the builder.
const NOT_VARIABLES: [&str; 2] = ["BUILDKIT_SBOM_SCAN_CONTEXT", "BUILDKIT_SBOM_SCAN_STAGE"];

/// What a stage knows at some instruction.
#[derive(Debug, Clone)]
struct Scope {
    /// The names that are defined, with their values where those are known.
    names: BTreeMap<String, Option<String>>,
    /// Whether these are all: not on a base image that nobody has seen.
    complete: bool,
    /// Whether a WORKDIR of this file came already.
    has_workdir: bool,
    /// Whether a shell was chosen.
    has_shell: bool,
}

/// A word, expanded as far as that is possible.
#[derive(Debug, Default)]
struct Expanded {
    /// `None` where a variable in it has no known value, or it cannot be expanded.
    value: Option<String>,
    matched: BTreeSet<String>,
    /// Names that are not defined, and for which the word has no answer of its own.
    unmatched: BTreeSet<String>,
}

/// Follows the variables of one file.
pub(super) struct Walk<'a> {
    pub graph: &'a Graph<'a>,
    /// The configuration of a base image, where it is known.
    pub base: &'a dyn Fn(&str) -> Option<ImageConfig>,
    pub found: Vec<Diagnostic>,
    pub sources: Vec<ContextSource>,
    /// The base images that nobody has seen, each once.
    pub unseen: Vec<String>,
    /// The ARGs of the stages, with their values where those are known.
    pub args: Vec<(Arg, Option<String>)>,
    /// The variables that FROM lines use.
    pub from_names: BTreeSet<String>,
    /// The options of `--mount`, variables expanded where they are known.
    pub mounts: Vec<(String, Span)>,
}

impl<'a> Walk<'a> {
    pub fn new(graph: &'a Graph<'a>, base: &'a dyn Fn(&str) -> Option<ImageConfig>) -> Self {
        Walk {
            graph,
            base,
            found: Vec::new(),
            sources: Vec::new(),
            unseen: Vec::new(),
            args: Vec::new(),
            from_names: BTreeSet::new(),
            mounts: Vec::new(),
        }
    }

    /// Looks at the stages with these numbers, and at those below them.
    pub fn stages(&mut self, wanted: &[usize]) {
        let file = self.graph.file;
        let mut scopes: Vec<Option<Scope>> = Vec::with_capacity(file.stages.len());
        for (index, stage) in file.stages.iter().enumerate() {
            if !wanted.contains(&index) {
                scopes.push(None);
                continue;
            }
            self.from(stage);
            let mut scope = match &self.graph.nodes[index].base {
                Origin::Stage(below) => scopes.get(*below).cloned().flatten().unwrap_or_else(|| self.unseen_scope()),
                Origin::Image { name, platform } => {
                    let key = self.graph.options.key(name, platform);
                    match (self.base)(&key) {
                        Some(config) => Scope::on(&config),
                        None => {
                            if !self.unseen.contains(&key) {
                                self.unseen.push(key);
                            }
                            self.unseen_scope()
                        }
                    }
                }
                _ => Scope::on(&ImageConfig::default()),
            };
            for instruction in &stage.instructions {
                self.instruction(&mut scope, instruction);
            }
            scopes.push(Some(scope));
        }
    }

    fn unseen_scope(&self) -> Scope {
        Scope { complete: false, ..Scope::on(&ImageConfig::default()) }
    }

    fn from(&mut self, stage: &Stage) {
        let globals = &self.graph.globals;
        let declared = |name: &str| self.graph.file.global_args.iter().any(|arg| arg.name == name);
        let lookup =
            |name: &str| globals.get(name).map(|value| Some(value.to_owned())).or(declared(name).then_some(None));
        let escape = self.graph.file.directives.escape;
        let mut unmatched = BTreeSet::new();
        let base = expanded(&stage.from, &lookup, escape);
        unmatched.extend(base.unmatched.iter().map(|name| (name.clone(), stage.from.span)));
        self.from_names.extend(base.matched);
        if let Some(word) = &stage.platform {
            let platform = expanded(word, &lookup, escape);
            unmatched.extend(platform.unmatched.iter().map(|name| (name.clone(), word.span)));
            self.found.extend(redundant_platform(word, &platform, globals.get("TARGETPLATFORM")));
            self.found.extend(fixed_platform(word, &platform, stage));
            self.from_names.extend(platform.matched);
        }
        for (name, span) in unmatched {
            let mut known: Vec<&str> = self.graph.file.global_args.iter().map(|arg| arg.name.as_str()).collect();
            known.extend(globals.iter().map(|(name, _)| name));
            let hint =
                did_you_mean(&name, known).unwrap_or_else(|| format!("put `ARG {name}=…` before the first FROM"));
            self.found.push(
                Diagnostic::warning(format!("FROM uses `{name}`, which no ARG before the first FROM declares"))
                    .at(span)
                    .hint(hint)
                    .rule("UndefinedArgInFrom"),
            );
        }
        self.found.extend(self.bad_default(stage));
    }

    /// Returns a warning where the defaults of the ARGs alone make no name of an image.
    fn bad_default(&self, stage: &Stage) -> Option<Diagnostic> {
        const TRANSPORTS: [&str; 4] = ["oci:", "oci-archive:", "docker-archive:", "dir:"];
        if !stage.from.text.contains('$') {
            return None;
        }
        let escape = self.graph.file.directives.escape;
        let mut defaults: BTreeMap<String, String> = BTreeMap::new();
        let predefined = |name: &str| self.graph.globals.get(name).filter(|_| is_platform(name)).map(str::to_owned);
        for Arg { name, default, .. } in &self.graph.file.global_args {
            if let Some(default) = default {
                let lookup = |name: &str| defaults.get(name).cloned().or_else(|| predefined(name));
                let value = expand(default, &lookup, escape).ok()?;
                defaults.insert(name.clone(), value);
            }
        }
        let lookup = |name: &str| defaults.get(name).cloned().or_else(|| predefined(name));
        let name = expand(&stage.from, &lookup, escape).ok()?;
        let good = Reference::parse(&name).is_ok() || TRANSPORTS.iter().any(|transport| name.starts_with(transport));
        (!good).then(|| {
            Diagnostic::warning(format!("without --build-arg, `{}` is no name of an image: {name:?}", stage.from.text))
                .at(stage.from.span)
                .hint("give the ARG a default with which the file can be built")
                .rule("InvalidDefaultArgInFrom")
        })
    }

    fn instruction(&mut self, scope: &mut Scope, instruction: &Spanned<Instruction>) {
        let mut told = BTreeSet::new();
        match &instruction.value {
            Instruction::Arg(args) => self.args(scope, args, &mut told),
            Instruction::Env(pairs) => {
                let mut set = Vec::new();
                for pair in pairs {
                    let name = self.word(scope, &pair.name, &mut told);
                    let value = self.word(scope, &pair.value, &mut told);
                    match name.value {
                        Some(name) => set.push((name, value.value)),
                        // Which name it sets is not known: it may be any.
                        None => scope.complete = false,
                    }
                }
                scope.names.extend(set.into_iter().map(|(name, value)| (name, bounded(value))));
            }
            Instruction::Label(pairs) => {
                for pair in pairs {
                    self.word(scope, &pair.name, &mut told);
                    self.word(scope, &pair.value, &mut told);
                }
            }
            Instruction::Workdir(word) => {
                let path = self.word(scope, word, &mut told).value;
                let is_relative = path.as_ref().is_some_and(|path| !path.starts_with('/'));
                if !scope.has_workdir && is_relative {
                    self.found.push(
                        Diagnostic::warning(format!("WORKDIR `{}` depends on the one of the base image", word.text))
                            .at(word.span)
                            .hint("write an absolute path")
                            .rule("WorkdirRelativePath"),
                    );
                }
                scope.has_workdir = true;
            }
            Instruction::Copy(copy) => self.copy(scope, copy, instruction, &mut told),
            Instruction::Run(run) => {
                for word in run.network.iter().chain(&run.security) {
                    self.word(scope, word, &mut told);
                }
                for word in &run.mounts {
                    let text = self.word(scope, word, &mut told).value.unwrap_or_else(|| word.text.clone());
                    self.mounts.push((text, word.span));
                }
            }
            Instruction::User(word) | Instruction::StopSignal(word) => {
                self.word(scope, word, &mut told);
            }
            Instruction::Volume(words) => {
                for word in words {
                    self.word(scope, word, &mut told);
                }
            }
            Instruction::Expose(words) => {
                for word in words {
                    let expanded = self.word(scope, word, &mut told);
                    self.found.extend(expanded.value.iter().flat_map(|value| expose(word, value)));
                }
            }
            Instruction::Cmd(line) | Instruction::Entrypoint(line) if !scope.has_shell => {
                self.found.extend(spelling::shell_form(instruction.value.keyword(), line, instruction.span));
            }
            Instruction::Shell(_) => scope.has_shell = true,
            _ => {}
        }
    }

    fn args(&mut self, scope: &mut Scope, args: &[Arg], told: &mut BTreeSet<String>) {
        for arg in args {
            let options = &self.graph.options;
            let given = options.build_args.iter().rev().find(|(name, _)| *name == arg.name);
            let value = match (given, &arg.default) {
                (Some((_, given)), _) => Some(given.clone()),
                (None, Some(default)) => self.word(scope, default, told).value,
                (None, None) => self.graph.globals.get(&arg.name).map(str::to_owned),
            };
            self.args.push((arg.clone(), value.clone()));
            scope.names.insert(arg.name.clone(), bounded(value));
        }
    }

    fn copy(&mut self, scope: &Scope, copy: &Copy, whole: &Spanned<Instruction>, told: &mut BTreeSet<String>) {
        let flags = [&copy.chown, &copy.chmod, &copy.link, &copy.parents].into_iter().flatten();
        let add = copy.add.iter().flat_map(|add| [&add.keep_git_dir, &add.checksum, &add.unpack].into_iter().flatten());
        for word in flags.chain(&copy.exclude).chain(add).chain(std::iter::once(&copy.destination)) {
            self.word(scope, word, told);
        }
        for source in &copy.sources {
            match source {
                CopySource::Path(word) => {
                    let expanded = self.word(scope, word, told);
                    if let (None, Some(path)) = (&copy.from, expanded.value) {
                        let keyword = whole.value.keyword();
                        self.sources.push(ContextSource { keyword, path, span: word.span });
                    }
                }
                CopySource::Heredoc(heredoc) if heredoc.expand => {
                    let escape = self.graph.file.directives.escape;
                    let unmatched = names_in(&heredoc.body, escape).into_iter();
                    let unmatched = unmatched.filter(|name| !scope.names.contains_key(*name)).map(str::to_owned);
                    self.tell(scope, unmatched.collect(), heredoc.span, told);
                }
                CopySource::Heredoc(_) => {}
            }
        }
    }

    /// Returns `word` as the stage sees it, and tells of what is not defined in it.
    fn word(&mut self, scope: &Scope, word: &Word, told: &mut BTreeSet<String>) -> Expanded {
        let lookup = |name: &str| scope.names.get(name).cloned();
        let mut expanded = expanded(word, &lookup, self.graph.file.directives.escape);
        if !scope.complete && !expanded.unmatched.is_empty() {
            expanded.value = None;
        }
        self.tell(scope, expanded.unmatched.clone(), word.span, told);
        expanded
    }

    fn tell(&mut self, scope: &Scope, unmatched: BTreeSet<String>, span: Span, told: &mut BTreeSet<String>) {
        if !scope.complete {
            return;
        }
        for name in unmatched {
            if NOT_VARIABLES.contains(&name.as_str()) || !told.insert(name.clone()) {
                continue;
            }
            let hint = did_you_mean(&name, scope.names.keys().map(String::as_str));
            let is_global = self.graph.globals.get(&name).is_some()
                || self.graph.file.global_args.iter().any(|arg| arg.name == name);
            let hint = if is_global { Some(format!("a stage sees it after an `ARG {name}` of its own")) } else { hint };
            self.found.push(
                Diagnostic::warning(format!("the variable `{name}` is not defined here, so it is empty"))
                    .at(span)
                    .maybe_hint(hint)
                    .rule("UndefinedVar"),
            );
        }
    }
}

impl Scope {
    fn on(config: &ImageConfig) -> Self {
        let environment = environment(config);
        Scope {
            names: environment.iter().map(|(name, value)| (name.to_owned(), bounded(Some(value.into())))).collect(),
            complete: true,
            has_workdir: false,
            has_shell: config.config.shell.as_ref().is_some_and(|shell| !shell.is_empty()),
        }
    }
}

/// Returns `value`, if it is short enough to be followed.
fn bounded(value: Option<String>) -> Option<String> {
    value.filter(|value| value.len() <= LONGEST)
}

/// Returns `word` expanded. `lookup` knows whether a name is defined, and maybe its value.
fn expanded(word: &Word, lookup: &dyn Fn(&str) -> Option<Option<String>>, escape: char) -> Expanded {
    if !word.text.contains('$') {
        return Expanded { value: expand(word, &|_| None, escape).ok(), ..Expanded::default() };
    }
    let seen = std::cell::RefCell::new((Expanded::default(), true));
    let value = expand(
        word,
        &|name| {
            let (expanded, all_known) = &mut *seen.borrow_mut();
            match lookup(name) {
                Some(value) => {
                    expanded.matched.insert(name.to_owned());
                    *all_known &= value.is_some();
                    value
                }
                None => {
                    if !has_answer(&word.text, name) {
                        expanded.unmatched.insert(name.to_owned());
                    }
                    None
                }
            }
        },
        escape,
    );
    let (expanded, all_known) = seen.into_inner();
    Expanded { value: value.ok().filter(|_| all_known), ..expanded }
}

/// Returns whether `text` says itself what shall be where `name` is not defined: `${name:-…}` and the like.
fn has_answer(text: &str, name: &str) -> bool {
    let mut rest = text;
    let mut answers = false;
    while let Some(at) = rest.find(name) {
        let (before, after) = (&rest[..at], &rest[at + name.len()..]);
        rest = after;
        if before.ends_with("${") {
            let modifier = after.strip_prefix(':').unwrap_or(after);
            if !modifier.starts_with(['-', '+', '?']) {
                return false;
            }
            answers = true;
        } else if before.ends_with('$') && !after.starts_with(|c: char| c.is_alphanumeric() || c == '_') {
            return false;
        }
    }
    answers
}

/// Returns the names of the variables in a text that has no quotes, but those for which it has an answer.
fn names_in(text: &str, escape: char) -> BTreeSet<&str> {
    let mut names = BTreeSet::new();
    let mut rest = text;
    while let Some(at) = rest.find(['$', escape]) {
        let found = &rest[at..];
        if found.starts_with(escape) {
            let mut chars = found.chars();
            // The escape, and what it keeps from meaning something.
            chars.next();
            chars.next();
            rest = chars.as_str();
            continue;
        }
        let name = found[1..].strip_prefix('{').unwrap_or(&found[1..]);
        let length = name.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(name.len());
        let name = &name[..length];
        if !name.is_empty() && !name.starts_with(|c: char| c.is_ascii_digit()) && !has_answer(text, name) {
            names.insert(name);
        }
        rest = &found[1..];
    }
    names
}

fn is_platform(name: &str) -> bool {
    let platform = name.strip_prefix("BUILD").or_else(|| name.strip_prefix("TARGET"));
    platform.is_some_and(|rest| matches!(rest, "PLATFORM" | "OS" | "OSVERSION" | "ARCH" | "VARIANT" | "STAGE"))
}

fn redundant_platform(word: &Word, platform: &Expanded, target: Option<&str>) -> Option<Diagnostic> {
    let only = platform.unmatched.is_empty()
        && platform.matched.len() == 1
        && platform.matched.contains("TARGETPLATFORM")
        && platform.value.as_deref() == target;
    only.then(|| {
        Diagnostic::warning(format!("`--platform={}` is what FROM takes anyway", word.text))
            .at(word.span)
            .hint("leave it out")
            .rule("RedundantTargetPlatform")
    })
}

fn fixed_platform(word: &Word, platform: &Expanded, stage: &Stage) -> Option<Diagnostic> {
    if !platform.matched.is_empty() || !platform.unmatched.is_empty() {
        return None;
    }
    let parsed: Platform = platform.value.as_deref()?.parse().ok()?;
    let name = stage.name.as_ref().map(|name| name.value.as_str()).unwrap_or_default();
    if name.contains(&parsed.os) || name.contains(&parsed.architecture) {
        return None;
    }
    Some(
        Diagnostic::warning(format!("`--platform={}` is the same whatever the image is built for", word.text))
            .at(word.span)
            .hint("use $BUILDPLATFORM, or say the platform in the name of the stage")
            .rule("FromPlatformFlagConstDisallowed"),
    )
}

/// Returns what is to be said of the ports `value`, which are written as `word`.
fn expose(word: &Word, value: &str) -> Vec<Diagnostic> {
    let mut found = Vec::new();
    for spec in value.split_whitespace() {
        let protocol = spec.rsplit_once('/').map_or("", |(_, protocol)| protocol);
        if protocol != protocol.to_ascii_lowercase() {
            found.push(
                Diagnostic::warning(format!("the protocol of `{spec}` is not in small letters"))
                    .at(word.span)
                    .hint(format!("write `{}`", protocol.to_ascii_lowercase()))
                    .rule("ExposeProtoCasing"),
            );
        }
        if let Some((_, container)) = spec.rsplit_once(':') {
            found.push(
                Diagnostic::warning(format!("`{spec}` has more than a port of the container; that is dropped"))
                    .at(word.span)
                    .hint(format!("write `{container}`"))
                    .rule("ExposeInvalidFormat"),
            );
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_modifier_is_an_answer_only_if_every_use_has_one() {
        for (text, answers) in [
            ("${a:-b}", true),
            ("${a-b}", true),
            ("${a:?no}", true),
            ("x${a+y}", true),
            ("${a}", false),
            ("$a", false),
            ("${a#x}", false),
            ("${a:-b}$a", false),
            ("${a:-b}$ab", true),
            ("${ab:-c}", false),
        ] {
            assert_eq!(has_answer(text, "a"), answers, "{text}");
        }
    }

    #[test]
    fn names_in_a_here_document_are_found_between_quotes_but_not_behind_an_escape() {
        let found = names_in("a=$a '${b}' \\$c ${d:-x} $1 $\n\"$e\"", '\\');
        assert_eq!(found.into_iter().collect::<Vec<_>>(), ["a", "b", "e"]);
    }
}
