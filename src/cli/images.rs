//! `coracle images`, `tag`, `untag` and `rmi`: names in the store.

use std::collections::BTreeSet;
use std::process::ExitCode;

use oci_spec::image::Descriptor;
use serde_json::{Value, json};

use super::args::{Filter, SortKey};
use super::classify::ImageProblem;
use super::report::{Failure, chain};
use super::request::{Form, ImagesRequest, RmiRequest, TagRequest, UntagRequest};
use super::table::Table;
use super::{names, print, say, text};
use crate::oci::{ImageError, Parts, Platform, Reference, digest_of, os_platform};
use crate::store::{Image, Store, StoreError, TaggedImage};

/// An image or an index, as the list shows it.
struct Row {
    /// In full; `None` where it has none.
    name: Option<String>,
    descriptor: Descriptor,
    /// For this platform, else any of an index.
    image: Option<Image>,
    platforms: Vec<String>,
    size: u64,
    damaged: Option<String>,
}

/// Lists the images.
pub(super) fn images(request: &ImagesRequest) -> Result<ExitCode, Failure> {
    let store = Store::open_read(&request.root)?;
    let filters = Filters::new(&request.filters, &store)?;
    let mut rows = Vec::new();
    let named = store.images()?.into_iter().map(|tagged| (Some(tagged.name), tagged.descriptor));
    let unnamed = if request.unnamed || filters.wants_unnamed() { store.unnamed()? } else { Vec::new() };
    for (name, descriptor) in named.chain(unnamed.into_iter().map(|descriptor| (None, descriptor))) {
        let row = look(&store, name, descriptor);
        let fits = request.pattern.as_deref().is_none_or(|pattern| row.matches(pattern));
        if fits && filters.let_through(&row) {
            rows.push(row);
        }
    }
    sort(&mut rows, request.sort);
    for row in &rows {
        // One bad image must not hide the others.
        if let Some(why) = &row.damaged {
            say(&format!("warning: {}: {why}\n", text::visible(&row.familiar())));
        }
    }
    let text = match &request.form {
        Form::Table => rendered(table(&rows, request.full), request),
        Form::Ids => {
            let mut seen = BTreeSet::new();
            let ids = rows.iter().map(|row| row.descriptor.digest().to_string());
            ids.filter(|id| seen.insert(id.clone())).map(|id| format!("{id}\n")).collect()
        }
        Form::Json => {
            let list: Vec<Value> = rows.iter().map(Row::json).collect();
            serde_json::to_string_pretty(&list).expect("strings and numbers always serialise") + "\n"
        }
        Form::Template(template) => {
            let mut text = String::new();
            for row in &rows {
                text += &template.render(&row.fields())?;
                text.push('\n');
            }
            text
        }
        Form::TemplateTable(template) => {
            let lines = rows.iter().map(|row| template.render(&row.fields())).collect::<Result<Vec<_>, _>>()?;
            rendered(Table::of_lines(std::iter::once(template.head()).chain(lines)), request)
        }
    };
    print(&text).map(|()| ExitCode::SUCCESS)
}

fn rendered(table: Table, request: &ImagesRequest) -> String {
    if request.headless { table.without_head().render() } else { table.render() }
}

/// Sorts what is listed; what is equal stays in the order of names.
fn sort(rows: &mut [Row], key: SortKey) {
    let parts = |row: &Row| {
        let reference = row.name.as_deref().and_then(|name| Reference::parse(name).ok());
        let tag = reference.as_ref().and_then(|name| name.tag().map(str::to_owned));
        (row.name.is_none(), reference.map(|name| name.name()), tag)
    };
    match key {
        SortKey::Name => rows.sort_by_key(|row| (row.name.is_none(), row.name.clone())),
        SortKey::Created => {
            let time = |row: &Row| row.created().parse::<jiff::Timestamp>().map_or(0, jiff::Timestamp::as_second);
            rows.sort_by_key(|row| std::cmp::Reverse(time(row)));
        }
        SortKey::Repository => rows.sort_by_key(parts),
        SortKey::Tag => rows.sort_by_key(|row| parts(row).2.map_or((true, String::new()), |tag| (false, tag))),
        SortKey::Id => rows.sort_by_key(|row| row.descriptor.digest().to_string()),
        SortKey::Size => rows.sort_by_key(|row| std::cmp::Reverse(row.size)),
    }
}

fn table(rows: &[Row], full: bool) -> Table {
    let mut table = Table::new(["NAME", "DIGEST", "CREATED", "SIZE", "PLATFORMS"]);
    let several = rows.iter().any(|row| row.platforms.len() > 1);
    if !several {
        table = Table::new(["NAME", "DIGEST", "CREATED", "SIZE"]);
    }
    for row in rows {
        let digest = row.descriptor.digest().to_string();
        let digest = if full { digest } else { digest.chars().skip("sha256:".len()).take(12).collect() };
        let name = if row.name.is_some() { row.familiar() } else { "<none>".into() };
        if row.damaged.is_some() {
            table.row([name, digest, "damaged".into(), String::new(), String::new()]);
            continue;
        }
        let age = text::ago(&row.created(), jiff::Timestamp::now());
        table.row([name, digest, age, text::size(row.size), row.platforms.join(", ")]);
    }
    table
}

/// Reads what the store knows about an image or an index.
fn look(store: &Store, name: Option<String>, descriptor: Descriptor) -> Row {
    let mut row = Row { name, descriptor, image: None, platforms: Vec::new(), size: 0, damaged: None };
    if let Err(error) = row.read(store) {
        row.damaged = Some(chain(&error));
    }
    row
}

impl Row {
    fn read(&mut self, store: &Store) -> Result<(), StoreError> {
        let image = match store.image(&self.descriptor) {
            Ok(image) => Some(image),
            Err(StoreError::Image(ImageError::Platform { .. })) => None,
            Err(error) => return Err(error),
        };
        let bytes = store.read_blob(&digest_of(&self.descriptor)?, crate::oci::MAX_DOCUMENT)?;
        let parts = Parts::parse(&bytes, Some(self.descriptor.media_type().as_ref()), "manifest")?;
        let mut blobs = BTreeSet::new();
        let mut add = |parts: &Parts| {
            for layer in &parts.layers {
                if blobs.insert(layer.digest().to_string()) {
                    self.size += layer.size();
                }
            }
        };
        match &parts.children {
            None => {
                add(&parts);
                self.platforms.extend(image.as_ref().map(|image| image.config.platform.to_string()));
            }
            Some(children) => {
                for child in children {
                    let platform = os_platform(child).filter(|platform| platform.os != "unknown");
                    self.platforms.extend(platform.iter().map(Platform::to_string));
                    let bytes = digest_of(child).ok().and_then(|d| store.read_blob(&d, crate::oci::MAX_DOCUMENT).ok());
                    if let Some(Ok(parts)) = bytes.map(|bytes| Parts::parse(&bytes, None, "manifest")) {
                        add(&parts);
                    }
                }
            }
        }
        self.image = match (image, &parts.children) {
            (Some(image), _) => Some(image),
            // Of another platform, but better than nothing to say.
            (None, Some(children)) => {
                let other = children.iter().filter_map(os_platform).find(|platform| platform.os != "unknown");
                other.and_then(|platform| store.image_for(&self.descriptor, &platform).ok())
            }
            (None, None) => None,
        };
        Ok(())
    }

    /// Returns the short form of the name, as people write it.
    fn familiar(&self) -> String {
        let name = self.name.as_deref().unwrap_or_default();
        Reference::parse(name).map_or_else(|_| name.to_owned(), |name| name.familiar())
    }

    fn created(&self) -> String {
        self.image.as_ref().and_then(|image| image.config.created.clone()).unwrap_or_default()
    }

    fn labels(&self) -> Value {
        let labels = self.image.as_ref().map(|image| serde_json::to_value(&image.config.config.labels));
        labels.and_then(Result::ok).unwrap_or_default()
    }

    /// What other programs read: a change of it changes them.
    fn json(&self) -> Value {
        let digest = self.descriptor.digest().to_string();
        if let Some(why) = &self.damaged {
            return json!({"name": self.name, "digest": digest, "damaged": why});
        }
        let image = self.image.as_ref();
        json!({
            "name": self.name,
            "digest": digest,
            "config": image.map(Image::config_digest),
            "platform": image.map(|image| image.config.platform.to_string()),
            "platforms": self.platforms,
            "media_type": self.descriptor.media_type().to_string(),
            "created": image.and_then(|image| image.config.created.clone()),
            "labels": self.labels(),
            "size": self.size,
        })
    }

    /// What templates use: docker's words.
    fn fields(&self) -> Value {
        let reference = self.name.as_deref().and_then(|name| Reference::parse(name).ok());
        let tag = reference.as_ref().and_then(|name| name.tag().map(str::to_owned));
        let short = reference.as_ref().map(|name| match name.tag() {
            Some(tag) => name.familiar().trim_end_matches(&format!(":{tag}")).to_owned(),
            None => name.familiar(),
        });
        let created = self.created();
        json!({
            "Name": self.familiar(),
            "Repository": short.unwrap_or_else(|| "<none>".into()),
            "Tag": tag.unwrap_or_else(|| "<none>".into()),
            "Digest": self.descriptor.digest().to_string(),
            "ID": self.image.as_ref().map(|image| image.config_digest().to_string()),
            "Platform": self.image.as_ref().map(|image| image.config.platform.to_string()),
            "Platforms": self.platforms,
            "Created": created,
            "CreatedAt": created,
            "CreatedSince": text::ago(&created, jiff::Timestamp::now()),
            "Size": text::size(self.size),
            "Labels": self.labels(),
            "MediaType": self.descriptor.media_type().to_string(),
        })
    }

    /// Returns whether the name, in full or short, with or without its tag, fits to `pattern`.
    fn matches(&self, pattern: &str) -> bool {
        let Some(name) = &self.name else { return false };
        let mut forms = vec![name.clone(), self.familiar()];
        for form in forms.clone() {
            if let Some((name, tag)) = form.rsplit_once(':')
                && !tag.contains('/')
            {
                forms.push(name.to_owned());
            }
        }
        forms.iter().any(|form| wildcard(pattern.as_bytes(), form.as_bytes()))
    }
}

/// Returns whether `text` fits to `pattern`, in which `*` is anything and `?` one byte.
fn wildcard(pattern: &[u8], text: &[u8]) -> bool {
    let (mut p, mut t, mut back) = (0, 0, None);
    while t < text.len() {
        match pattern.get(p) {
            Some(b'*') => {
                back = Some((p + 1, t));
                p += 1;
            }
            Some(letter) if *letter == b'?' || *letter == text[t] => {
                p += 1;
                t += 1;
            }
            _ => match back {
                Some((after, from)) => {
                    back = Some((after, from + 1));
                    (p, t) = (after, from + 1);
                }
                None => return false,
            },
        }
    }
    pattern[p..].iter().all(|letter| *letter == b'*')
}

/// Conditions on images, all of which must hold.
struct Filters(Vec<Condition>);

enum Condition {
    Dangling(bool),
    Label { key: String, value: Option<String>, wanted: bool },
    Reference { pattern: String, wanted: bool },
    Before(i64),
    Since(i64),
}

impl Filters {
    fn new(filters: &[Filter], store: &Store) -> Result<Self, Failure> {
        let mut found = Vec::new();
        for Filter { key, value, negated } in filters {
            let wrong = |why| ImageProblem::FilterValue { key: key.clone(), value: value.clone(), why };
            let of = |name: &str| -> Result<i64, Failure> {
                let created = names::find(store, name)?.config.created.unwrap_or_default();
                Ok(created.parse::<jiff::Timestamp>().map_or(0, jiff::Timestamp::as_second))
            };
            found.push(match (key.as_str(), negated) {
                ("dangling", false) => Condition::Dangling(match value.as_str() {
                    "true" | "1" => true,
                    "false" | "0" => false,
                    _ => return Err(wrong("it is true or false").into()),
                }),
                ("label", negated) => {
                    let (key, value) = value.split_once('=').map_or((value.as_str(), None), |(k, v)| (k, Some(v)));
                    Condition::Label { key: key.into(), value: value.map(str::to_owned), wanted: !negated }
                }
                ("reference", negated) => Condition::Reference { pattern: value.clone(), wanted: !negated },
                ("before", false) => Condition::Before(of(value)?),
                ("since" | "after", false) => Condition::Since(of(value)?),
                ("until", false) => {
                    let when = text::moment(value, jiff::Timestamp::now());
                    Condition::Before(
                        when.ok_or_else(|| wrong("it is a time, or a duration as 24h or 7d"))?.as_second(),
                    )
                }
                _ => return Err(ImageProblem::Filter { key: key.clone() }.into()),
            });
        }
        Ok(Filters(found))
    }

    fn wants_unnamed(&self) -> bool {
        self.0.iter().any(|condition| matches!(condition, Condition::Dangling(true)))
    }

    fn let_through(&self, row: &Row) -> bool {
        let created = row.created().parse::<jiff::Timestamp>().map_or(0, jiff::Timestamp::as_second);
        self.0.iter().all(|condition| match condition {
            Condition::Dangling(wanted) => row.name.is_none() == *wanted,
            Condition::Label { key, value, wanted } => {
                let labels = row.labels();
                let found = labels.get(key).and_then(Value::as_str);
                let fits = found.is_some_and(|found| value.as_deref().is_none_or(|value| value == found));
                fits == *wanted
            }
            Condition::Reference { pattern, wanted } => row.matches(pattern) == *wanted,
            Condition::Before(time) => created < *time,
            Condition::Since(time) => created > *time,
        })
    }
}

/// Gives an image more names.
pub(super) fn tag(request: &TagRequest) -> Result<ExitCode, Failure> {
    let new = names::normalised(&request.new)?;
    let store = Store::open(&request.root)?;
    let descriptor = names::descriptor(&store, &request.name)?;
    // An entry of index.json says the platform of an image, and the name goes with it.
    let descriptor = store
        .image(&descriptor)
        .ok()
        .filter(|image| is(&descriptor, image))
        .map_or(descriptor, |image| image.descriptor());
    store.tag(&new, &descriptor)?;
    Ok(ExitCode::SUCCESS)
}

fn is(descriptor: &Descriptor, image: &Image) -> bool {
    digest_of(descriptor).is_ok_and(|digest| digest == image.digest)
}

/// Takes names from images: all of them, or none.
pub(super) fn untag(request: &UntagRequest) -> Result<ExitCode, Failure> {
    let store = Store::open(&request.root)?;
    let tagged = store.images()?;
    let mut removed = Vec::new();
    for name in &request.names {
        removed.push(exact(&tagged, name).ok_or_else(|| super::classify::NoImage { name: name.clone() })?);
    }
    remove(&store, &removed)
}

/// Removes names: all of them, or none.
pub(super) fn rmi(request: &RmiRequest) -> Result<ExitCode, Failure> {
    let store = Store::open(&request.root)?;
    let tagged = store.images()?;
    let mut removed: Vec<String> = Vec::new();
    let Some(wanted) = &request.names else {
        return remove(&store, &tagged.into_iter().map(|tagged| tagged.name).collect::<Vec<_>>());
    };
    for name in wanted {
        // A name goes even where its image is damaged: only a digest must be looked up.
        if let Some(name) = exact(&tagged, name) {
            removed.push(name);
            continue;
        }
        let descriptor = match names::descriptor(&store, name) {
            Err(_) if request.ignore => continue,
            other => other?,
        };
        let same = |tagged: &&TaggedImage| tagged.descriptor.digest() == descriptor.digest();
        removed.extend(tagged.iter().filter(same).map(|tagged| tagged.name.clone()));
    }
    remove(&store, &removed)
}

/// Returns the name in full, if an image has it.
fn exact(tagged: &[TaggedImage], name: &str) -> Option<String> {
    let full = names::normalise(name).ok();
    let found = tagged.iter().find(|tagged| full.as_ref() == Some(&tagged.name) || tagged.name == *name);
    found.map(|tagged| tagged.name.clone())
}

fn remove(store: &Store, removed: &[String]) -> Result<ExitCode, Failure> {
    for name in removed {
        if store.untag(name)? {
            print(&format!("{name}\n"))?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wildcards() {
        for (pattern, text, fits) in [
            ("web", "web", true),
            ("we*", "web:1", true),
            ("*b:?", "web:1", true),
            ("*", "", true),
            ("", "", true),
            ("w?", "web", false),
            ("*x*", "web", false),
            ("a*b*c", "aXbYbZc", true),
            ("web", "web:1", false),
        ] {
            assert_eq!(wildcard(pattern.as_bytes(), text.as_bytes()), fits, "{pattern} {text}");
        }
    }
}
