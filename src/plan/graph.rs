use std::collections::{BTreeMap, HashSet};

use super::env::Variables;
use super::globals::{base_name, base_platform, globals};
use super::names::{Names, no_base};
use super::{mount, triggers};
use crate::dockerfile::suggest::did_you_mean;
use crate::dockerfile::{Dockerfile, Instruction, Spanned, Word, expand};
use crate::oci::Platform;
use crate::source::{Diagnostic, Span};

/// What the user may choose about a build.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct GraphOptions {
    /// The stage to build; the last one where there is none.
    pub target: Option<String>,
    /// Values for ARGs, name and value. Of several for one name the last counts.
    pub build_args: Vec<(String, String)>,
    /// What the image is made for. `None`: for what its base image is for, and that is looked for among those for this machine.
    pub platform: Option<Platform>,
    /// What this machine is.
    pub build_platform: Platform,
    /// For which platform images have their name alone as their key: `None` for that of the build. Graphs whose plans are to be
    /// [joined](super::join) have the same.
    pub plain: Option<Platform>,
    /// Named contexts: each stands for the stages and images of its name.
    pub contexts: Vec<(String, ContextKind)>,
    /// Whether stages have the labels of what they stand on.
    pub labels: BaseLabels,
}

/// Whether a stage has the labels of the image or the stage that it stands on.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum BaseLabels {
    /// It has.
    #[default]
    Inherited,
    /// It has its own alone.
    Dropped,
}

/// What a named context is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ContextKind {
    /// An image: what would stand behind FROM.
    Image(String),
    /// A folder, of whatever origin: COPY and mounts can read it.
    Folder,
}

impl GraphOptions {
    /// Returns the platform of the images that the build stands on, where a FROM does not say otherwise.
    pub fn target_platform(&self) -> &Platform {
        self.platform.as_ref().unwrap_or(&self.build_platform)
    }

    /// Returns [`ImageUse::key`] of an image.
    pub(super) fn key(&self, name: &str, platform: &Platform) -> String {
        if platform == self.plain.as_ref().unwrap_or(self.target_platform()) {
            name.to_owned()
        } else {
            format!("{name} ({platform})")
        }
    }
}

/// The stages that a target needs, and the images that they need.
#[derive(Debug)]
pub struct Graph<'a> {
    pub(super) file: &'a Dockerfile,
    pub(super) options: GraphOptions,
    /// The ARGs before the first FROM, and the predefined ones.
    pub(super) globals: Variables,
    pub(super) nodes: Vec<Node>,
    /// The stages that the target needs, numbers in the file, each behind those it needs.
    pub(super) order: Vec<usize>,
    /// The bytes of all triggers.
    pub(super) trigger_bytes: usize,
    names: Names,
    pub(super) target: usize,
    images: Vec<ImageUse>,
}

/// An image that the Dockerfile names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImageUse {
    /// What it is called in the plan, and under which [`Graph::lower`] looks for it: its name, and the platform where that is not the
    /// one of the build.
    pub key: String,
    /// The name, variables expanded, else as written; that of the image, where a named context is one.
    pub name: String,
    /// For which platform the image is wanted.
    pub platform: Platform,
    /// Where it is named first.
    pub span: Span,
    /// What to tell the user if there is no such image: a stage may have been meant.
    pub stage_hint: Option<String>,
}

/// Where a stage, a COPY or a mount gets its files from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Origin {
    Scratch,
    Image {
        name: String,
        platform: Platform,
    },
    /// A number in the file.
    Stage(usize),
    /// A named context.
    Folder(String),
}

/// A stage with its names resolved.
#[derive(Debug)]
pub(super) struct Node {
    pub base: Origin,
    /// The named context that stands for this stage, where it is a folder.
    pub folder: Option<String>,
    /// Whether a named context stands for this stage: its instructions do not count.
    pub replaced: bool,
    /// What its base makes it do first.
    pub triggers: Vec<Spanned<Instruction>>,
    /// Whether the triggers of its base are known.
    pub has_triggers: bool,
    /// What each `--from` of COPY, and each `from=` of a mount, means. By the number of the instruction in its stage, triggers first, and
    /// that of the mount in its RUN.
    pub froms: BTreeMap<(usize, usize), Origin>,
}

/// Hints are looked for this many times: a file of very many unknown names is not compared with itself.
const MOST_HINTS: usize = 100;

impl ImageUse {
    /// Returns the error that there is no such image.
    pub fn not_found(&self) -> Diagnostic {
        let error = Diagnostic::error(format!("no stage or image named `{}`", self.name)).at(self.span);
        error.maybe_hint(self.stage_hint.clone())
    }
}

impl<'a> Graph<'a> {
    /// Returns the stages that `options.target` needs.
    ///
    /// # Errors
    /// All of: a target that does not exist, a variable that cannot be expanded, a stage that copies from itself or from
    /// one behind it.
    pub fn new(file: &'a Dockerfile, options: GraphOptions) -> Result<Self, Vec<Diagnostic>> {
        let mut errors = Vec::new();
        let globals = globals(file, &options, &mut errors);
        let names = Names::new(&options.contexts);
        let mut graph = Graph {
            file,
            options,
            globals,
            nodes: Vec::with_capacity(file.stages.len()),
            order: Vec::new(),
            trigger_bytes: 0,
            names,
            target: 0,
            images: Vec::new(),
        };
        for index in 0..file.stages.len() {
            graph.add_stage(index, &mut errors);
        }
        for index in 0..file.stages.len() {
            graph.resolve_froms(index, &mut errors);
        }
        let target = match &graph.options.target {
            None => {
                let last = file.stages.len().checked_sub(1);
                if last.is_none() {
                    errors.push(Diagnostic::error("there is no stage to build"));
                }
                last
            }
            Some(name) => find_target(name, &graph.names, &mut errors),
        };
        if let Some(target) = target {
            graph.target = target;
            if let Some(name) = &graph.nodes[target].folder {
                errors.push(no_base(name, &file.stages[target].from));
            }
            graph.find_order(&mut errors);
        }
        if !errors.is_empty() {
            errors.sort_by_key(|error| error.span);
            return Err(errors);
        }
        Ok(graph)
    }

    /// Returns the images that the build needs, each once, in the order of the file.
    pub fn images(&self) -> &[ImageUse] {
        &self.images
    }

    /// Returns the images that the stages which the build needs begin with: what their FROM names, or a named context in its place.
    pub fn bases(&self) -> impl Iterator<Item = &str> {
        self.order.iter().filter_map(|&index| match &self.nodes[index].base {
            Origin::Image { name, .. } => Some(name.as_str()),
            _ => None,
        })
    }

    /// Returns the time that the file sets for the image, in an ARG before the first FROM or by a build argument: the value of
    /// SOURCE_DATE_EPOCH.
    pub fn source_date_epoch(&self) -> Option<&str> {
        const NAME: &str = "SOURCE_DATE_EPOCH";
        let given =
            self.options.build_args.iter().rev().find(|(name, _)| name == NAME).map(|(_, value)| value.as_str());
        given.or_else(|| self.globals.get(NAME)).filter(|value| !value.is_empty())
    }

    /// Adds the stage `index` of the file with its base.
    fn add_stage(&mut self, index: usize, errors: &mut Vec<Diagnostic>) {
        let stage = &self.file.stages[index];
        let escape = self.file.directives.escape;
        let before = errors.len();
        let name = base_name(stage, &self.globals, escape, errors);
        let platform = base_platform(stage.platform.as_ref(), &self.globals, escape, errors);
        let platform = platform.unwrap_or_else(|| self.options.target_platform().clone());
        let context = stage.name.as_ref().and_then(|name| self.names.context(&name.value)).cloned();
        let mut node = Node {
            base: Origin::Scratch,
            folder: None,
            replaced: context.is_some(),
            triggers: Vec::new(),
            has_triggers: false,
            froms: BTreeMap::new(),
        };
        match context {
            Some((_, ContextKind::Image(name))) => node.base = Origin::Image { name, platform },
            Some((name, ContextKind::Folder)) => node.folder = Some(name),
            None => match self.names.base(&name, &stage.from, &platform) {
                Ok(base) => node.base = base,
                Err(error) if errors.len() == before => errors.push(error),
                // What is wrong with the name is told already.
                Err(_) => {}
            },
        }
        if let Origin::Stage(below) = node.base {
            if let Some(name) = &self.nodes[below].folder {
                errors.push(no_base(name, &stage.from));
            }
            if !self.nodes[below].replaced {
                let triggers = triggers::of_stage(self.file, below);
                node.triggers = triggers::read(&triggers, stage.from.span, &mut self.trigger_bytes, errors);
            }
            node.has_triggers = true;
        }
        self.nodes.push(node);
        if let Some(name) = &stage.name {
            self.names.add(&name.value, index);
        }
    }

    /// Returns the instructions of a stage, those that its base makes it do first.
    pub(super) fn instructions(&self, index: usize) -> impl Iterator<Item = &Spanned<Instruction>> {
        let node = &self.nodes[index];
        let own: &[_] = if node.replaced { &[] } else { &self.file.stages[index].instructions };
        node.triggers.iter().chain(own)
    }

    /// Returns the instruction `number` of a stage.
    pub(super) fn instruction(&self, index: usize, number: usize) -> Option<&Spanned<Instruction>> {
        let triggers = &self.nodes[index].triggers;
        triggers.get(number).or_else(|| self.file.stages[index].instructions.get(number - triggers.len()))
    }

    /// Finds what each `from` in the stage `index` means.
    pub(super) fn resolve_froms(&mut self, index: usize, errors: &mut Vec<Diagnostic>) {
        let mut found = BTreeMap::new();
        let platform = self.options.target_platform();
        for (number, instruction) in self.instructions(index).enumerate() {
            let is_mount = matches!(instruction.value, Instruction::Run(_));
            for (mount, from) in froms(&instruction.value) {
                let error = match self.names.from(&from, index, &self.nodes, platform) {
                    Ok(Origin::Scratch) if !is_mount => {
                        Diagnostic::error("there is nothing in `scratch` to copy").at(from.span)
                    }
                    Ok(origin) => {
                        found.insert((number, mount), origin);
                        continue;
                    }
                    Err(error) => error,
                };
                let is_trigger = number < self.nodes[index].triggers.len();
                errors.push(if is_trigger { triggers::labelled(error, &instruction.text) } else { error });
            }
        }
        self.nodes[index].froms = found;
    }

    /// Finds the stages that the target needs, and the images that they need.
    pub(super) fn find_order(&mut self, errors: &mut Vec<Diagnostic>) {
        self.order = reachable(self.target, &self.nodes);
        self.refuse_forward_froms(errors);
        self.images = self.find_images();
    }

    /// A stage may copy from those before it only. What the target does not need is not looked at, as in BuildKit.
    fn refuse_forward_froms(&self, errors: &mut Vec<Diagnostic>) {
        for &index in &self.order {
            for (at, origin) in &self.nodes[index].froms {
                if let Origin::Stage(stage) = origin
                    && *stage > index
                {
                    let from = self.written(index, *at);
                    errors.push(
                        Diagnostic::error(format!("the stage `{}` is defined further down", from.text))
                            .at(from.span)
                            .hint("a stage can copy from those before it only"),
                    );
                }
            }
        }
    }

    /// Returns the `from` of a mount, or of a COPY, as it is written.
    fn written(&self, stage: usize, (number, mount): (usize, usize)) -> Word {
        let froms = self.instruction(stage, number).map(|it| froms(&it.value)).unwrap_or_default();
        froms.into_iter().find(|(other, _)| *other == mount).map(|(_, from)| from).unwrap_or_default()
    }

    fn find_images(&self) -> Vec<ImageUse> {
        let stages: Vec<&str> =
            self.file.stages.iter().filter_map(|stage| Some(stage.name.as_ref()?.value.as_str())).collect();
        let mut seen = HashSet::new();
        let mut images = Vec::new();
        for &index in &self.order {
            let node = &self.nodes[index];
            let base = (&node.base, self.file.stages[index].from.span);
            let froms = node.froms.iter().map(|(at, origin)| (origin, self.written(index, *at).span));
            for (origin, span) in std::iter::once(base).chain(froms) {
                let Origin::Image { name, platform } = origin else { continue };
                let key = self.options.key(name, platform);
                if seen.insert(key.clone()) {
                    let stage_hint = (images.len() < MOST_HINTS).then(|| stage_hint(name, &stages)).flatten();
                    images.push(ImageUse { key, name: name.clone(), platform: platform.clone(), span, stage_hint });
                }
            }
        }
        images
    }
}

/// Returns `word` expanded by `variables`.
pub(super) fn expand_with(word: &Word, variables: &Variables, escape: char) -> Result<String, Diagnostic> {
    let lookup = |name: &str| variables.get(name).map(str::to_owned);
    expand(word, &lookup, escape).map_err(|error| Diagnostic::error(error.to_string()).at(word.span))
}

/// Returns each `--from` or `from=` of an instruction, with the number of the mount.
fn froms(instruction: &Instruction) -> Vec<(usize, Word)> {
    match instruction {
        Instruction::Copy(copy) => copy.from.iter().map(|from| (0, from.clone())).collect(),
        Instruction::Run(run) => {
            let mounts = run.mounts.iter().enumerate();
            mounts.filter_map(|(number, mount)| Some((number, mount::from(mount)?))).collect()
        }
        _ => Vec::new(),
    }
}

fn find_target(name: &str, names: &Names, errors: &mut Vec<Diagnostic>) -> Option<usize> {
    let found = names.stage(name);
    if found.is_none() {
        let mut known = names.stages();
        let hint = if known.is_empty() {
            "no stage has a name: write FROM … AS name".into()
        } else {
            let close = did_you_mean(name, known.iter().copied());
            let more = if known.len() > 20 { ", …" } else { "" };
            known.truncate(20);
            close.unwrap_or_else(|| format!("the stages are: `{}`{more}", known.join("`, `")))
        };
        errors.push(Diagnostic::error(format!("no stage named `{name}`")).hint(hint));
    }
    found
}

/// Returns all stages that `target` needs, in the order of the file.
fn reachable(target: usize, nodes: &[Node]) -> Vec<usize> {
    let mut needed = vec![false; nodes.len()];
    let mut open = vec![target];
    while let Some(index) = open.pop() {
        if std::mem::replace(&mut needed[index], true) {
            continue;
        }
        let node = &nodes[index];
        open.extend(std::iter::once(&node.base).chain(node.froms.values()).filter_map(|origin| match origin {
            Origin::Stage(stage) => Some(*stage),
            _ => None,
        }));
    }
    (0..nodes.len()).filter(|&index| needed[index]).collect()
}

fn stage_hint(name: &str, stages: &[&str]) -> Option<String> {
    let lower = name.to_lowercase();
    if stages.iter().take(1000).any(|stage| *stage == lower) {
        return Some(format!("the stage `{lower}` is defined further down; FROM sees those before it only"));
    }
    did_you_mean(name, stages.iter().copied())
}
