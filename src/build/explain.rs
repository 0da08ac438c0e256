//! Why a step is not in the cache: what its key is made of is kept with each result, without values, and compared with that
//! of the nearest earlier one.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::plan::{Base, Component, CopyFrom, KeyBuilder, Op, Run, Step, components};

use super::CacheUse;
use super::chain::Chain;
use super::copy::Selection;
use super::mounts;
use super::work::{Work, is_independent};

/// Paths of one step that are kept; of more, their directories.
const MOST_PATHS: usize = 2000;

/// Reasons of one kind that are told.
const MOST_TOLD: usize = 10;

/// What the key of a step was made of.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Record {
    /// The keys under which the result is kept.
    pub keys: Vec<String>,
    /// When it was made: seconds since 1970.
    pub made: i64,
    /// The image that the stage stands on: its name, and the digest of its manifest.
    pub base: Option<(String, String)>,
    /// The name of the stack of layers below.
    pub parent: String,
    /// The name of the stack of layers that is copied from.
    pub layers: Option<String>,
    /// What the instruction itself says.
    pub definition: Vec<Component>,
    /// What is read besides: paths, each with a digest of all that counts of it.
    pub content: BTreeMap<String, String>,
    /// Whether these are directories, because there are very many files.
    pub folded: bool,
}

impl Work<'_> {
    /// Returns the name of the place of `step`: its stage, its instruction, and which of those it is in the stage.
    pub fn place_of(&self, step: &Step) -> String {
        let keyword = |step: &Step| step.text.split_whitespace().next().unwrap_or_default().to_ascii_uppercase();
        let wanted = keyword(step);
        let stage = self.plan.stages.iter().find(|stage| stage.steps.iter().any(|other| other.id == step.id));
        let before = stage.map_or(0, |stage| {
            stage.steps.iter().take_while(|other| other.id != step.id).filter(|other| keyword(other) == wanted).count()
        });
        let name = stage.map_or("", |stage| stage.name.as_str());
        let mut key = KeyBuilder::new("why");
        key.field("stage", name).field("instruction", &wanted).field("number", before.to_le_bytes());
        if let Some(platform) = stage.and_then(|stage| stage.shown.as_ref()) {
            key.field("platform", platform);
        }
        key.finish().to_string()[..32].to_owned()
    }

    /// Returns what the key of `step` on the layers `below` is made of.
    pub fn record(&self, step: &Step, below: &Chain, keys: &[String]) -> Record {
        // What --link makes is the same on all layers.
        let alone = Chain::scratch();
        let parent = if matches!(&step.op, Op::Copy(copy) if is_independent(copy)) { &alone } else { below };
        let layers = match &step.op {
            Op::Copy(copy) if !matches!(copy.from, CopyFrom::Context) => {
                self.known_source(&copy.from).map(|chain| chain.identity().to_string())
            }
            _ => None,
        };
        let selected = match &step.op {
            Op::Run(run) => Some(self.mounted(run)),
            _ => self.selected(step).map(|selection| contents(&selection)),
        };
        let (content, folded) = selected.map(folded).unwrap_or_default();
        Record {
            keys: keys.to_vec(),
            made: super::now(),
            base: self.base_image(step),
            parent: parent.identity().to_string(),
            layers,
            definition: components(&step.op),
            content,
            folded,
        }
    }

    /// Returns what the mounts of `run` show of folders, as far as it was looked at; and the names of the layers of others.
    fn mounted(&self, run: &Run) -> BTreeMap<String, String> {
        let mut all = BTreeMap::new();
        for (from, source) in mounts::sources(run) {
            match self.known_source(from) {
                Some(chain) => drop(all.insert(format!("the files for {source}"), chain.identity().to_string())),
                None => {
                    if let Ok(found) = self.gathered(from, source) {
                        all.extend(found.contents());
                    }
                }
            }
        }
        all
    }

    /// Returns the image on which the stage of `step` stands, also below other stages.
    fn base_image(&self, step: &Step) -> Option<(String, String)> {
        let mut stage = self.plan.stages.iter().find(|stage| stage.steps.iter().any(|other| other.id == step.id))?;
        loop {
            match &stage.base {
                Base::Image(name) => return Some((name.clone(), self.bases.get(name)?.digest.to_string())),
                Base::Stage(below) => stage = self.plan.stages.get(*below)?,
                Base::Scratch => return None,
            }
        }
    }

    /// Returns why `step`, of which `now` is what its key is made of, is not in the cache.
    pub fn reasons(&self, step: &Step, now: &Record) -> Vec<String> {
        if self.options.cache.uses == CacheUse::Ignore {
            return vec!["the cache is not used: --no-cache".into()];
        }
        if self.is_excepted(step) {
            return vec!["the cache is not used in this stage: --no-cache-filter".into()];
        }
        let earlier: Vec<Record> = self.store.why(&self.place_of(step));
        let Some(nearest) = nearest(&earlier, now) else {
            return vec!["nothing is known of an earlier result of this step".into()];
        };
        if nearest.keys.iter().any(|key| now.keys.contains(key)) {
            let is_old = self.options.cache.ttl.is_some_and(|ttl| now.made.saturating_sub(nearest.made) > ttl);
            let why = if is_old { "is older than --cache-ttl allows" } else { "is no longer in the store" };
            return vec![format!("its result {why}")];
        }
        let mut reasons = Vec::new();
        if nearest.parent != now.parent {
            reasons.push(self.parent_reason(step, nearest, now));
        }
        reasons.extend(definition_reasons(&nearest.definition, &now.definition));
        reasons.extend(content_reasons(nearest, now));
        if reasons.is_empty() && nearest.layers != now.layers {
            reasons.push("what it copies from has other layers".into());
        }
        if reasons.is_empty() {
            reasons.push("something else changed that its key counts".into());
        }
        reasons
    }

    fn parent_reason(&self, step: &Step, before: &Record, now: &Record) -> String {
        let short = |digest: &str| digest.chars().take(19).collect::<String>();
        match (&before.base, &now.base) {
            (Some((old_name, old)), Some((name, new))) if old != new => {
                let was = if old_name == name { String::new() } else { format!("`{old_name}` ") };
                return format!("the base image `{name}` is another one: {was}{} → {}", short(old), short(new));
            }
            (None, Some((name, _))) => return format!("the base image is `{name}` now; it was none"),
            (Some((name, _)), None) => return format!("the base image is gone: it was `{name}`"),
            _ => {}
        }
        let stage = self.plan.stages.iter().find(|stage| stage.steps.iter().any(|other| other.id == step.id));
        let Some(stage) = stage else { return "the layers below are others".into() };
        let above = stage.steps.iter().take_while(|other| other.id != step.id).filter(|other| other.op != Op::Config);
        match (above.last(), &stage.base) {
            (Some(last), _) => format!("the step above it has another result: {}", clipped(&last.text)),
            (None, Base::Stage(below)) => {
                format!("the stage `{}` below it has another result", self.plan.stages[*below].name)
            }
            (None, _) => "the layers below are others".into(),
        }
    }
}

fn clipped(text: &str) -> String {
    let short: String = text.chars().take(60).collect();
    if short.len() < text.len() { format!("{short}…") } else { short }
}

/// Returns the record that differs least from `now`: of several the latest, which is the first.
fn nearest<'a>(earlier: &'a [Record], now: &Record) -> Option<&'a Record> {
    let distance = |record: &Record| {
        if record.keys.iter().any(|key| now.keys.contains(key)) {
            return 0;
        }
        let parent = usize::from(record.parent != now.parent);
        let definition = differences(&record.definition, &now.definition);
        let paths = record.content.iter().filter(|(path, digest)| now.content.get(*path) != Some(digest)).count();
        let new = now.content.keys().filter(|path| !record.content.contains_key(*path)).count();
        1 + parent + definition + paths + new
    };
    earlier.iter().min_by_key(|record| distance(record))
}

fn differences(before: &[Component], now: &[Component]) -> usize {
    before.iter().filter(|one| !now.contains(one)).count() + now.iter().filter(|one| !before.contains(one)).count()
}

/// What the parts of a definition are called for people.
fn words(tag: &str) -> &str {
    match tag {
        "args" | "script" => "the command",
        "env" => "the order of the variables",
        "cwd" | "path" => "the working directory",
        "user" => "the user",
        "sources" | "from" | "inline" => "what it copies",
        "destination" => "the destination",
        "chown" => "--chown",
        "chmod" => "--chmod",
        "chmod-symbolic" => "--chmod",
        "kinds" => "what it copies",
        "unpack" => "--unpack",
        "checksum" => "--checksum",
        "keep-git-dir" => "--keep-git-dir",
        "link" => "--link",
        "parents" => "--parents",
        "exclude" => "--exclude",
        "network" => "--network",
        "hostname" => "BUILDKIT_SANDBOX_HOSTNAME",
        "owner" => "whom the directory belongs to",
        "mount-variables" => "the variables of mounts",
        "mount-order" => "the order in which mounts are shown",
        tag if tag.starts_with("mount-") => "--mount",
        tag => tag,
    }
}

/// Returns what changed between two definitions.
fn definition_reasons(before: &[Component], now: &[Component]) -> Vec<String> {
    let variables = |list: &[Component]| -> BTreeMap<String, String> {
        let named = list.iter().filter_map(|one| Some((one.name.clone()?, one.digest.clone())));
        named.collect()
    };
    let (old, new) = (variables(before), variables(now));
    let mut reasons = changes(&old, &new, "variable");
    let parts = |list: &[Component]| -> BTreeMap<String, Vec<Component>> {
        let mut tags: BTreeMap<String, Vec<Component>> = BTreeMap::new();
        for one in list {
            // With changed variables, their order is no news.
            if one.name.is_none() || old == new {
                tags.entry(one.tag.clone()).or_default().push(one.clone());
            }
        }
        tags
    };
    let (old, new) = (parts(before), parts(now));
    let tags: std::collections::BTreeSet<&String> = old.keys().chain(new.keys()).collect();
    let changed: std::collections::BTreeSet<&str> =
        tags.into_iter().filter(|tag| old.get(*tag) != new.get(*tag)).map(|tag| words(tag)).collect();
    reasons.extend(changed.into_iter().map(|words| format!("{words} changed")));
    reasons
}

/// Returns what changed in what is read.
fn content_reasons(before: &Record, now: &Record) -> Vec<String> {
    // Of what was not looked at, nothing can be said.
    if before.content.is_empty() || now.content.is_empty() {
        return Vec::new();
    }
    if before.folded != now.folded {
        return vec!["there are many more or many fewer files".into()];
    }
    changes(&before.content, &now.content, if now.folded { "directory" } else { "file" })
}

/// Returns "`what` changed: a, b", "new", "gone".
fn changes(before: &BTreeMap<String, String>, now: &BTreeMap<String, String>, what: &str) -> Vec<String> {
    let changed = now.iter().filter(|(name, digest)| before.get(*name).is_some_and(|old| old != *digest));
    let new = now.keys().filter(|name| !before.contains_key(*name));
    let gone = before.keys().filter(|name| !now.contains_key(*name));
    let told = |words: &str, names: Vec<&String>| {
        let more = names.len().saturating_sub(MOST_TOLD);
        let mut list = names.into_iter().take(MOST_TOLD).map(String::as_str).collect::<Vec<_>>().join(", ");
        if more > 0 {
            list += &format!(" and {more} more");
        }
        (!list.is_empty()).then(|| format!("{what} {words}: {list}"))
    };
    let lists = [
        told("changed", changed.map(|(name, _)| name).collect()),
        told("added", new.collect()),
        told("removed", gone.collect()),
    ];
    lists.into_iter().flatten().collect()
}

/// Returns what is selected: each path with a digest of all that counts of it.
fn contents(selection: &Selection) -> BTreeMap<String, String> {
    let mut all = BTreeMap::new();
    selection.each_content(&mut |path, digest| {
        all.insert(path, digest);
    });
    all
}

/// Returns `all`, or the directories at a depth at which they are few enough.
fn folded(all: BTreeMap<String, String>) -> (BTreeMap<String, String>, bool) {
    if all.len() <= MOST_PATHS {
        return (all, false);
    }
    let deepest = all.keys().map(|path| path.split('/').count()).max().unwrap_or(1);
    for depth in (1..deepest.min(12)).rev() {
        let mut dirs: BTreeMap<String, String> = BTreeMap::new();
        for (path, digest) in &all {
            let parts: Vec<&str> = path.split('/').collect();
            let dir = parts[..depth.min(parts.len() - 1)].join("/") + "/";
            let whole = dirs.entry(dir).or_default();
            *whole = crate::plan::short_digest(format!("{whole} {path} {digest}").as_bytes());
        }
        if dirs.len() <= MOST_PATHS {
            return (dirs, true);
        }
    }
    let whole: String = all.iter().map(|(path, digest)| format!("{path} {digest} ")).collect();
    (BTreeMap::from([("/".to_owned(), crate::plan::short_digest(whole.as_bytes()))]), true)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn part(tag: &str, name: Option<&str>, digest: &str) -> Component {
        Component { tag: tag.into(), name: name.map(str::to_owned), digest: digest.into() }
    }

    fn record(parent: &str, definition: &[Component], content: &[(&str, &str)]) -> Record {
        Record {
            keys: vec![format!("{parent}{}", content.len())],
            made: 0,
            base: None,
            parent: parent.into(),
            layers: None,
            definition: definition.to_vec(),
            content: content.iter().map(|(path, digest)| ((*path).to_owned(), (*digest).to_owned())).collect(),
            folded: false,
        }
    }

    #[test]
    fn the_nearest_record_is_that_with_the_fewest_differences_and_of_those_the_latest() {
        let now = record("p", &[part("args", None, "1")], &[("a", "1"), ("b", "1")]);
        let far = record("q", &[part("args", None, "2")], &[("a", "2"), ("b", "1")]);
        let near = record("p", &[part("args", None, "1")], &[("a", "1"), ("b", "2"), ("c", "1")]);
        let earlier = [far.clone(), near.clone(), far];
        assert_eq!(nearest(&earlier, &now), Some(&near));
        assert_eq!(nearest(&[], &now), None);
    }

    #[test]
    fn variables_are_named_and_fields_have_words() {
        let before = [part("env", Some("A"), "1"), part("env", Some("B"), "1"), part("cwd", None, "1")];
        let now = [part("env", Some("A"), "2"), part("env", Some("C"), "1"), part("cwd", None, "2")];
        assert_eq!(
            definition_reasons(&before, &now),
            ["variable changed: A", "variable added: C", "variable removed: B", "the working directory changed"]
        );
        let swapped = [part("env", Some("B"), "1"), part("env", Some("A"), "1"), part("cwd", None, "1")];
        assert_eq!(definition_reasons(&before, &swapped), ["the order of the variables changed"]);
        assert!(definition_reasons(&before, &before).is_empty());
    }

    #[test]
    fn files_are_named_up_to_a_number() {
        let before = record("p", &[], &[("a", "1"), ("gone", "1")]);
        let names: Vec<String> = (0..20).map(|n| format!("n{n:02}")).collect();
        let mut files: Vec<(&str, &str)> = names.iter().map(|name| (name.as_str(), "1")).collect();
        files.push(("a", "2"));
        let reasons = content_reasons(&before, &record("p", &[], &files));
        assert_eq!(reasons[0], "file changed: a");
        assert!(reasons[1].starts_with("file added: n00, n01") && reasons[1].ends_with(" and 10 more"), "{reasons:?}");
        assert_eq!(reasons[2], "file removed: gone");
    }

    #[test]
    fn of_very_many_files_the_directories_are_kept() {
        let mut all: BTreeMap<String, String> = BTreeMap::new();
        for n in 0..MOST_PATHS * 2 {
            all.insert(format!("src/{}/{n}", n % 50), "1".into());
        }
        let (before, is_folded) = folded(all.clone());
        assert!(is_folded && before.len() == 50, "{}", before.len());
        all.insert("src/7/7".into(), "2".into());
        let (now, _) = folded(all);
        assert_eq!(changes(&before, &now, "directory"), ["directory changed: src/7/"]);
    }
}
