//! `coracle images`, `tag` and `rmi`: names in the store.

use std::collections::BTreeSet;
use std::process::ExitCode;

use serde_json::json;

use super::report::{Failure, chain};
use super::request::{Form, ImagesRequest, RmiRequest, TagRequest};
use super::table::Table;
use super::{names, print, say, text};
use crate::oci::{Reference, digest_of};
use crate::store::{Store, TaggedImage};

/// Lists the images that have a name.
pub(super) fn images(request: &ImagesRequest) -> Result<ExitCode, Failure> {
    let store = Store::open_read(&request.root)?;
    let mut table = Table::new(["NAME", "DIGEST", "CREATED", "SIZE"]);
    let (mut list, mut ids) = (Vec::new(), Vec::new());
    for tagged in store.images()? {
        let image = match store.image(&tagged.descriptor) {
            Ok(image) => image,
            // One bad image must not hide the others.
            Err(error) => {
                let why = chain(&error);
                say(&format!("warning: {}: {why}\n", text::visible(&familiar(&tagged.name))));
                let digest = tagged.descriptor.digest().to_string();
                let short: String = digest.chars().skip("sha256:".len()).take(12).collect();
                table.row([familiar(&tagged.name), short, "damaged".into(), String::new()]);
                list.push(json!({"name": tagged.name, "digest": digest, "damaged": why}));
                ids.push(digest);
                continue;
            }
        };
        let size: u64 = image.layers().iter().map(|layer| layer.size).sum();
        let created = image.config.created.clone().unwrap_or_default();
        let short: String = image.digest.hex().chars().take(12).collect();
        let age = text::ago(&created, jiff::Timestamp::now());
        table.row([familiar(&tagged.name), short, age, text::size(size)]);
        ids.push(image.digest.to_string());
        list.push(json!({
            "name": tagged.name,
            "digest": image.digest,
            "config": image.config_digest(),
            "platform": image.config.platform.to_string(),
            "created": image.config.created,
            "size": size,
        }));
    }
    let mut seen = BTreeSet::new();
    ids.retain(|id| seen.insert(id.clone()));
    let text = match request.form {
        Form::Table => table.render(),
        Form::Ids => ids.iter().map(|id| format!("{id}\n")).collect(),
        Form::Json => serde_json::to_string_pretty(&list).expect("strings and numbers always serialise") + "\n",
    };
    print(&text).map(|()| ExitCode::SUCCESS)
}

/// Returns the short form of a name, as people write it.
fn familiar(name: &str) -> String {
    Reference::parse(name).map_or_else(|_| name.to_owned(), |name| name.familiar())
}

/// Gives an image one more name.
pub(super) fn tag(request: &TagRequest) -> Result<ExitCode, Failure> {
    let new = names::normalised(std::slice::from_ref(&request.new))?;
    let store = Store::open(&request.root)?;
    let image = names::find(&store, &request.name)?;
    store.tag(&new, &image.descriptor())?;
    Ok(ExitCode::SUCCESS)
}

/// Removes names: all of them, or none.
pub(super) fn rmi(request: &RmiRequest) -> Result<ExitCode, Failure> {
    let store = Store::open(&request.root)?;
    let tagged = store.images()?;
    let mut removed: Vec<String> = Vec::new();
    for name in &request.names {
        let full = names::normalise(name).ok();
        let exact = |tagged: &&TaggedImage| full.as_ref() == Some(&tagged.name) || tagged.name == *name;
        // A name goes even where its image is damaged: only a digest must be looked up.
        match tagged.iter().find(exact) {
            Some(tagged) => removed.push(tagged.name.clone()),
            None => {
                let image = names::find(&store, name)?;
                let same = |tagged: &&TaggedImage| digest_of(&tagged.descriptor).is_ok_and(|d| d == image.digest);
                removed.extend(tagged.iter().filter(same).map(|tagged| tagged.name.clone()));
            }
        }
    }
    for name in &removed {
        if store.untag(name)? {
            print(&format!("{name}\n"))?;
        }
    }
    Ok(ExitCode::SUCCESS)
}
