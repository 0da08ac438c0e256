//! What the names behind FROM, `--from` and `from=` mean.

use std::collections::HashMap;

use super::ContextKind;
use super::graph::{Node, Origin};
use crate::dockerfile::{Word, expand};
use crate::oci::{Platform, Reference};
use crate::source::Diagnostic;

/// The names that are known somewhere in the file.
#[derive(Debug)]
pub(super) struct Names {
    /// The number of the stage that each name means.
    stages: HashMap<String, usize>,
    /// Named contexts, by their full name.
    contexts: HashMap<String, (String, ContextKind)>,
}

impl Names {
    pub fn new(contexts: &[(String, ContextKind)]) -> Self {
        let contexts = contexts.iter().map(|(name, kind)| (full(name), (name.clone(), kind.clone()))).collect();
        Names { stages: HashMap::new(), contexts }
    }

    /// Makes `name`, in lower case, that of a stage; of several stages the last one counts.
    pub fn add(&mut self, name: &str, stage: usize) {
        self.stages.insert(name.into(), stage);
    }

    /// Returns the stage that is called `name`, in any case.
    pub fn stage(&self, name: &str) -> Option<usize> {
        self.stages.get(&name.to_lowercase()).copied()
    }

    /// Returns the names of the stages, sorted.
    pub fn stages(&self) -> Vec<&str> {
        let mut names: Vec<&str> = self.stages.keys().map(String::as_str).collect();
        names.sort_unstable();
        names
    }

    /// Returns the named context that is meant by `name`, with the name that it was given.
    pub fn context(&self, name: &str) -> Option<&(String, ContextKind)> {
        // These mean something of their own.
        if self.contexts.is_empty() || name.eq_ignore_ascii_case("scratch") || name.eq_ignore_ascii_case("context") {
            return None;
        }
        self.contexts.get(&full(name))
    }

    /// Returns what a FROM stands on.
    pub fn base(&self, name: &str, written: &Word, platform: &Platform) -> Result<Origin, Diagnostic> {
        if let Some(stage) = self.stage(name) {
            return Ok(Origin::Stage(stage));
        }
        match self.context(name) {
            Some((_, ContextKind::Image(image))) => return Ok(image_of(image, platform)),
            Some((name, ContextKind::Folder)) => return Err(no_base(name, written)),
            None => {}
        }
        if name == "scratch" {
            return Ok(Origin::Scratch);
        }
        if !name.is_empty() && name.bytes().all(|b| b.is_ascii_digit()) {
            return Err(Diagnostic::error(format!("`{name}` is neither a stage nor an image"))
                .at(written.span)
                .hint("FROM takes no stage by its number: name the stage with AS"));
        }
        Ok(image_of(name, platform))
    }

    /// Returns what `from` means in stage `index`, of COPY or of a mount.
    pub fn from(&self, from: &Word, index: usize, nodes: &[Node], platform: &Platform) -> Result<Origin, Diagnostic> {
        if expand(from, &|_| None, '\\').ok().as_deref() != Some(from.text.as_str()) {
            return Err(Diagnostic::error("`from` takes no variables")
                .at(from.span)
                .hint("name a stage of its own with FROM, which may use the ARGs before it"));
        }
        let stage = if from.text.bytes().all(|b| b.is_ascii_digit()) {
            match from.text.parse::<usize>() {
                Ok(number) if number < nodes.len() => Some(number),
                _ => {
                    let stages = nodes.len();
                    let count = if stages == 1 { "is 1 stage".into() } else { format!("are {stages} stages") };
                    return Err(Diagnostic::error(format!("there is no stage {}", from.text))
                        .at(from.span)
                        .hint(format!("there {count}, counted from 0")));
                }
            }
        } else {
            self.stage(&from.text)
        };
        match stage {
            // A named context stands for the stage of its name, everywhere.
            Some(stage) if let Some(folder) = &nodes[stage].folder => Ok(Origin::Folder(folder.clone())),
            Some(stage) if stage == index => {
                let error = Diagnostic::error(format!("the stage `{}` copies from itself", from.text)).at(from.span);
                Err(error.hint("an image of that name can be copied from if the stage has another name"))
            }
            Some(stage) => Ok(Origin::Stage(stage)),
            None => Ok(match self.context(&from.text) {
                Some((name, ContextKind::Folder)) => Origin::Folder(name.clone()),
                Some((_, ContextKind::Image(image))) => image_of(image, platform),
                None if from.text == "scratch" => Origin::Scratch,
                None => image_of(&from.text, platform),
            }),
        }
    }
}

/// Returns the error that a folder cannot be what a stage stands on.
pub(super) fn no_base(name: &str, written: &Word) -> Diagnostic {
    Diagnostic::error(format!("the named context `{name}` is a folder: a stage cannot stand on it"))
        .at(written.span)
        .hint(format!("write FROM scratch, and COPY --from={name} / /"))
}

fn image_of(name: &str, platform: &Platform) -> Origin {
    Origin::Image { name: name.into(), platform: platform.clone() }
}

/// Returns the name under which a context is found: `docker.io/library/busybox:latest` is `busybox`.
fn full(name: &str) -> String {
    let lower = name.to_lowercase();
    let reference = Reference::parse(name).or_else(|_| Reference::parse(&lower));
    reference.map_or(lower, |reference| reference.to_string())
}
