use std::collections::{BTreeMap, HashMap};

use super::env::Variables;
use super::mount;
use crate::dockerfile::suggest::did_you_mean;
use crate::dockerfile::{Dockerfile, Instruction, Stage, Word, expand};
use crate::oci::Platform;
use crate::source::{Diagnostic, Span};

/// What the user may choose about a build.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct GraphOptions {
    /// The stage to build; the last one where there is none.
    pub target: Option<String>,
    /// Values for ARGs, name and value. Of several for one name the last counts.
    pub build_args: Vec<(String, String)>,
    /// What the image is made for.
    pub platform: Platform,
    /// What this machine is.
    pub build_platform: Platform,
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
    images: Vec<ImageUse>,
}

/// An image that the Dockerfile names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImageUse {
    /// The name, variables expanded, else as written.
    pub name: String,
    /// Where it is named first.
    pub span: Span,
    /// What to tell the user if there is no such image: a stage may have been meant.
    pub stage_hint: Option<String>,
}

/// Where a stage or a COPY gets its files from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Origin {
    Scratch,
    Image(String),
    /// A number in the file.
    Stage(usize),
}

/// A stage with its names resolved.
#[derive(Debug)]
pub(super) struct Node {
    pub base: Origin,
    /// What each `--from` of COPY, and each `from=` of a mount, means. By the number of the instruction in its stage, and that of the
    /// mount in its RUN.
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
        let (names, mut nodes) = resolve_bases(file, &globals, &mut errors);
        for (index, stage) in file.stages.iter().enumerate() {
            resolve_froms(index, stage, &names, &mut nodes, &mut errors);
        }
        let target = match &options.target {
            None => {
                let last = file.stages.len().checked_sub(1);
                if last.is_none() {
                    errors.push(Diagnostic::error("there is no stage to build"));
                }
                last
            }
            Some(name) => find_target(name, &names, &mut errors),
        };
        let order = target.map(|target| reachable(target, &nodes)).unwrap_or_default();
        refuse_forward_froms(file, &nodes, &order, &mut errors);
        if !errors.is_empty() {
            errors.sort_by_key(|error| error.span);
            return Err(errors);
        }
        let images = images(file, &nodes, &order);
        Ok(Graph { file, options, globals, nodes, order, images })
    }

    /// Returns the images that the build needs, each once, in the order of the file.
    pub fn images(&self) -> &[ImageUse] {
        &self.images
    }
}

/// Returns the variables that FROM lines see, and that a stage may ask for by an ARG without a default.
fn globals(file: &Dockerfile, options: &GraphOptions, errors: &mut Vec<Diagnostic>) -> Variables {
    let given: HashMap<&str, &str> =
        options.build_args.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    let mut globals = Variables::default();
    for (prefix, platform) in [("BUILD", &options.build_platform), ("TARGET", &options.platform)] {
        for (suffix, value) in [
            ("PLATFORM", platform.to_string()),
            ("OS", platform.os.clone()),
            ("OSVERSION", String::new()),
            ("ARCH", platform.architecture.clone()),
            ("VARIANT", platform.variant.clone().unwrap_or_default()),
        ] {
            let name = format!("{prefix}{suffix}");
            globals.set(&name, given.get(name.as_str()).copied().unwrap_or(&value));
        }
    }
    let last = file.stages.last().and_then(|stage| stage.name.as_ref()).map(|name| name.value.as_str());
    let target = options.target.as_deref().or(last).unwrap_or("default");
    globals.set("TARGETSTAGE", given.get("TARGETSTAGE").copied().unwrap_or(target));

    for arg in &file.global_args {
        if let Some(value) = given.get(arg.name.as_str()) {
            globals.set(&arg.name, value);
        } else if let Some(default) = &arg.default {
            match expand_with(default, &globals, file.directives.escape) {
                Ok(value) => globals.set(&arg.name, &value),
                Err(error) => errors.push(error),
            }
        }
    }
    globals
}

/// Returns `word` expanded by `variables`.
pub(super) fn expand_with(word: &Word, variables: &Variables, escape: char) -> Result<String, Diagnostic> {
    let lookup = |name: &str| variables.get(name).map(str::to_owned);
    expand(word, &lookup, escape).map_err(|error| Diagnostic::error(error.to_string()).at(word.span))
}

/// Returns the number of the stage that each name means at the end of the file, and the stages with their bases.
fn resolve_bases(
    file: &Dockerfile,
    globals: &Variables,
    errors: &mut Vec<Diagnostic>,
) -> (HashMap<String, usize>, Vec<Node>) {
    let mut names: HashMap<String, usize> = HashMap::new();
    let mut nodes = Vec::with_capacity(file.stages.len());
    for (index, stage) in file.stages.iter().enumerate() {
        if let Some(platform) = &stage.platform {
            errors.push(Diagnostic::error("`FROM --platform` is not supported yet").at(platform.span));
        }
        let name = match expand_with(&stage.from, globals, file.directives.escape) {
            Ok(name) => name,
            Err(error) => {
                errors.push(error);
                String::new()
            }
        };
        let base = match names.get(&name.to_lowercase()) {
            Some(&earlier) => {
                let triggers = &file.stages[earlier].instructions;
                if triggers.iter().any(|it| matches!(it.value, Instruction::OnBuild(_))) {
                    let message = format!("the stage `{name}` has ONBUILD triggers: not supported yet");
                    errors.push(Diagnostic::error(message).at(stage.from.span));
                }
                Origin::Stage(earlier)
            }
            None if name == "scratch" => Origin::Scratch,
            None => {
                errors.extend(refuse_base(&name, &stage.from, errors.last()));
                Origin::Image(name)
            }
        };
        nodes.push(Node { base, froms: BTreeMap::new() });
        if let Some(name) = &stage.name {
            names.insert(name.value.clone(), index);
        }
    }
    (names, nodes)
}

/// Returns why `name` cannot be what a stage stands on.
fn refuse_base(name: &str, written: &Word, last: Option<&Diagnostic>) -> Option<Diagnostic> {
    if name.trim().is_empty() {
        // The error of the expansion itself was told already.
        let told = last.is_some_and(|error| error.span == Some(written.span));
        return (!told).then(|| {
            Diagnostic::error(format!("`{}` is empty after expansion", written.text))
                .at(written.span)
                .hint("FROM sees the ARGs before the first FROM: is there one, with a default or a --build-arg?")
        });
    }
    name.bytes().all(|b| b.is_ascii_digit()).then(|| {
        Diagnostic::error(format!("`{name}` is neither a stage nor an image"))
            .at(written.span)
            .hint("FROM takes no stage by its number: name the stage with AS")
    })
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

fn resolve_froms(
    index: usize,
    stage: &Stage,
    names: &HashMap<String, usize>,
    nodes: &mut [Node],
    errors: &mut Vec<Diagnostic>,
) {
    for (number, instruction) in stage.instructions.iter().enumerate() {
        let is_mount = matches!(instruction.value, Instruction::Run(_));
        for (mount, from) in froms(&instruction.value) {
            match origin(&from, index, nodes.len(), names) {
                Ok(Origin::Scratch) if !is_mount => {
                    errors.push(Diagnostic::error("there is nothing in `scratch` to copy").at(from.span));
                }
                Ok(origin) => {
                    nodes[index].froms.insert((number, mount), origin);
                }
                Err(error) => errors.push(error),
            }
        }
    }
}

/// Returns what `--from=` in stage `index` means.
fn origin(from: &Word, index: usize, stages: usize, names: &HashMap<String, usize>) -> Result<Origin, Diagnostic> {
    if expand(from, &|_| None, '\\').ok().as_deref() != Some(from.text.as_str()) {
        return Err(Diagnostic::error("`from` takes no variables")
            .at(from.span)
            .hint("name a stage of its own with FROM, which may use the ARGs before it"));
    }
    let stage = if from.text.bytes().all(|b| b.is_ascii_digit()) {
        match from.text.parse::<usize>() {
            Ok(number) if number < stages => Some(number),
            _ => {
                let count = if stages == 1 { "is 1 stage".into() } else { format!("are {stages} stages") };
                return Err(Diagnostic::error(format!("there is no stage {}", from.text))
                    .at(from.span)
                    .hint(format!("there {count}, counted from 0")));
            }
        }
    } else {
        names.get(&from.text.to_lowercase()).copied()
    };
    match stage {
        Some(stage) if stage == index => {
            let error = Diagnostic::error(format!("the stage `{}` copies from itself", from.text)).at(from.span);
            Err(error.hint("an image of that name can be copied from if the stage has another name"))
        }
        Some(stage) => Ok(Origin::Stage(stage)),
        None if from.text == "scratch" => Ok(Origin::Scratch),
        None => Ok(Origin::Image(from.text.clone())),
    }
}

fn find_target(name: &str, names: &HashMap<String, usize>, errors: &mut Vec<Diagnostic>) -> Option<usize> {
    let found = names.get(&name.to_lowercase()).copied();
    if found.is_none() {
        let mut known: Vec<&str> = names.keys().map(String::as_str).collect();
        known.sort_unstable();
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

/// A stage may copy from those before it only. What the target does not need is not looked at, as in BuildKit.
fn refuse_forward_froms(file: &Dockerfile, nodes: &[Node], order: &[usize], errors: &mut Vec<Diagnostic>) {
    for &index in order {
        for (at, origin) in &nodes[index].froms {
            if let Origin::Stage(stage) = origin
                && *stage > index
            {
                let from = written(file, index, *at);
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
fn written(file: &Dockerfile, stage: usize, (number, mount): (usize, usize)) -> Word {
    let froms = froms(&file.stages[stage].instructions[number].value);
    froms.into_iter().find(|(other, _)| *other == mount).map(|(_, from)| from).unwrap_or_default()
}

fn images(file: &Dockerfile, nodes: &[Node], order: &[usize]) -> Vec<ImageUse> {
    let stages: Vec<&str> = file.stages.iter().filter_map(|stage| Some(stage.name.as_ref()?.value.as_str())).collect();
    let mut seen = HashMap::new();
    let mut images = Vec::new();
    for &index in order {
        let base = (&nodes[index].base, file.stages[index].from.span);
        let froms = nodes[index].froms.iter().map(|(at, origin)| (origin, written(file, index, *at).span));
        for (origin, span) in std::iter::once(base).chain(froms) {
            let Origin::Image(name) = origin else { continue };
            if seen.insert(name.clone(), ()).is_none() {
                let hint = (images.len() < MOST_HINTS).then(|| stage_hint(name, &stages)).flatten();
                images.push(ImageUse { name: name.clone(), span, stage_hint: hint });
            }
        }
    }
    images
}

fn stage_hint(name: &str, stages: &[&str]) -> Option<String> {
    let lower = name.to_lowercase();
    if stages.iter().take(1000).any(|stage| *stage == lower) {
        return Some(format!("the stage `{lower}` is defined further down; FROM sees those before it only"));
    }
    did_you_mean(name, stages.iter().copied())
}
