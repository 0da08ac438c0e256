//! What a Dockerfile takes: its targets, and the arguments, secrets, agents and caches of one of them.

use std::collections::BTreeSet;

use super::variables::Walk;
use super::{Graph, ImageConfig, Source, Span, comments};
use crate::dockerfile::{Arg, Dockerfile};

/// What a target takes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Outline {
    /// The name of the target, where it has one.
    pub name: Option<String>,
    /// What a comment says of it.
    pub description: Option<String>,
    /// The ARGs that it uses, in the order of the file, each once.
    pub args: Vec<ArgOutline>,
    /// Its secrets, in the order of the file, each once.
    pub secrets: Vec<SecretOutline>,
    /// Its ssh agents, in the order of the file, each once.
    pub ssh: Vec<SecretOutline>,
    /// Its cache mounts, in the order of the file, each once.
    pub caches: Vec<CacheOutline>,
}

/// An ARG that a target uses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ArgOutline {
    /// Its name.
    pub name: String,
    /// Its value, as far as it is known: from the command line, else its default.
    pub value: Option<String>,
    /// What a comment says of it.
    pub description: Option<String>,
    /// Where it is written.
    pub span: Span,
}

/// A secret or an ssh agent that a target uses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SecretOutline {
    /// Its id.
    pub id: String,
    /// Whether the build fails without it.
    pub required: bool,
    /// Where it is written.
    pub span: Span,
}

/// A cache mount that a target uses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CacheOutline {
    /// Its id.
    pub id: String,
    /// Where it is written.
    pub span: Span,
}

/// A stage as something that can be built.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// Its name, where it has one.
    pub name: Option<String>,
    /// Whether it is what is built where no target is named.
    pub is_default: bool,
    /// What a comment says of it.
    pub description: Option<String>,
    /// What it stands on, as written.
    pub base: String,
    /// The platform of its base, as written.
    pub platform: Option<String>,
    /// Its FROM line.
    pub span: Span,
}

/// Returns the targets of `file`, whose text is `source`, in its order.
pub fn targets(source: &Source, file: &Dockerfile) -> Vec<Target> {
    let last = file.stages.len().saturating_sub(1);
    let target = |(index, stage): (usize, &crate::dockerfile::Stage)| {
        let comments = comments::above(source, stage.span.start);
        let described = |name: &str| comments::description(&comments, name).map(str::to_owned);
        Target {
            name: stage.name.as_ref().map(|name| name.value.clone()),
            is_default: index == last,
            description: stage.name.as_ref().and_then(|name| described(&name.text).or_else(|| described(&name.value))),
            base: stage.from.text.clone(),
            platform: stage.platform.as_ref().map(|platform| platform.text.clone()),
            span: stage.span,
        }
    };
    file.stages.iter().enumerate().map(target).collect()
}

/// Returns what the target of `graph` takes, whose text is `source`. `base` knows the configuration of base images, where
/// they are there.
pub fn outline(source: &Source, graph: &Graph<'_>, base: &dyn Fn(&str) -> Option<ImageConfig>) -> Outline {
    let mut walk = Walk::new(graph, base);
    walk.stages(&graph.order);
    let target = graph.order.last().and_then(|&index| targets(source, graph.file).into_iter().nth(index));
    let (name, description) = target.map(|target| (target.name, target.description)).unwrap_or_default();
    let mut outline = Outline { name, description, ..Outline::default() };
    let mut seen = BTreeSet::new();
    for (arg, value) in walk.args {
        // An ARG of a stage without a default hands on the one before the first FROM.
        let global = arg.default.is_none().then(|| global(graph, &arg.name)).flatten();
        let arg = global.unwrap_or(&arg);
        if seen.insert(arg.name.clone()) {
            outline.args.push(described(source, arg, value));
        }
    }
    for name in used_globals(graph, &walk.from_names, &seen) {
        if let Some(arg) = global(graph, &name).filter(|_| seen.insert(name.clone())) {
            outline.args.push(described(source, arg, graph.globals.get(&name).map(str::to_owned)));
        }
    }
    outline.args.sort_by_key(|arg| arg.span);
    for (text, span) in &walk.mounts {
        mount(text, *span, &mut outline);
    }
    outline
}

fn global<'a>(graph: &Graph<'a>, name: &str) -> Option<&'a Arg> {
    graph.file.global_args.iter().rev().find(|arg| arg.name == name)
}

/// Returns the ARGs before the first FROM that those with `names` or `more` need, too.
fn used_globals(graph: &Graph<'_>, names: &BTreeSet<String>, more: &BTreeSet<String>) -> BTreeSet<String> {
    let mut used = BTreeSet::new();
    let mut open: Vec<String> = names.iter().chain(more).cloned().collect();
    while let Some(name) = open.pop() {
        let Some(arg) = global(graph, &name) else { continue };
        if used.insert(name) {
            let text = arg.default.as_ref().map(|word| word.text.as_str()).unwrap_or_default();
            open.extend(
                graph.file.global_args.iter().filter(|other| text.contains(&other.name)).map(|it| it.name.clone()),
            );
        }
    }
    used
}

fn described(source: &Source, arg: &Arg, value: Option<String>) -> ArgOutline {
    let comments = comments::above(source, arg.span.start);
    let description = comments::description(&comments, &arg.name).map(str::to_owned);
    ArgOutline { name: arg.name.clone(), value, description, span: arg.span }
}

/// Adds the mount with the options `text`. What makes no sense in them is for the build to say.
fn mount(text: &str, span: Span, outline: &mut Outline) {
    let option = |names: &[&str]| {
        text.split(',').find_map(|part| {
            let (name, value) = part.split_once('=').unwrap_or((part, "true"));
            names.contains(&name.trim()).then(|| value.trim().to_owned())
        })
    };
    let target = option(&["target", "dst", "destination"]);
    let required = matches!(option(&["required"]).as_deref(), Some("true" | "1" | "TRUE" | "True" | "t" | "T"));
    let base_name = |path: &String| path.trim_end_matches('/').rsplit('/').next().unwrap_or_default().to_owned();
    match option(&["type"]).as_deref() {
        Some("secret") => {
            if let Some(id) = option(&["id"]).or_else(|| target.as_ref().map(base_name)) {
                add_secret(&mut outline.secrets, id, required, span);
            }
        }
        Some("ssh") => add_secret(&mut outline.ssh, option(&["id"]).unwrap_or("default".into()), required, span),
        Some("cache") => {
            if let Some(id) = option(&["id"]).or(target)
                && outline.caches.iter().all(|cache| cache.id != id)
            {
                outline.caches.push(CacheOutline { id, span });
            }
        }
        _ => {}
    }
}

fn add_secret(list: &mut Vec<SecretOutline>, id: String, required: bool, span: Span) {
    match list.iter_mut().find(|secret| secret.id == id) {
        Some(secret) => secret.required |= required,
        None => list.push(SecretOutline { id, required, span }),
    }
}
